"""Roads: centre lines, surfaces, wear and markings; and the cars on them."""

from dataclasses import dataclass

import cv2
import numpy as np

from samseg.sample.canvas import ROAD, Canvas, rgb

PAVEMENT_M = 1.7
CAR_COLOURS = [rgb(226, 228, 228), rgb(206, 206, 206), rgb(40, 42, 46), rgb(58, 60, 66), rgb(120, 124, 128),
               rgb(150, 40, 36), rgb(44, 68, 116), rgb(158, 150, 132)]  # fmt: skip


@dataclass
class Street:
    """A road along ``points`` (K, 2), metres, half a metre apart. ``surface``: asphalt, gravel or earth."""

    points: np.ndarray
    width_m: float
    surface: str = "asphalt"
    pavement: bool = False
    marked: bool = False

    def normals(self) -> np.ndarray:
        """Unit normals (K, 2), to the right of the direction of travel."""
        step = np.gradient(self.points, axis=0)
        step /= np.linalg.norm(step, axis=1, keepdims=True)
        return np.stack([-step[:, 1], step[:, 0]], axis=1)

    def beside(self, offset_m: float) -> np.ndarray:
        return self.points + offset_m * self.normals()


def curve(*through) -> np.ndarray:
    """A smooth line (K, 2) through the given points, half a metre from point to point (Catmull-Rom)."""
    knots = np.asarray(through, float)
    knots = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0, 1, 40, endpoint=False)[:, None]
    pieces = []
    for p0, p1, p2, p3 in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        pieces.append(
            p1 + t * (p2 - p0) / 2 + t**2 * (p0 - 2.5 * p1 + 2 * p2 - p3 / 2) + t**3 * (1.5 * (p1 - p2) + (p3 - p0) / 2)
        )
    line = np.concatenate([*pieces, knots[-2:-1]])
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    even = np.arange(0, along[-1], 0.5)
    return np.stack([np.interp(even, along, line[:, i]) for i in (0, 1)], axis=1)


def lay(canvas: Canvas, streets: list[Street]) -> None:
    """Paint a network: pavements first, then surfaces (the last street on top), then markings outside junctions."""
    streets = [street for street in streets if canvas.stroke(street.points, street.width_m)[1].any()]
    slab = rgb(172, 166, 156) * canvas.rng.uniform(0.88, 1.05)
    for street in streets:
        if street.pavement:
            at, kerb = canvas.stroke(street.points, street.width_m + 2 * PAVEMENT_M)
            canvas.paint(at, kerb, slab * (1 + 0.05 * canvas.texture("grain", kerb.shape))[..., None])
            canvas.taken[at] |= kerb
    covered = np.zeros(canvas.taken.shape, np.uint8)
    for street in streets:
        at, mask = canvas.stroke(street.points, street.width_m, clear_m=1.0)
        covered[at] += mask
        canvas.taken[at] |= cv2.dilate(mask.view(np.uint8), np.ones((7, 7), np.uint8)).view(bool)
        if street.surface == "asphalt":
            _asphalt(canvas, street, at, mask)
        else:
            _unpaved(canvas, street, at, mask)
    reach = round(3.0 * canvas.px_per_m)
    junction = cv2.dilate((covered > 1).view(np.uint8), np.ones((reach, reach), np.uint8)).view(bool)
    for street in streets:
        if street.marked:
            _mark(canvas, street, junction)


def pave(canvas: Canvas, at, mask: np.ndarray, colour: np.ndarray) -> None:
    """Make ``mask`` (h, w) a road of one colour: drives and car parks."""
    tone = 1 + 0.05 * canvas.texture("grain", mask.shape) + 0.06 * canvas.texture("mottle", mask.shape)
    canvas.paint(at, mask, colour * tone[..., None], klass=ROAD)
    canvas.taken[at] |= mask


def _asphalt(canvas: Canvas, street: Street, at, mask: np.ndarray) -> None:
    """Grey with darker wheel tracks, trenches filled with another asphalt, and cracks."""
    rng = canvas.rng
    grain, mottle, drift = (canvas.texture(name, mask.shape) for name in ("grain", "mottle", "drift"))
    base = rgb(112, 111, 111) * rng.uniform(0.8, 1.18) * rng.uniform(0.985, 1.015, 3).astype(np.float32)
    wheels = np.zeros(mask.shape, np.float32)
    for side in (-0.25, 0.25):
        wheels += _beside(canvas, street, side * street.width_m, 0.9, at)
    tone = (1 + 0.035 * grain + 0.03 * mottle + 0.06 * drift) * (1 - 0.07 * canvas.soften(wheels, 0.3))
    canvas.paint(at, mask, base * tone[..., None], klass=ROAD)
    on_road = np.zeros(canvas.taken.shape, bool)
    on_road[at] = mask
    normals = street.normals()
    for _ in range(rng.integers(2, 6)):
        i = rng.integers(len(normals))
        place = street.points[i] + normals[i] * rng.uniform(-0.35, 0.35) * street.width_m
        length, width = rng.uniform(1.0, 9.0), rng.uniform(0.4, 1.2)
        frame = canvas.frame(place, np.arctan2(-normals[i, 0], normals[i, 1]), length, width)
        if frame is not None:
            trench = (np.abs(frame.u) < length) & (np.abs(frame.v) < width) & on_road[frame.at]
            canvas.paint(frame.at, trench * 0.8, base * rng.choice((0.78, 0.85, 1.15)))
    for _ in range(rng.integers(3, 9)):
        steps = rng.normal(0, 0.6, (14, 2)) + rng.normal(0, 0.7, 2)
        box, crack = canvas.stroke(street.points[rng.integers(len(normals))] + np.cumsum(steps, axis=0), 0.12)
        canvas.paint(box, (crack & on_road[box]) * 0.45, base * 0.5)


def _unpaved(canvas: Canvas, street: Street, at, mask: np.ndarray) -> None:
    """Gravel or earth: ragged edges, lighter ruts, and on earth grass between them."""
    grain, mottle, drift = (canvas.texture(name, mask.shape) for name in ("grain", "mottle", "drift"))
    soft = canvas.soften(mask, 0.5)
    ragged = soft + (0.4 * grain + 0.3 * mottle) * soft * (1 - soft) > 0.5
    base = rgb(176, 164, 142) if street.surface == "gravel" else rgb(148, 124, 96)
    ruts = np.zeros(mask.shape, np.float32)
    for side in (-0.25, 0.25):
        ruts += _beside(canvas, street, side * street.width_m, 0.5, at)
    tone = (1 + 0.07 * grain + 0.06 * mottle + 0.05 * drift) * (1 + 0.05 * canvas.soften(ruts, 0.2))
    canvas.paint(at, ragged, base * canvas.rng.uniform(0.88, 1.08) * tone[..., None], klass=ROAD)
    if street.surface == "earth":
        middle = canvas.soften(_beside(canvas, street, 0.0, street.width_m * 0.22, at), 0.25)
        canvas.paint(at, np.clip(middle * (0.8 + 0.25 * mottle), 0, 0.8), rgb(112, 116, 72))


def _beside(canvas: Canvas, street: Street, offset_m: float, width_m: float, at) -> np.ndarray:
    """A strip (h, w) bool along a street, in the box ``at`` of that street."""
    box, strip = canvas.stroke(street.beside(offset_m), width_m)
    whole = np.zeros(canvas.taken.shape, bool)
    whole[box] = strip
    return whole[at]


def _mark(canvas: Canvas, street: Street, junction: np.ndarray) -> None:
    """A broken centre line and solid edge lines, worn; none in a junction."""
    pieces = [(street.points[i : i + 7], 0.2) for i in range(0, len(street.points) - 6, 15)]
    pieces += [(street.beside(side * (street.width_m - 0.7)), 0.16) for side in (-0.5, 0.5)]
    for points, width in pieces:
        at, line = canvas.stroke(points, width)
        worn = np.clip(0.65 + 0.2 * canvas.texture("mottle", line.shape), 0.2, 0.85)
        canvas.paint(at, (line & ~junction[at]) * worn, rgb(226, 224, 214))


def car(canvas: Canvas, centre, angle: float, *, lorry: bool = False) -> None:
    """A car, or a lorry. It changes no class: a car is part of what it stands on."""
    rng = canvas.rng
    colour = CAR_COLOURS[rng.integers(len(CAR_COLOURS))]
    axis = np.array([np.cos(angle), np.sin(angle)])
    centre = np.asarray(centre)
    if lorry:
        body = rgb(214, 214, 210) * rng.uniform(0.75, 1.05)
        canvas.box(centre - 1.2 * axis, angle, rng.uniform(7, 11), 2.5, body, rise=3.2)
        canvas.box(centre + 5.4 * axis, angle, 2.2, 2.4, colour, rise=2.8)
        return
    length = rng.uniform(4.0, 4.9)
    canvas.box(centre, angle, length, 1.8, colour, rise=0.8)
    canvas.box(centre - 0.2 * axis, angle, length * 0.56, 1.55, rgb(34, 38, 46), rise=0.3)
    canvas.box(centre - 0.25 * axis, angle, length * 0.34, 1.5, colour * 1.02, rise=0.2)


def traffic(canvas: Canvas, streets: list[Street], share: float) -> None:
    """Cars that drive, and some that are parked at the kerb of streets with a pavement."""
    rng = canvas.rng
    for street in streets:
        normals = street.normals()
        for i in range(10, len(street.points) - 10, 16):
            if street.surface == "earth" or rng.random() > share:
                continue
            side = rng.choice((-1, 1))
            parked = street.pavement and rng.random() < 0.6
            offset = side * (street.width_m / 2 - 1.1 if parked else street.width_m * 0.22)
            along = np.arctan2(-normals[i, 0], normals[i, 1]) + (np.pi if side < 0 else 0)
            lorry = not street.pavement and street.width_m > 8 and rng.random() < 0.3
            place, along = street.points[i] + offset * normals[i], along + rng.normal(0, 0.02)
            if canvas.clear(place, along, 14 if lorry else 5.5, 2.5):
                car(canvas, place, along, lorry=lorry)
