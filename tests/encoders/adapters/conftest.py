"""A small SAM encoder whose adapters were moved away from the identity."""

import pytest
import torch

import samseg
from samseg.encoders.adapters.insert import METHODS, adapter_parameters
from tests.encoders.conftest import SMALL


def small_model(adapter: str | None = None, moved: bool = False, **arguments) -> torch.nn.Module:
    """An FPN on the small encoder, in evaluation mode, the same at every call; `moved`: its adapter adds something."""
    torch.manual_seed(0)
    model = samseg.create_model("fpn", SMALL, None, classes=2, decoder_dropout=0.0).eval()
    if adapter is None:
        samseg.freeze_encoder(model)
    else:
        samseg.add_adapter(model, adapter, **arguments)
    if moved:
        with torch.no_grad():
            for parameter in adapter_parameters(model):
                parameter.normal_(std=0.1)
    return model


def picture(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=list(METHODS))
def method(request) -> str:
    return request.param
