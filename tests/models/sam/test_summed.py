"""Sums of losses, against what autograd makes of the whole."""

import torch

from samseg.models.sam.summed import summed


def test_the_gradients_of_a_sum():
    generator = torch.Generator().manual_seed(0)
    x, fixed, weight, unused = (torch.randn(4, 3, generator=generator) for _ in range(4))
    learnt = [tensor.requires_grad_() for tensor in (x, weight, unused)]

    def losses(x, fixed):
        for i in range(4):
            yield (x[i] * weight).exp().sum() + fixed.sum()

    def gradients(total):
        return total, *torch.autograd.grad(3 * (2 * total).square(), learnt, allow_unused=True)

    ours = gradients(summed(losses, (2 * x, fixed), (weight, unused)))
    theirs = gradients(sum(losses(2 * x, fixed)))
    torch.testing.assert_close(ours[:3], theirs[:3])
    assert theirs[3] is None and not ours[3].any()
    with torch.no_grad():
        assert torch.equal(summed(losses, (2 * x, fixed), (weight,)), sum(losses(2 * x, fixed)))
