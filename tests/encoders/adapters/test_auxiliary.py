import torch

from samseg.encoders.adapters.auxiliary import add_auxiliary_loss, auxiliary_losses


def test_losses_are_collected_inside_and_nowhere_else():
    add_auxiliary_loss(torch.tensor(1.0))
    with auxiliary_losses() as outer:
        add_auxiliary_loss(torch.tensor(2.0))
        with auxiliary_losses() as inner:
            add_auxiliary_loss(torch.tensor(3.0))
        add_auxiliary_loss(torch.tensor(4.0))
    add_auxiliary_loss(torch.tensor(5.0))
    assert outer == [torch.tensor(2.0), torch.tensor(4.0)] and inner == [torch.tensor(3.0)]
