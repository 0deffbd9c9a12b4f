"""What a scene is painted on: colour, height above ground and class of every point, in metres."""

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

BACKGROUND, ROAD, BUILDING, TREE = range(4)

Box: TypeAlias = tuple[slice, slice]  # rows, columns


@dataclass
class Frame:
    """A rectangle of the canvas, and where its points lie in an object's own axes."""

    at: Box
    u: np.ndarray  # (h, w) float32, metres along the object's axis
    v: np.ndarray  # (h, w) float32, metres across it


class Axes:
    """Axes through ``centre`` (x, y), turned by ``angle`` (radians): things are laid out along them, in metres."""

    def __init__(self, centre, angle: float):
        self.centre, self.angle = np.asarray(centre, float), angle
        self.u, self.v = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])

    def at(self, u: float, v: float) -> np.ndarray:
        return self.centre + u * self.u + v * self.v

    def shifted(self, u: float, v: float) -> "Axes":
        return Axes(self.at(u, v), self.angle)


class Canvas:
    """A square of ground seen from straight above. x runs right, y down, in metres from the upper left corner.

    ``albedo`` (N, N, 3) float32 is the sRGB colour under full light, ``height`` (N, N) float32 is in metres,
    ``classes`` (N, N) uint8; ``taken`` (N, N) bool marks where nothing more may be built.
    """

    def __init__(self, side_px: int, px_per_m: float, rng: np.random.Generator):
        self.px_per_m, self.rng = px_per_m, rng
        self.side_px, self.side_m = side_px, side_px / px_per_m
        self.everywhere = (slice(0, side_px), slice(0, side_px))
        self.albedo = np.zeros((side_px, side_px, 3), np.float32)
        self.height = np.zeros((side_px, side_px), np.float32)
        self.classes = np.full((side_px, side_px), BACKGROUND, np.uint8)
        self.taken = np.zeros((side_px, side_px), bool)
        # Noise is drawn once, larger than the canvas; `texture` takes another piece of it for each object.
        self._noise = {
            name: _fractal_noise(rng, side_px + 384, cell_m * px_per_m, octaves)
            for name, cell_m, octaves in (("grain", 0.6, 3), ("clump", 1.3, 3), ("mottle", 4.0, 4), ("drift", 28.0, 4))
        }

    @property
    def centre(self) -> np.ndarray:
        return np.array([self.side_m / 2, self.side_m / 2])

    def frame(self, centre, angle: float, half_u: float, half_v: float) -> Frame | None:
        """Axes at ``centre`` turned by ``angle`` (radians), cut to a box that holds |u| <= half_u and |v| <= half_v."""
        x, y = centre
        cos, sin = np.cos(angle), np.sin(angle)
        reach_x = abs(cos) * half_u + abs(sin) * half_v
        reach_y = abs(sin) * half_u + abs(cos) * half_v
        columns = self._span(x - reach_x, x + reach_x)
        rows = self._span(y - reach_y, y + reach_y)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        dx = ((np.arange(columns.start, columns.stop) + 0.5) / self.px_per_m - x).astype(np.float32)[None, :]
        dy = ((np.arange(rows.start, rows.stop) + 0.5) / self.px_per_m - y).astype(np.float32)[:, None]
        cos, sin = np.float32(cos), np.float32(sin)
        return Frame((rows, columns), dx * cos + dy * sin, dy * cos - dx * sin)

    def _span(self, low_m: float, high_m: float) -> slice:
        low, high = int(np.floor(low_m * self.px_per_m)), int(np.ceil(high_m * self.px_per_m)) + 1
        low = min(max(low, 0), self.side_px)
        return slice(low, max(low, min(high, self.side_px)))

    def texture(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """A random piece (h, w) of the noise called ``name``: mean 0, standard deviation about 1."""
        noise = self._noise[name]
        row, column = (int(self.rng.integers(0, noise.shape[i] - shape[i] + 1)) for i in (0, 1))
        piece = noise[row : row + shape[0], column : column + shape[1]]
        return piece[:: self.rng.choice((-1, 1)), :: self.rng.choice((-1, 1))]

    def paint(self, at: Box, cover: np.ndarray, colour, *, klass: int | None = None, height: np.ndarray | None = None):
        """Colour what ``cover`` (h, w) holds: bool is exact, float 0..1 is mixed in.

        With ``height`` (h, w), only what rises above the things already there is painted, as seen from above.
        """
        if height is not None:
            cover = cover & (height > self.height[at])
            np.copyto(self.height[at], height, where=cover)
        albedo, colour = self.albedo[at], np.asarray(colour, np.float32)
        if cover.dtype == bool:
            if colour.ndim == 1:
                albedo[cover] = colour
            elif cover.size:
                cv2.copyTo(colour, cover.view(np.uint8), albedo)  # several times faster than numpy's masked copies
        else:
            albedo += cover[..., None].astype(np.float32) * (colour - albedo)
        if klass is not None:
            self.classes[at][cover > 0.5] = klass

    def rectangle(self, centre, angle: float, length: float, width: float) -> tuple[Box, np.ndarray]:
        """The part of a rectangle, ``length`` along ``angle``, that is on the canvas: its box and (h, w) bool."""
        frame = self.frame(centre, angle, length / 2, width / 2)
        if frame is None:
            return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
        return frame.at, (np.abs(frame.u) <= length / 2) & (np.abs(frame.v) <= width / 2)

    def box(self, centre, angle: float, length: float, width: float, colour, *, rise: float | None = None) -> None:
        """A rectangle ``length`` x ``width`` metres on the ground, or with ``rise`` a box on top of what is there."""
        at, inside = self.rectangle(centre, angle, length, width)
        if inside.any():
            top = None if rise is None else np.full(inside.shape, self.height[at][inside].max() + rise, np.float32)
            self.paint(at, inside, colour, height=top)

    def free(self, centre, angle: float, length: float, width: float) -> bool:
        """Whether a rectangle of the ground is in the picture, at least partly, and not taken."""
        at, inside = self.rectangle(centre, angle, length, width)
        return bool(inside.any()) and not self.taken[at][inside].any()

    def clear(self, centre, angle: float, length: float, width: float) -> bool:
        """Whether nothing stands on a rectangle, taken or not: room for a car on a road."""
        at, inside = self.rectangle(centre, angle, length, width)
        return not self.height[at][inside].any()

    def take(self, centre, angle: float, length: float, width: float) -> None:
        """Let nothing more be built on a rectangle."""
        at, inside = self.rectangle(centre, angle, length, width)
        self.taken[at] |= inside

    def stroke(self, points: np.ndarray, width_m: float, clear_m: float = 0.0) -> tuple[Box, np.ndarray]:
        """The line through ``points`` (K, 2): its box with ``clear_m`` to spare, and the line in it as (h, w) bool."""
        reach = width_m / 2 + clear_m
        (left, top), (right, bottom) = points.min(axis=0) - reach, points.max(axis=0) + reach
        at = self._span(top, bottom), self._span(left, right)
        mask = np.zeros([max(0, span.stop - span.start) for span in at], np.uint8)
        if mask.size:
            corner = np.array([at[1].start, at[0].start])
            fixed = np.round((points * self.px_per_m - corner) * 16).astype(np.int32)
            cv2.polylines(mask, [fixed], False, 1, max(1, round(width_m * self.px_per_m)), cv2.LINE_8, 4)
        return at, mask.view(bool)

    def soften(self, mask: np.ndarray, radius_m: float) -> np.ndarray:
        """A mask (h, w) as float32 with edges blurred over ``radius_m``."""
        side = 2 * round(radius_m * self.px_per_m) + 1
        soft = mask.astype(np.float32)
        return cv2.blur(cv2.blur(soft, (side, side)), (side, side))


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([red, green, blue], np.float32) / 255


def mix(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Colours (3,) or (h, w, 3) mixed by ``t`` (h, w): 0 is a, 1 is b."""
    t = np.clip(t, 0, 1).astype(np.float32, copy=False)
    mixed = t[..., None] * (b - a)
    mixed += a
    return mixed


def _fractal_noise(rng: np.random.Generator, side_px: int, cell_px: float, octaves: int) -> np.ndarray:
    """Value noise (side, side) float32 of unit variance; its coarsest features are ``cell_px`` apart."""
    total = np.zeros((1, 1), np.float32)
    for octave in range(octaves):
        cells = max(2, round(side_px / cell_px * 2**octave))
        total = cv2.resize(total, (cells, cells), interpolation=cv2.INTER_CUBIC)
        total += rng.standard_normal((cells, cells), np.float32) * np.float32(0.6**octave)
    total = cv2.resize(total, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    return total / total.std()
