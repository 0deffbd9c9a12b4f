"""Masks for prompts in an image: segment-anything's `SamPredictor` for every SAM."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samseg.common.errors import InputError
from samseg.models.sam.contract import Features, PromptableSam, of_image
from samseg.models.sam.transform import ImageTransform


class SamPredictor:
    """Embeds images once, and answers prompts for what is in them; names and conventions are segment-anything's.

    Examples:
        >>> predictor = samseg.SamPredictor(samseg.build_sam("sam2.1_hiera_tiny.pt"))
        >>> predictor.set_image(image)
        >>> masks, ious, logits = predictor.predict(box=np.array([20, 10, 80, 70]), multimask_output=False)

    Args:
        model: a whole SAM, as `build_sam` gives it.
    """

    def __init__(self, model: PromptableSam):
        self.model = model
        self.shapes: list[tuple[int, int]] = []
        self.features: Features = {}

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def transform(self) -> ImageTransform:
        return self.model.image_transform

    def set_image(self, image: np.ndarray) -> None:
        """Embed an image (H, W, 3) uint8, RGB."""
        self.set_images([image])

    @torch.no_grad()
    def set_images(self, images: Sequence[np.ndarray]) -> None:
        """Embed several images of any sizes, (H, W, 3) uint8 each, in one batch."""
        for image in images:
            check_image(image, "the image")
        squares = torch.stack([self.model.image_transform(image) for image in images])
        self.features = self.model.embed(squares.to(self.device))
        self.shapes = [image.shape[:2] for image in images]

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        *,
        image: int = 0,
        text: None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The masks of one object, or of K objects where the prompts have an axis more.

        Args:
            point_coords: (N, 2) or (K, N, 2) as (x, y) in pixels of the image.
            point_labels: (N,) or (K, N): 1 is on the object, 0 beside it.
            box: (4,) or (K, 4) as (left, top, right, bottom).
            mask_input: logits of an earlier answer, (1, h, w) or (K, 1, h, w).
            multimask_output: three masks, for a prompt that may mean several things.
            return_logits: logits in place of masks.
            image: which of the set images.
            text: what SAM 3's detector takes, which is not here: an InputError says whose it is.

        Returns:
            Masks (M, H, W) bool, their predicted IoUs (M,), and logits (M, h, w) that serve as `mask_input`; each with
            an axis of K in front for K objects.

        Raises:
            InputError: there is no image, or prompts are of other shapes or of different numbers of objects.
        """
        if text is not None:
            raise InputError("text prompts are for SAM 3's detector, which is in its own package, sam3, and not here")
        if (point_coords is None) != (point_labels is None):
            raise InputError("point_coords and point_labels belong together: give both, or neither")
        point_coords = _array("point_coords", point_coords, ("N", 2), ("K", "N", 2))
        if point_coords is not None:
            point_labels = _array("point_labels", point_labels, point_coords.shape[:-1])
        box = _array("box", box, (4,), ("K", 4))
        low = self.model.prompt_encoder.mask_input_size
        mask_input = _array("mask_input", mask_input, (1, *low), ("K", 1, *low))
        to_square, shape = self.transform.apply_coords, self._shape(image)
        answers = self.predict_torch(
            None if point_coords is None else self._tensor(to_square(point_coords, shape), 3),
            None if point_labels is None else self._tensor(point_labels, 2).int(),
            None if box is None else self._tensor(to_square(box.reshape(-1, 2, 2), shape).reshape(-1, 4), 2),
            None if mask_input is None else self._tensor(mask_input, 4),
            multimask_output,
            return_logits,
            image=image,
        )
        several = any(p is not None and p.ndim > n for p, n in ((point_coords, 2), (box, 1), (mask_input, 3)))
        return tuple(part.cpu().numpy() if several else part[0].cpu().numpy() for part in answers)

    @torch.no_grad()
    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        *,
        image: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `predict` for K objects, with tensors on the model's device and pixels of the network's square.

        A few objects are decoded at a time, so that memory grows by the masks alone.
        """
        shape, features = self._shape(image), of_image(self.features, image)
        prompts = (point_coords, point_labels, boxes, mask_input)
        counts = {len(prompt) for prompt in prompts if prompt is not None} or {1}
        if len(counts) > 1:
            raise InputError(f"prompts are of {' and '.join(map(str, sorted(counts)))} objects; give as many of each")
        count = counts.pop()
        masks, ious, logits = [], [], []
        for start in range(0, count, self.model.objects_at_once):
            some = [None if p is None else p[start : start + self.model.objects_at_once] for p in prompts]
            points = None if some[0] is None else (some[0].float(), some[1])
            answers = self.model.decode(features, points, some[2], some[3], multimask_output)
            at_size = self.transform.restore(answers.logits, shape)
            masks.append(at_size if return_logits else at_size > self.model.mask_threshold)
            ious.append(answers.ious)
            most = self.model.largest_logit
            logits.append(answers.logits if most is None else answers.logits.clamp(-most, most))
        return torch.cat(masks), torch.cat(ious), torch.cat(logits)

    def reset_image(self) -> None:
        """Forget the images."""
        self.features, self.shapes = {}, []

    def _shape(self, image: int) -> tuple[int, int]:
        if not self.shapes:
            raise InputError("there is no image to look at: call set_image first")
        return self.shapes[image]

    def _tensor(self, prompt: np.ndarray, axes: int) -> Tensor:
        """On the device, with an axis for objects in front where one is missing."""
        tensor = torch.as_tensor(prompt, dtype=torch.float, device=self.device)
        return tensor if tensor.ndim == axes else tensor[None]


def _array(name: str, given: Any, *shapes: tuple[int | str, ...]) -> np.ndarray | None:
    """A prompt as an array; InputError unless it is of one of ``shapes``, in which a letter is any length."""
    if given is None:
        return None
    try:
        array, found = np.asarray(given, dtype=float), None
    except (TypeError, ValueError):
        array, found = np.empty(()), repr(given)[:40]
    for shape in shapes:
        if len(shape) == array.ndim and all(isinstance(n, str) or n == m for n, m in zip(shape, array.shape)):
            return array
    wanted = " or ".join(f"({', '.join(map(str, shape))})" for shape in shapes)
    raise InputError(f"{name} must be numbers of shape {wanted}, got {found or array.shape}")


def check_image(image: np.ndarray, name: str) -> None:
    """InputError, naming the image, for another array than (H, W, 3) uint8."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"{name} must be an RGB array (H, W, 3) of uint8, got {image.shape} of {image.dtype}")
