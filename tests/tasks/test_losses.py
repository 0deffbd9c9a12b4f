import numpy as np
import pytest
import torch
import torch.nn.functional as F

from samseg.tasks.losses import LossConfig, SegmentationLoss

CLASSES = ["a", "b", "c", "d"]


def loss_of(class_weights=None, class_pixels=None, **weights):
    config = LossConfig(**{"ce": 0.0, "dice": 0.0, "focal": 0.0, "lovasz": 0.0} | weights, class_weights=class_weights)
    return SegmentationLoss(config, CLASSES, class_pixels)


@pytest.fixture
def batch():
    """Logits (3, 4, 9, 7) and masks with ignored pixels, of which class d has none and the last picture is ignored."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(0, 3, (3, 9, 7), generator=generator)
    mask[0, :4] = 255
    mask[1, 2, 3] = 255
    mask[2] = 255
    return torch.randn(3, 4, 9, 7, generator=generator, requires_grad=True), mask


def counted(logits, mask):
    """Probabilities (pixels, classes) and labels (pixels) of the pixels that count, in numpy."""
    probabilities = logits.detach().softmax(1).permute(0, 2, 3, 1).numpy().astype(np.float64)
    keep = mask.numpy() != 255
    return probabilities[keep], mask.numpy()[keep]


def test_cross_entropy_is_the_mean_over_the_pixels_that_count(batch):
    logits, mask = batch
    probabilities, labels = counted(logits, mask)
    expected = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert loss_of(ce=1.0)(logits, mask).item() == pytest.approx(expected, rel=1e-5)


def test_class_weights_by_name_act_as_in_torch(batch):
    logits, mask = batch
    expected = F.cross_entropy(logits, mask, torch.tensor([1.0, 5.0, 1.0, 2.0]), ignore_index=255)
    loss = loss_of(ce=1.0, class_weights={"b": 5, "d": 2})
    assert loss(logits, mask).item() == pytest.approx(expected.item(), rel=1e-5)


def test_balanced_weights_favour_rare_classes(batch):
    weights = loss_of(ce=1.0, class_weights="balanced", class_pixels=[1000, 100, 10, 0]).class_weights
    assert torch.isfinite(weights).all()
    assert weights[0] < weights[1] < weights[2]


def test_focal_is_that_of_the_paper(batch):
    logits, mask = batch
    probabilities, labels = counted(logits, mask)
    p = probabilities[np.arange(len(labels)), labels]
    assert loss_of(focal=1.0)(logits, mask).item() == pytest.approx((-((1 - p) ** 2) * np.log(p)).mean(), rel=1e-5)


def test_dice_counts_the_batch_as_one_picture(batch):
    logits, mask = batch
    probabilities, labels = counted(logits, mask)
    scores = []
    for index in range(len(CLASSES)):
        truth = labels == index
        if truth.any():
            scores.append(1 - 2 * probabilities[truth, index].sum() / (probabilities[:, index].sum() + truth.sum()))
    assert loss_of(dice=1.0)(logits, mask).item() == pytest.approx(sum(scores) / len(CLASSES), rel=1e-4)


def test_lovasz_is_the_extension_of_the_jaccard_loss(batch):
    """By the definition: errors in falling order, each times what its pixel adds to the Jaccard loss of the set."""
    logits, mask = batch
    probabilities, labels = counted(logits, mask)
    losses = []
    for index in np.unique(labels):
        truth = labels == index
        errors = np.abs(truth - probabilities[:, index])
        value, before, wrong = 0.0, 0.0, np.zeros(len(labels), bool)
        for pixel in np.argsort(-errors):
            wrong[pixel] = True
            jaccard_loss = wrong.sum() / (truth | wrong).sum()
            value, before = value + errors[pixel] * (jaccard_loss - before), jaccard_loss
        losses.append(value)
    assert loss_of(lovasz=1.0)(logits, mask).item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_losses_add_up_by_their_weights(batch):
    parts = {name: loss_of(**{name: 1.0})(*batch) for name in ("ce", "dice", "focal", "lovasz")}
    expected = 0.5 * parts["ce"] + 2 * parts["dice"] + 3 * parts["focal"] + parts["lovasz"]
    assert torch.allclose(loss_of(ce=0.5, dice=2.0, focal=3.0, lovasz=1.0)(*batch), expected)


@pytest.mark.parametrize("name", ["ce", "dice", "focal", "lovasz"])
def test_ignored_pixels_change_nothing(batch, name):
    logits, mask = batch
    other = torch.where((mask == 255)[:, None], 50 * torch.randn_like(logits), logits)
    loss = loss_of(**{name: 1.0})
    assert torch.allclose(loss(logits, mask), loss(other, mask), rtol=1e-5)
    loss(logits, mask).backward()
    assert (logits.grad.abs().sum(1) > 0).equal(mask != 255)


@pytest.mark.parametrize("weights", [None, {"a": 3.0}], ids=["plain", "weighted"])
def test_a_batch_without_labels_costs_nothing_and_can_be_stepped_on(batch, weights):
    logits, mask = batch
    loss = loss_of(ce=1.0, dice=1.0, focal=1.0, lovasz=1.0, class_weights=weights)(logits, torch.full_like(mask, 255))
    loss.backward()
    assert loss.shape == () and loss.item() == 0
    assert logits.grad.equal(torch.zeros_like(logits))


@pytest.mark.parametrize("class_weights", [None, {"a": 0.2, "b": 7.0}], ids=["plain", "weighted"])
def test_parts_of_a_batch_have_the_gradient_of_the_whole(batch, class_weights):
    """Although they differ in size and in labelled pixels, and one has none."""
    logits, mask = batch
    loss = loss_of(ce=1.0, focal=0.5, class_weights=class_weights)
    (whole,) = torch.autograd.grad(loss(logits, mask), logits)
    total = loss.pixel_weight(mask)
    parts = [loss(logits[part], mask[part], total, batches=3) for part in (slice(0, 1), slice(1, 2), slice(2, 3))]
    (summed,) = torch.autograd.grad(sum(parts), logits)
    assert torch.allclose(whole, summed, atol=1e-8)


def test_dice_and_lovasz_are_averaged_over_parts(batch):
    logits, mask = batch
    loss = loss_of(dice=1.0, lovasz=1.0)
    parts = [loss(logits[:1], mask[:1]), loss(logits[1:], mask[1:])]
    total = loss.pixel_weight(mask)
    summed = loss(logits[:1], mask[:1], total, batches=2) + loss(logits[1:], mask[1:], total, batches=2)
    assert torch.allclose(summed, sum(parts) / 2)


@pytest.mark.parametrize("name", ["ce", "dice", "focal", "lovasz"])
def test_half_precision_logits_are_summed_in_float32(name):
    """A million pixels: their sum is not to be had in float16, nor their count in bfloat16."""
    logits = torch.zeros(1, 4, 1024, 1024, dtype=torch.float16)
    mask = torch.ones(1, 1024, 1024, dtype=torch.long)
    loss = loss_of(**{name: 1.0})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, mask)
    assert value.dtype == torch.float32
    expected = {"ce": np.log(4), "focal": 0.75**2 * np.log(4), "dice": (1 - 0.5 / 1.25) / 4, "lovasz": 0.75}[name]
    assert value.item() == pytest.approx(expected, rel=1e-3)
