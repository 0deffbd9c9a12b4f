"""Buildings: roofs as height fields, so that light and shadow follow from their shape."""

from dataclasses import dataclass

import numpy as np

from samseg.sample.canvas import BUILDING, Canvas, Frame, mix, rgb

TILE = [rgb(150, 80, 62), rgb(166, 96, 70), rgb(134, 74, 60), rgb(112, 86, 72), rgb(128, 104, 82), rgb(84, 86, 92),
        rgb(104, 103, 104), rgb(128, 124, 118), rgb(92, 100, 84)]  # fmt: skip
SHEET = [rgb(206, 208, 205), rgb(176, 180, 182), rgb(136, 139, 141), rgb(108, 110, 113), rgb(92, 114, 138),
         rgb(100, 120, 98), rgb(146, 122, 96), rgb(138, 84, 66)]  # fmt: skip
FELT = [rgb(108, 108, 110), rgb(84, 84, 87), rgb(124, 122, 120), rgb(154, 148, 138), rgb(200, 199, 193),
        rgb(104, 112, 74), rgb(136, 116, 94)]  # fmt: skip


@dataclass
class Roof:
    """``shape``: gable, hip, flat, shed, vault or saw. ``cover``: tile, sheet or felt.

    ``eave`` is its height in metres, ``pitch`` the rise per metre.
    """

    shape: str
    cover: str
    colour: np.ndarray
    eave: float
    pitch: float


def house_roof(rng: np.random.Generator) -> Roof:
    shape = rng.choice(["gable", "hip", "flat", "shed"], p=[0.5, 0.3, 0.14, 0.06])
    cover = "felt" if shape == "flat" else "tile" if rng.random() < 0.85 else "sheet"
    return Roof(shape, cover, _pick(rng, cover), rng.uniform(3.0, 6.0), rng.uniform(0.45, 0.95))


def hall_roof(rng: np.random.Generator) -> Roof:
    shape = rng.choice(["flat", "gable", "saw", "vault"], p=[0.5, 0.28, 0.12, 0.1])
    cover = "felt" if shape == "flat" and rng.random() < 0.7 else "sheet"
    return Roof(shape, cover, _pick(rng, cover), rng.uniform(5.0, 9.5), rng.uniform(0.12, 0.25))


def barn_roof(rng: np.random.Generator) -> Roof:
    cover = "tile" if rng.random() < 0.45 else "sheet"
    return Roof("gable", cover, _pick(rng, cover), rng.uniform(4.0, 6.0), rng.uniform(0.3, 0.6))


def build(canvas: Canvas, centre, angle: float, length: float, width: float, roof: Roof, clear_m: float = 1.5) -> None:
    """A building on a rectangle ``length`` x ``width`` metres, its ridge along ``length``."""
    frame = canvas.frame(centre, angle, length / 2, width / 2)
    if frame is None:
        return
    a, b = length / 2, width / 2
    to_end, to_eave = a - np.abs(frame.u), b - np.abs(frame.v)
    inside = (to_end >= 0) & (to_eave >= 0)
    height = _surface(frame, roof, a, b)
    tone = _weather(canvas, frame, roof)
    if roof.shape == "flat":
        tone = np.where(np.minimum(to_end, to_eave) < 0.4, tone * 1.12 + 0.04, tone)
    else:
        tone = np.where(np.minimum(to_end, to_eave) < 0.2, tone * 0.8, tone)
    if roof.shape in ("gable", "hip"):
        ridge = (np.abs(frame.v) < 0.22) & (to_end > (b if roof.shape == "hip" else 0))
        tone = np.where(ridge, tone * 1.15, tone)
    colour = roof.colour * tone[..., None]
    drift, mottle = (canvas.texture(name, frame.u.shape) for name in ("drift", "mottle"))
    dirt = np.clip(0.15 * drift + 0.1 * mottle, 0, 0.4)
    colour = mix(colour, colour * rgb(205, 198, 178), dirt)
    canvas.paint(frame.at, inside, colour, klass=BUILDING, height=height)
    canvas.take(centre, angle, length + 2 * clear_m, width + 2 * clear_m)
    _furnish(canvas, centre, angle, a, b, roof)


def build_round(canvas: Canvas, centre, radius: float, height: float, colour: np.ndarray) -> None:
    """A silo or tank with a shallow cone for a roof."""
    frame = canvas.frame(centre, canvas.rng.uniform(0, 6.3), radius, radius)
    if frame is None:
        return
    distance = np.sqrt(frame.u**2 + frame.v**2)
    seams = 0.05 * (np.cos(12 * np.arctan2(frame.v, frame.u)) > 0.9)
    tone = np.where(distance > radius - 0.3, 0.86, 1.0) - seams + 0.04 * canvas.texture("mottle", frame.u.shape)
    tone = np.where(distance < 0.5, 0.6, tone)
    top = height + 0.3 * (radius - distance)
    canvas.paint(frame.at, distance <= radius, colour * tone[..., None], klass=BUILDING, height=top)
    canvas.take(centre, 0.0, 2 * radius + 1.5, 2 * radius + 1.5)


def _pick(rng: np.random.Generator, cover: str) -> np.ndarray:
    colours = {"tile": TILE, "sheet": SHEET, "felt": FELT}[cover]
    return colours[rng.integers(len(colours))] * rng.uniform(0.9, 1.1) * rng.uniform(0.97, 1.03, 3).astype(np.float32)


def _surface(frame: Frame, roof: Roof, a: float, b: float) -> np.ndarray:
    """Height (h, w) in metres of a roof over |u| <= a, |v| <= b."""
    to_end, to_eave = a - np.abs(frame.u), b - np.abs(frame.v)
    rise = {
        "gable": lambda: roof.pitch * to_eave,
        "hip": lambda: roof.pitch * np.minimum(to_eave, to_end),
        "shed": lambda: roof.pitch * 0.3 * (b + frame.v),
        "vault": lambda: 0.55 * b * np.sqrt(np.clip(1 - (frame.v / b) ** 2, 0, 1)),
        "saw": lambda: 0.4 * np.mod(frame.u + a, 6.0),
        "flat": lambda: np.where(np.minimum(to_end, to_eave) < 0.4, 0.6, 0.0),
    }[roof.shape]()
    return (roof.eave + rise).astype(np.float32)


def _weather(canvas: Canvas, frame: Frame, roof: Roof) -> np.ndarray:
    """Brightness (h, w) of a roof's covering: courses of tiles, ribs of sheet, stains and seams of felt."""
    shape = frame.u.shape
    grain, mottle = canvas.texture("grain", shape), canvas.texture("mottle", shape)
    if roof.cover == "tile":
        return 1 + 0.05 * np.sin(frame.v * (2 * np.pi / 0.9)) + 0.06 * grain + 0.05 * mottle
    if roof.cover == "sheet":
        ribs = 0.02 - np.float32(0.08) * (np.mod(frame.u, 1.2) < 0.3)
        panels = 0.025 * np.sign(np.sin(frame.u * (np.pi / 6.0) + 1))
        return 1 + ribs + panels + 0.02 * grain + 0.04 * mottle
    seams = np.float32(0.07) * (np.mod(frame.v, 3.0) < 0.2)
    return 1 - seams + 0.04 * grain + 0.09 * mottle


def _furnish(canvas: Canvas, centre, angle: float, a: float, b: float, roof: Roof) -> None:
    """What stands on a roof: cooling units, skylights, chimneys, solar panels."""
    rng = canvas.rng
    axis_u, axis_v = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])

    def at(u: float, v: float) -> np.ndarray:
        return np.asarray(centre) + u * axis_u + v * axis_v

    large = a * b > 90
    if roof.shape == "flat":
        for _ in range(rng.integers(3, 9) if large else rng.integers(0, 3)):
            size, shade = rng.uniform(0.9, 2.6 if large else 1.4), rng.uniform(0.62, 0.85)
            place = at(rng.uniform(-0.8, 0.8) * a, rng.uniform(-0.8, 0.8) * b)
            canvas.box(place, angle, size * 1.4, size, rgb(255, 255, 252) * shade, rise=rng.uniform(0.7, 1.6))
            canvas.box(place, angle, size * 0.5, size * 0.5, rgb(92, 94, 96))
    if large and roof.shape in ("flat", "gable") and rng.random() < 0.6:
        for v in (-b / 2, b / 2):
            for u in np.arange(-a + 4, a - 3, rng.uniform(5, 8)):
                canvas.box(at(u, v), angle, 1.3, min(3.0, b / 2), rgb(206, 214, 218))
    if roof.shape in ("gable", "hip") and not large:
        if rng.random() < 0.7:
            place = at(rng.uniform(-0.5, 0.5) * a, rng.uniform(-0.3, 0.3) * b)
            canvas.box(place, angle, 0.9, 0.7, rgb(136, 104, 90), rise=0.8)
        if rng.random() < 0.14:
            _solar(canvas, at(rng.uniform(-0.2, 0.2) * a, rng.choice((-1, 1)) * b * 0.5), angle, a, b)


def _solar(canvas: Canvas, centre, angle: float, a: float, b: float) -> None:
    frame = canvas.frame(centre, angle, 0.55 * a, 0.34 * b)
    if frame is None:
        return
    inside = (np.abs(frame.u) < 0.55 * a) & (np.abs(frame.v) < 0.34 * b)
    joint = (np.mod(frame.u, 1.1) < 0.16) | (np.mod(frame.v, 1.7) < 0.16)
    canvas.paint(frame.at, inside, np.where(joint[..., None], rgb(112, 118, 128), rgb(38, 44, 66)))
