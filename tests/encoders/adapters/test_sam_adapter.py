"""SAM-Adapter against its description, written out with numpy's shifted spectrum."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import samseg
from samseg.encoders.adapters.insert import adapter_parameters
from samseg.encoders.adapters.sam_adapter import high_frequencies
from samseg.encoders.positions import resampled
from tests.encoders.adapters.conftest import picture, small_model


def expected_frequencies(image: np.ndarray, ratio: float) -> np.ndarray:
    """One channel (H, W): the middle of its shifted spectrum set to zero, a share sqrt(ratio) of each side."""
    height, width = image.shape
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    rows, columns = int(height * ratio**0.5 // 2), int(width * ratio**0.5 // 2)
    middle_row, middle_column = height // 2, width // 2
    spectrum[middle_row - rows : middle_row + rows, middle_column - columns : middle_column + columns] = 0
    return np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)).real)


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (48, 80), (160, 16), (33, 47)])
@pytest.mark.parametrize("ratio", [0.25, 0.1, 0.9])
def test_the_high_frequencies_are_those_outside_the_middle_of_the_spectrum(size, ratio):
    images = torch.randn(2, 3, *size)
    found = high_frequencies(images, ratio)
    for band, answer in zip(images.flatten(0, 1), found.flatten(0, 1)):
        np.testing.assert_allclose(answer.numpy(), expected_frequencies(band.numpy(), ratio), atol=1e-5)


@pytest.mark.parametrize("reduction", [4, 32])
def test_adds_to_each_blocks_input_by_the_formula(reduction):
    adapted = small_model("sam_adapter", moved=True, reduction=reduction).encoder.trunk
    plain, adapter, image = small_model().encoder.trunk, adapted.adapter, picture()
    high = np.stack([[expected_frequencies(band, 0.25) for band in one] for one in image.numpy()])
    patches = torch.from_numpy(high).float().reshape(2, 3, 4, 16, 6, 16).permute(0, 2, 4, 1, 3, 5).flatten(3)
    x = plain.patch_embed(image)
    hidden = patches @ adapter.detail.weight.flatten(1).T + adapter.detail.bias
    hidden = hidden + x @ adapter.embedding.weight.T + adapter.embedding.bias
    assert hidden.shape[-1] == 32 // reduction
    x = x + resampled(plain.pos_embed, 4, 6)
    taps = []
    for i, block in enumerate(plain.blocks):
        tune = adapter.tune[str(i)]
        x = block(x + F.gelu(hidden @ tune.weight.T + tune.bias) @ adapter.up.weight.T + adapter.up.bias)
        if i > 0:
            taps.append(x.permute(0, 3, 1, 2))
    for found, wanted in zip(adapted(image), taps):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_everything_learns_from_the_second_step_on():
    """The shared layer is zero at first and stands between the loss and all others, which wait for one step of it."""
    model = small_model("sam_adapter").train()
    adapter = model.encoder.trunk.adapter
    model(picture()).square().mean().backward()
    waiting = {name for name, p in adapter.named_parameters() if not p.grad.any()}
    assert waiting == {name for name, _ in adapter.named_parameters() if not name.startswith("up.")}
    torch.optim.AdamW(adapter_parameters(model), lr=1e-3).step()
    model.zero_grad()
    model(picture()).square().mean().backward()
    assert all(p.grad.any() for p in adapter.parameters())


def test_images_of_other_bands_are_looked_at_too():
    model = samseg.create_model("fpn", "sam-vit_small", None, in_channels=5, classes=2)
    samseg.add_adapter(model, "sam_adapter")
    assert model(torch.randn(1, 5, 64, 32)).shape == (1, 2, 64, 32)
