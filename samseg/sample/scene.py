"""Aerial scenes from nothing: what covers the ground, what stands and grows on it, and its class at every point."""

from dataclasses import dataclass

import cv2
import numpy as np

from samseg.sample.photograph import photograph

CLASSES = ("background", "road", "building", "tree")
BACKGROUND, ROAD, BUILDING, TREE = range(4)

SUPERSAMPLE = 2
MARGIN_PX = 60  # cut off again: what stands just outside still casts its shadow into the picture
PLACE_M2 = 85.8**2
ALL = (slice(None), slice(None))


def rgb(*colours: str) -> np.ndarray:
    """Colours like "8a5a3c" as (K, 3) float32, 0..1; a single one as (3,)."""
    values = np.array([list(bytes.fromhex(colour)) for colour in colours], np.float32) / 255
    return values if len(colours) > 1 else values[0]


# What covers a plot: its colour and that of its stripes, metres from stripe to stripe, and how strong they are.
LAWNS = [("64783f", "7d8450", 2.4, 0.2), ("748450", "8f8e5c", 1.8, 0.2), ("5a7040", "6c7a48", 3.0, 0.15)]
YARDS = [("aaa598", "98948a", 5.0, 0.3), ("b4aea0", "a09a8e", 4.0, 0.3), ("6e7e48", "888a58", 9.0, 0.2)]
FIELDS = [("b8a470", "a49060", 1.6, 0.4), ("7e6650", "665040", 2.0, 0.8), ("5c7040", "7e7050", 1.5, 0.5),
          ("6c7a46", "80804e", 9.0, 0.2), ("b0a078", "988a64", 6.0, 0.5)]  # fmt: skip
TILES = rgb("964e3a", "a65e44", "84483a", "70564a", "7a6250", "54565c", "6a6868", "8a8078")
SHEETS = rgb("ccd0cc", "b8bcc0", "888c8e", "5c7290", "647864", "8a5442", "6c6e72", "5a4a44")
LEAVES = rgb("44602e", "4e6832", "3c562e", "5c6c3a", "50603a", "344e32")
CARS = rgb("e2e4e4", "cecece", "282a2e", "3a3c42", "962824", "2c4474")


@dataclass
class Place:
    """A kind of place; lengths in metres, pairs along and across the main road."""

    plots: list[tuple[str, str, float, float]]
    plot: tuple[float, float]
    block: tuple[float, float]  # from street to street
    street: float  # width
    pavement: float
    houses: float  # chance of one, every few metres of a street
    halls: int  # attempts to find room for one, on PLACE_M2 of ground
    woods: int  # likewise
    trees: int  # likewise
    river: bool = False


PLACES = {
    "suburb": Place(LAWNS, (21, 29), (76, 54), 8, pavement=1.8, houses=0.7, halls=0, woods=0, trees=120),
    "industry": Place(YARDS, (45, 36), (88, 76), 10, pavement=1.8, houses=0, halls=200, woods=2, trees=60),
    "village": Place(LAWNS + FIELDS[2:4], (24, 34), (110, 58), 7, pavement=1, houses=0.5, halls=40, woods=2, trees=80),
    "farmland": Place(
        FIELDS, (48, 36), (180, 120), 6, pavement=0, houses=0.15, halls=80, woods=4, trees=50, river=True
    ),
}


def render_scene(seed: int, size: int = 512, metres: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """One aerial scene: image (size, size, 3) uint8 RGB and class indices (size, size) uint8, in the order of CLASSES.

    A pixel is so many ``metres`` of ground. Kinds of place (suburb, industry, village, farmland) take turns with
    ``seed``, so that consecutive seeds make a balanced set. The image is rendered finer and averaged down; the classes
    are those at the pixels' centres. Cars are part of the road; yards, gardens and water are background.
    """
    scene = Scene(size * SUPERSAMPLE + 2 * MARGIN_PX, SUPERSAMPLE / metres, np.random.default_rng(seed))
    place = list(PLACES.values())[seed % len(PLACES)]
    scene.cover(place)
    scene.pave(place)
    scene.build(place)
    scene.plant(place)
    inner = (slice(MARGIN_PX, -MARGIN_PX),) * 2
    image = photograph(scene.colour, scene.height, scene.px_per_m, scene.rng, inner, size)
    return image, scene.classes[inner][1::SUPERSAMPLE, 1::SUPERSAMPLE].copy()


class Scene:
    """A square of ground seen from straight above: the colour, height in metres and class of its points (N, N).

    Things are placed in metres from the middle: by (x, y), or by (u, v) along and across a main road that bends.
    """

    def __init__(self, side_px: int, px_per_m: float, rng: np.random.Generator):
        self.rng, self.px_per_m, self.side = rng, px_per_m, side_px / px_per_m
        self.share = self.side**2 / PLACE_M2
        self.colour = np.zeros((side_px, side_px, 3), np.float32)
        self.height = np.zeros((side_px, side_px), np.float32)
        self.classes = np.full((side_px, side_px), BACKGROUND, np.uint8)
        self.taken = np.zeros((side_px, side_px), bool)  # where nothing more may be built or planted
        # Noise is drawn once, larger than the scene; `noise` takes another piece of it for each object.
        self._noise = [_fractal_noise(rng, side_px + 400, metres * px_per_m) for metres in (0.5, 3, 24)]
        self.angle, self.bend, self.phase = rng.uniform(0, np.pi), rng.uniform(0, 7), rng.uniform(0, 6.3)
        self.crossing = rng.uniform(-12, 12, 2)  # where the main road meets another
        _, self.u, v = self.frame((0, 0), self.angle, self.side, self.side)
        self.v = v - np.float32(self.bend) * np.sin(self.u / 45 + np.float32(self.phase))

    def spot(self, u: float, v: float) -> tuple[np.ndarray, float]:
        """The place (x, y) of a point (u, v), and the main road's direction there."""
        v = v + self.bend * np.sin(u / 45 + self.phase)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turn = np.arctan(self.bend / 45 * np.cos(u / 45 + self.phase))
        return np.array([u * cos - v * sin, u * sin + v * cos]), self.angle + turn

    def frame(self, centre, angle: float, length: float, width: float):
        """A box of the scene around a turned rectangle, and its points (h, w) in the rectangle's own axes."""
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        reach = np.array([abs(cos) * length + abs(sin) * width, abs(sin) * length + abs(cos) * width]) / 2
        middle = np.asarray(centre) + self.side / 2
        ends = np.array([middle - reach, middle + reach + 1 / self.px_per_m]) * self.px_per_m
        (left, top), (right, bottom) = np.clip(ends, 0, len(self.height)).astype(int)
        x = ((np.arange(left, right) + 0.5) / self.px_per_m - middle[0]).astype(np.float32)[None, :]
        y = ((np.arange(top, bottom) + 0.5) / self.px_per_m - middle[1]).astype(np.float32)[:, None]
        return (slice(top, bottom), slice(left, right)), x * cos + y * sin, y * cos - x * sin

    def rectangle(self, centre, angle: float, length: float, width: float):
        """A box of the scene around a turned rectangle, and which of its points (h, w) are in it."""
        at, u, v = self.frame(centre, angle, length, width)
        return at, (np.abs(u) <= length / 2) & (np.abs(v) <= width / 2)

    def noise(self, like: np.ndarray) -> list[np.ndarray]:
        """Random pieces, of the shape of ``like``, of fine, coarse and wide noise of unit variance."""
        corners = self.rng.integers(0, np.subtract(self._noise[0].shape, like.shape) + 1, (3, 2))
        rows, columns = like.shape
        return [noise[y : y + rows, x : x + columns] for noise, (y, x) in zip(self._noise, corners, strict=True)]

    def paint(self, at, cover: np.ndarray, colour: np.ndarray, klass: int | None = None, height=None) -> None:
        """Colour what ``cover`` (h, w) bool holds; with a ``height``, what rises above the things already there."""
        if height is not None:
            cover = cover & (height > self.height[at])
            np.copyto(self.height[at], height, where=cover)
        if colour.ndim == 1:
            self.colour[at][cover] = colour
        elif cover.size:  # several times faster than numpy's masked copies
            cv2.copyTo(colour.astype(np.float32, copy=False), cover.view(np.uint8), self.colour[at])
        if klass is not None:
            self.classes[at][cover] = klass

    def box(self, centre, angle: float, length: float, width: float, colour: np.ndarray, rise: float) -> None:
        """A box on top of what is there."""
        at, inside = self.rectangle(centre, angle, length, width)
        if inside.any():
            top = np.full(inside.shape, self.height[at][inside].max() + rise, np.float32)
            self.paint(at, inside, colour, height=top)

    def take(self, centre, angle: float, length: float, width: float) -> bool:
        """Keep others off a rectangle; False where it is outside the picture or something is there already."""
        at, inside = self.rectangle(centre, angle, length, width)
        if not inside.any() or self.taken[at][inside].any():
            return False
        self.taken[at] |= inside
        return True

    def cover(self, place: Place) -> None:
        """Plots of lawn, crops or concrete, each in one of the place's ways; perhaps a river with banks of sand."""
        rng, (fine, coarse, wide) = self.rng, self.noise(self.u)
        cells = tuple(
            np.floor((axis + 0.3 * coarse) / np.float32(side)).astype(int) % 32
            for axis, side in zip((self.u, self.v), place.plot, strict=True)
        )
        kinds, turned = rng.integers(len(place.plots), size=(32, 32))[cells], (rng.random((32, 32)) < 0.5)[cells]
        shade = rng.uniform(0.92, 1.08, (32, 32)).astype(np.float32)[cells]
        colours, stripes, metres, strengths = zip(*place.plots, strict=True)
        metres, strengths = np.array(metres, np.float32)[kinds], np.array(strengths, np.float32)[kinds]
        rows = np.sin((np.where(turned, self.u, self.v) + 0.3 * wide) * (np.float32(2 * np.pi) / metres))
        share = np.clip(0.5 + strengths * rows + 0.2 * coarse + 0.2 * wide, 0, 1)
        dry = rng.uniform(0, 0.5) * (rgb("8c7c5a") - rgb(*colours))
        colour = (rgb(*colours) + dry)[kinds] + share[..., None] * (rgb(*stripes) - rgb(*colours))[kinds]
        self.colour[:] = colour * (shade * (1 + 0.06 * fine + 0.04 * coarse))[..., None]
        if place.river:
            line = self.v + 0.3 * self.u + 3 * wide + np.float32(rng.choice((-35, 35)))
            depth = np.float32(rng.uniform(5, 9)) - np.abs(line) + 0.3 * coarse
            self.paint(ALL, depth > -1.5, rgb("a08e6c") * (1 + 0.06 * coarse)[..., None])
            water = rgb("5e7466") + np.clip(depth / 6, 0, 1)[..., None] * (rgb("2c4a54") - rgb("5e7466"))
            self.paint(ALL, depth > 0, water + 0.008 * coarse[..., None])
            self.taken |= depth > -1.5

    def pave(self, place: Place) -> None:
        """A net of streets with pavements, worn asphalt and markings, and cars on the main road."""
        rng, (fine, coarse, wide), half = self.rng, self.noise(self.u), place.street / 2
        u, v = (  # metres to the middle of the nearest street
            np.abs(axis - np.float32(middle) - np.rint((axis - np.float32(middle)) / gap) * np.float32(gap))
            for axis, middle, gap in zip((self.u, self.v), self.crossing, place.block, strict=True)
        )
        kerb = np.minimum(u, v) - half  # metres to the nearest kerb, below 0 on a street
        self.paint(ALL, kerb < place.pavement, rgb("aca699") * (1 + 0.05 * fine)[..., None])
        wheels = np.minimum(np.abs(u - half / 2), np.abs(v - half / 2)) < 0.5
        tone = rng.uniform(0.85, 1.2) * (1 + 0.04 * fine + 0.03 * coarse + 0.05 * wide) * (1 - 0.06 * wheels)
        self.paint(ALL, kerb < 0, rgb("706f6f") * tone[..., None], ROAD)
        dashes = ((v < 0.09) & (self.u % 6 < 3) & (u > half + 2)) | ((u < 0.09) & (self.v % 6 < 3) & (v > half + 2))
        markings = dashes | ((kerb > -0.5) & (kerb < -0.32))
        self.paint(ALL, markings & (coarse > -1.3), rgb("dcdad2") * (0.95 + 0.05 * fine)[..., None])
        self.taken |= kerb < place.pavement + 0.5
        for slot in rng.permutation(np.arange(-self.side / 2, self.side / 2, 6))[: rng.integers(4, 12)]:
            centre, angle = self.spot(slot, self.crossing[1] + rng.choice((-1, 1)) * half / 2)
            colour, back = CARS[rng.integers(len(CARS))], -0.2 * np.array([np.cos(angle), np.sin(angle)])
            self.box(centre, angle, 4.4, 1.9, colour, 0.8)
            self.box(centre + back, angle, 2.6, 1.6, rgb("22262e"), 0.3)
            self.box(centre + back, angle, 1.5, 1.5, colour, 0.2)

    def build(self, place: Place) -> None:
        """Houses in rows along the streets, some with a pool; halls where there is room."""
        rng, reach = self.rng, 0.7 * self.side
        for line in np.arange(self.crossing[1] - 3 * place.block[1], reach, place.block[1]):
            for side in (-1, 1):
                for along in np.arange(-reach, reach, 7) + rng.uniform(0, 7):
                    length, width, back = rng.uniform((13, 10, 4), (17, 13, 6))
                    back += place.street / 2 + width / 2
                    roof = rng.choice(["gable", "hip", "flat"], p=[0.5, 0.35, 0.15])
                    if rng.random() > place.houses:
                        continue
                    self.building(*self.spot(along, line + side * back), length, width, roof)
                    pool, angle = self.spot(along + 4, line + side * (back + 12))
                    if rng.random() < 0.2 and self.take(pool, angle, 9, 6):
                        self.box(pool, angle, 8.6, 5.4, rgb("beb8ac"), 0.05)
                        self.box(pool, angle, 7.0, 3.8, rgb("56a8b8"), 0.05)
        for shrunk in np.linspace(0, 0.6, round(place.halls * self.share), endpoint=False):
            size = rng.uniform(0.8, 1.2, 2) * (40, 26) * (1 - shrunk)
            centre, angle = self.spot(*rng.uniform(-0.6, 0.6, 2) * self.side)
            self.building(centre, angle + rng.choice((0, np.pi / 2)), *size, rng.choice(["low gable", "flat"]))

    def building(self, centre, angle: float, length: float, width: float, roof: str) -> None:
        """A building, where there is room for it, its ridge along ``length``."""
        if not self.take(centre, angle, length + 4, width + 4):
            return
        rng, large = self.rng, length * width > 300
        colours = SHEETS if large or roof == "flat" else TILES
        colour, eave = colours[rng.integers(len(colours))] * rng.uniform(0.9, 1.1), 6.5 if large else 4
        axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self.roof(centre, angle, length, width, roof, colour, eave)
        if roof in ("gable", "hip") and rng.random() < 0.4:  # a wing across
            shift = rng.choice((-1, 1), 2) * (0.2 * length, 0.3 * width) @ axes
            self.roof(centre + shift, angle + np.pi / 2, width, 0.5 * length, roof, colour, eave)
        for _ in range(rng.integers(3, 8) if large else 2):  # chimneys, skylights, cooling units
            spot = centre + rng.uniform(-0.4, 0.4, 2) * (length, width) @ axes
            shade = rgb("d0d2d0", "8a6a5c", "5e6266")[rng.integers(3)]
            self.box(spot, angle, *rng.uniform(0.8, 1.4 + large, 2), shade, 0.7)

    def roof(self, centre, angle: float, length: float, width: float, kind: str, colour, eave: float) -> None:
        """A roof as a height field, so that light and shadow follow from its shape."""
        at, u, v = self.frame(centre, angle, length, width)
        to_end, to_eave = length / 2 - np.abs(u), width / 2 - np.abs(v)
        edge, (fine, coarse, _) = np.minimum(to_end, to_eave), self.noise(u)
        rise, courses = {
            "gable": (0.65 * to_eave, 0.05 * np.sin(v * 10) + 0.15 * (np.abs(v) < 0.15)),
            "hip": (0.65 * edge, 0.05 * np.sin(v * 10)),
            "low gable": (0.18 * to_eave, 0.15 * (np.abs(v) < 0.15) - 0.07 * (u % 1.2 < 0.25)),
            "flat": (0.5 * (edge < 0.4), 0.2 * (edge < 0.4) - 0.06 * (v % 3 < 0.15)),
        }[kind]
        tone = 1 + 0.04 * fine + 0.05 * coarse + courses - 0.15 * (edge < 0.15)
        self.paint(at, edge >= 0, colour * tone[..., None], BUILDING, (eave + rise).astype(np.float32))

    def plant(self, place: Place) -> None:
        """Trees in gardens and in woods, where there is room for the trunk."""
        rng = self.rng
        trees, woods = round(place.trees * self.share), round(place.woods * self.share)
        spots = [rng.uniform(-0.53, 0.53, (trees, 2)) * self.side]
        spots += [wood + rng.normal(0, 7, (30, 2)) for wood in rng.uniform(-0.5, 0.5, (woods, 2)) * self.side]
        for centre in np.concatenate(spots):
            radius = rng.uniform(2.5, 5)
            at, trunk = self.rectangle(centre, 0, 1.2 * radius, 1.2 * radius)
            if not self.taken[at][trunk].any():
                self.tree(centre, radius)

    def tree(self, centre, radius: float) -> None:
        rng = self.rng
        at, u, v = self.frame(centre, rng.uniform(0, 6.3), 2.6 * radius, 2.6 * radius)
        clump, turn = self.noise(u)[0], np.arctan2(v, u)
        lobes = sum(rng.uniform(0.02, 0.08) * np.cos(k * turn + rng.uniform(0, 6.3)) for k in (2, 3, 5))
        fullness = (1 - (u**2 + v**2) / radius**2 + lobes + 0.12 * clump).astype(np.float32)
        shape = np.sqrt(np.clip(fullness, 0, None))
        colour = LEAVES[rng.integers(len(LEAVES))] * rng.uniform(0.85, 1.2)
        top = (1.8 * radius + 2) * (0.35 + 0.65 * shape) + 0.25 * clump
        self.paint(at, fullness > 0.06, colour * (0.6 + 0.42 * shape + 0.14 * clump)[..., None], TREE, top)


def _fractal_noise(rng: np.random.Generator, side_px: int, cell_px: float) -> np.ndarray:
    """Smooth noise (side, side) float32 of unit variance; its coarsest features are ``cell_px`` apart."""
    total = np.zeros((1, 1), np.float32)
    for octave in range(3):
        cells = max(2, round(side_px / cell_px * 2**octave))
        total = cv2.resize(total, (cells, cells), interpolation=cv2.INTER_CUBIC)
        total += rng.standard_normal((cells, cells), np.float32) * np.float32(0.6**octave)
    total = cv2.resize(total, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    return total / total.std()
