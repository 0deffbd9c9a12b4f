"""Prompts as people give them, drawn from true objects: boxes, first points and corrections.

Everything is drawn from torch's global generators. Points are (x, y) and boxes (left, top, right, bottom) in pixels; a
point at (x, y) is the centre of the pixel in column x and row y, a box's right and bottom lie behind its last pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

POSITIVE, NEGATIVE, NO_POINT = 1, 0, -1  # labels, as SAM's prompt encoder knows them
TRIES = 64  # places that are looked at for one where there is no object


def large_enough(objects: Tensor, least: int) -> Tensor:
    """The numbers (N,) of the objects in a map (H, W), 0 for none, that have ``least`` pixels or more, ascending."""
    numbers, pixels = objects.unique(return_counts=True)
    return numbers[(numbers > 0) & (pixels >= least)]


def drawn_objects(objects: Tensor, least: int, most: int | None) -> Tensor:
    """Up to ``most`` (None: all) of the objects that are `large_enough`, in random order."""
    numbers = large_enough(objects, least)
    return numbers[torch.randperm(len(numbers), device=numbers.device)][:most]


def evenly_drawn(objects: Tensor, least: int, most: int | None) -> Tensor:
    """Up to ``most`` (None: all) of the objects that are `large_enough`, the same each time: from the middle of as many
    equal parts of them, since the first and the last, numbered row by row, are often cut off by the image's edge."""
    numbers = large_enough(objects, least)
    if most is None or len(numbers) <= most:
        return numbers
    return numbers[(2 * torch.arange(most, device=numbers.device) + 1) * len(numbers) // (2 * most)]


def boxes_of(masks: Tensor) -> Tensor:
    """The boxes (K, 4) float around masks (K, H, W) bool, each with at least one pixel."""
    edges = []
    for axis in (1, 2):  # rows for left and right, columns for top and bottom
        along = masks.any(axis).int()
        edges += [along.argmax(1), along.shape[1] - along.flip(1).argmax(1)]
    left, right, top, bottom = edges
    return torch.stack([left, top, right, bottom], dim=1).float()


def jittered(boxes: Tensor, share: float, height: int, width: int) -> Tensor:
    """Boxes (K, 4) with each side pushed out by up to ``share`` of their extent, within the image."""
    extent = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    outwards = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=boxes.device)
    pushed = boxes + outwards * share * extent * torch.rand_like(boxes)
    return pushed.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def vacant_boxes(boxes: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """For each of ``boxes`` (K, 4), whole pixels, one of its extent at a random place where there is no object.

    Args:
        boxes: of true objects.
        free: (H, W) bool, where it is known that there is none.

    Returns:
        Boxes (K, 4), and whether all of each is free (K,): of `TRIES` places for each the one that is most so.
    """
    extent, limits = (boxes[:, 2:] - boxes[:, :2]).long(), torch.tensor(free.shape[::-1], device=free.device)
    start = (torch.rand(TRIES, *extent.shape, device=free.device) * (limits - extent + 1)).long()
    (left, top), (right, bottom) = start.unbind(-1), (start + extent).unbind(-1)
    taken = F.pad((~free).int().cumsum(0).cumsum(1), (1, 0, 1, 0))  # above and left of each pixel
    inside = taken[bottom, right] - taken[top, right] - taken[bottom, left] + taken[top, left]
    least, place = inside.min(0)
    return torch.cat([start, start + extent], dim=-1)[place, torch.arange(len(boxes))].float(), least == 0


def random_pixels(regions: Tensor) -> tuple[Tensor, Tensor]:
    """One pixel of each region (K, H, W) bool, all as likely: points (K, 2), and whether there was any (K,)."""
    count = regions.flatten(1).cumsum(1, dtype=torch.int32)
    total = count[:, -1]
    wanted = (torch.rand(len(regions), device=regions.device) * total).int().minimum(total - 1) + 1
    index = torch.searchsorted(count, wanted[:, None].clamp(min=1))[:, 0].clamp(max=count.shape[1] - 1)
    width = regions.shape[2]
    return torch.stack([index % width, index // width], dim=1).float(), total > 0


def rings(masks: Tensor, thickness: int) -> Tensor:
    """The pixels up to ``thickness`` outside of the boxes around masks (K, H, W) bool, within the image."""
    height, width = masks.shape[1:]
    left, top, right, bottom = boxes_of(masks)[:, :, None].unbind(1)  # (K, 1) each
    x, y = (torch.arange(length, device=masks.device) for length in (width, height))

    def within(margin: int) -> Tensor:
        columns, rows = (x >= left - margin) & (x < right + margin), (y >= top - margin) & (y < bottom + margin)
        return rows[:, :, None] & columns[:, None]

    return within(thickness) & ~within(0)


def corrections(truth: Tensor, answer: Tensor, valid: Tensor, ring: int) -> tuple[Tensor, Tensor]:
    """Two points for each object: one where the answer lacks something, and one where it has too much.

    Where nothing is lacking the first is any pixel of the object. Where nothing is too much the second is of the ring
    around the object's box; if there is none within the image, it is no point.

    Args:
        truth, answer: (K, H, W) bool; each object has at least one pixel.
        valid: (H, W) bool, where the truth is known.
        ring: px.

    Returns:
        Points (K, 2, 2) and their labels (K, 2).
    """
    lacking, surplus = truth & ~answer, answer & ~truth & valid
    lacking = torch.where(lacking.flatten(1).any(1)[:, None, None], lacking, truth)
    surplus = torch.where(surplus.flatten(1).any(1)[:, None, None], surplus, rings(truth, ring) & valid)
    positive, _ = random_pixels(lacking)
    negative, found = random_pixels(surplus)
    labels = torch.stack([torch.full_like(found, POSITIVE, dtype=torch.int), torch.where(found, NEGATIVE, NO_POINT)], 1)
    return torch.stack([positive, negative], dim=1), labels


def enlarged_to(logits: Tensor, size: int) -> Tensor:
    """Logits (K, M, h, w) at the network's size (K, M, size, size), as SAM enlarges them."""
    return F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
