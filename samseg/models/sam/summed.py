"""A sum of losses whose gradients are taken as they come, so that the graph of one of them is in memory at a time."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def summed(
    losses: Callable[..., Iterator[Tensor]], inputs: Sequence[Tensor], parameters: Sequence[Tensor] = ()
) -> Tensor:
    """The sum of the scalars that ``losses(*inputs)`` yields; its gradients are ready when it returns.

    Nothing is computed twice, as it would be with checkpoints, and the backward pass only scales. The gradients are
    those of the sum, but for the order of their additions.

    Args:
        losses: gives what depends on the inputs it is called with, and on the parameters.
        inputs, parameters: what there are gradients for.
    """
    if not torch.is_grad_enabled():
        return sum(losses(*inputs))
    return _Summed.apply(losses, len(inputs), *inputs, *parameters)


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, losses: Callable[..., Iterator[Tensor]], count: int, *given: Tensor) -> Tensor:
        inputs = [x.detach().requires_grad_(x.requires_grad) for x in given[:count]]
        wanted = [x for x in (*inputs, *given[count:]) if x.requires_grad]
        total, gradients = torch.zeros((), device=given[0].device), [torch.zeros_like(x) for x in wanted]
        with torch.enable_grad():
            for loss in losses(*inputs):
                total += loss.detach()
                for gradient, part in zip(gradients, torch.autograd.grad(loss, wanted, allow_unused=True), strict=True):
                    if part is not None:
                        gradient += part
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_total: Tensor) -> tuple[Tensor | None, ...]:
        gradients = iter(ctx.saved_tensors)
        return None, None, *(d_total * next(gradients) if wanted else None for wanted in ctx.needs_input_grad[2:])
