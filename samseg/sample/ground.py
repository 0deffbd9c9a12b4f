"""Ground: grass, fields, gardens, yards and what lies about on them; all of it background."""

from dataclasses import dataclass

import numpy as np

from samseg.sample.canvas import Canvas, mix, rgb


@dataclass
class Season:
    """Colours of living and of dry grass, and whether leaves have turned."""

    lush: np.ndarray
    dry: np.ndarray
    autumn: bool = False


SEASONS = [
    Season(rgb(92, 116, 62), rgb(136, 136, 86)),  # early summer
    Season(rgb(110, 120, 72), rgb(168, 152, 104)),  # drought
    Season(rgb(98, 112, 66), rgb(146, 132, 92), autumn=True),
    Season(rgb(84, 104, 60), rgb(122, 118, 78)),  # spring
]

CROPS = {  # colour, second colour of the rows, distance between rows in metres, strength of the rows
    "wheat": (rgb(186, 166, 112), rgb(168, 148, 98), 1.6, 0.35),
    "maize": (rgb(92, 112, 58), rgb(126, 112, 80), 1.5, 0.55),
    "seedlings": (rgb(134, 112, 86), rgb(110, 118, 66), 1.8, 0.6),
    "ploughed": (rgb(126, 102, 80), rgb(102, 80, 62), 1.9, 0.8),
    "stubble": (rgb(178, 160, 118), rgb(154, 138, 100), 6.0, 0.5),
    "pasture": (rgb(104, 118, 68), rgb(128, 126, 80), 9.0, 0.15),
}


def meadow(canvas: Canvas, season: Season, shape: tuple[int, int], lushness: float = 0.5) -> np.ndarray:
    """Colours (h, w, 3) of rough grass, 0 dry to 1 lush, with bare patches where it is driest."""
    drift, mottle, grain = (canvas.texture(name, shape) for name in ("drift", "mottle", "grain"))
    colour = mix(season.dry, season.lush, lushness + 0.25 * drift + 0.14 * mottle + 0.08 * grain)
    colour *= (1 + 0.07 * grain + 0.03 * mottle)[..., None]
    return mix(colour, rgb(146, 124, 94), np.clip(-0.5 * mottle - 0.7 * drift - 0.9 - lushness, 0, 0.7))


def cover(canvas: Canvas, season: Season) -> None:
    """Grass everywhere."""
    canvas.albedo[:] = meadow(canvas, season, canvas.taken.shape)


def field(canvas: Canvas, centre, angle: float, length: float, width: float, crop: str) -> None:
    """A field of rows along ``length``, with headlands, tramlines and an uneven stand."""
    frame = canvas.frame(centre, angle, length / 2, width / 2)
    if frame is None:
        return
    rng, shape = canvas.rng, frame.u.shape
    grain, mottle, drift = (canvas.texture(name, shape) for name in ("grain", "mottle", "drift"))
    colour, other, spacing, strength = CROPS[crop]
    edge = np.minimum(length / 2 - np.abs(frame.u), width / 2 - np.abs(frame.v)) + 0.25 * mottle
    rows = 0.5 + 0.5 * np.sin((frame.v + 0.5 * drift) * (2 * np.pi / spacing))
    headland = 0.5 + 0.5 * np.sin(frame.u * (2 * np.pi / spacing))
    rows = np.where(length / 2 - np.abs(frame.u) < 7, headland, rows)
    tint = colour * rng.uniform(0.9, 1.08) * rng.uniform(0.97, 1.03, 3).astype(np.float32)
    painted = mix(tint, other, strength * rows + 0.16 * mottle + 0.16 * drift)
    painted *= (1 + 0.045 * grain + 0.045 * drift)[..., None]
    if crop in ("wheat", "maize", "seedlings"):
        between = np.mod(frame.v + 300, 16.0)
        tramline = (np.abs(between - 1) < 0.28) | (np.abs(between - 3) < 0.28)
        painted = mix(painted, painted * 0.8, tramline * 0.8)
    canvas.paint(frame.at, np.clip(edge / 0.6, 0, 1), painted)


def fields(canvas: Canvas, angle: float, reach_m: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide the country into fields; gives the borders between them as pairs of points."""
    rng, borders = canvas.rng, []
    axis_u, axis_v = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])

    def divide(u0: float, u1: float, v0: float, v1: float) -> None:
        wide, deep = u1 - u0, v1 - v0
        if max(wide, deep) > 110 or (max(wide, deep) > 70 and rng.random() < 0.6):
            share = rng.uniform(0.35, 0.65)
            if wide > deep:
                cut = u0 + share * wide
                borders.append((canvas.centre + cut * axis_u + v0 * axis_v, canvas.centre + cut * axis_u + v1 * axis_v))
                divide(u0, cut, v0, v1)
                divide(cut, u1, v0, v1)
            else:
                cut = v0 + share * deep
                borders.append((canvas.centre + u0 * axis_u + cut * axis_v, canvas.centre + u1 * axis_u + cut * axis_v))
                divide(u0, u1, v0, cut)
                divide(u0, u1, cut, v1)
            return
        middle = canvas.centre + (u0 + u1) / 2 * axis_u + (v0 + v1) / 2 * axis_v
        crop = str(rng.choice(list(CROPS)))
        if wide > deep:
            field(canvas, middle, angle, wide - 1.6, deep - 1.6, crop)
        else:
            field(canvas, middle, angle + np.pi / 2, deep - 1.6, wide - 1.6, crop)

    divide(-reach_m, reach_m, -reach_m, reach_m)
    return borders


def garden(canvas: Canvas, season: Season, centre, angle: float, length: float, width: float) -> None:
    """A plot of lawn with its own tone, mown in stripes, where nothing is built yet."""
    frame = canvas.frame(centre, angle, length / 2, width / 2)
    if frame is None:
        return
    rng, shape = canvas.rng, frame.u.shape
    lawn = meadow(canvas, season, shape, rng.uniform(0.15, 1.0)) * rng.uniform(0.92, 1.1)
    if rng.random() < 0.4:
        lawn *= (1 + 0.04 * np.sign(np.sin(frame.u * (np.pi / 1.2))))[..., None]
    inside = (np.abs(frame.u) < length / 2) & (np.abs(frame.v) < width / 2) & ~canvas.taken[frame.at]
    canvas.paint(frame.at, inside, lawn)
    if rng.random() < 0.5:
        rim = np.minimum(length / 2 - np.abs(frame.u), width / 2 - np.abs(frame.v)) < 0.16
        fence = rgb(150, 136, 116) * rng.uniform(0.7, 1.2)
        canvas.paint(frame.at, inside & rim, fence, height=np.full(shape, 1.3, np.float32))


def yard(canvas: Canvas, centre, angle: float, length: float, width: float, surface: str) -> None:
    """Hardstanding, not a road: slabs of concrete or trodden earth."""
    frame = canvas.frame(centre, angle, length / 2, width / 2)
    if frame is None:
        return
    rng, shape = canvas.rng, frame.u.shape
    grain, mottle, drift = (canvas.texture(name, shape) for name in ("grain", "mottle", "drift"))
    edge = np.minimum(length / 2 - np.abs(frame.u), width / 2 - np.abs(frame.v))
    free = ~canvas.taken[frame.at]
    if surface == "concrete":
        base = rgb(172, 167, 157) * rng.uniform(0.86, 1.08)
        slab = np.floor(frame.u / 5) * 31 + np.floor(frame.v / 5) * 17
        joint = (np.mod(frame.u, 5) < 0.2) | (np.mod(frame.v, 5) < 0.2)
        tone = 1 + 0.05 * np.sin(slab * 12.9898) + 0.03 * grain + 0.05 * mottle + 0.05 * drift
        tone -= np.float32(0.13) * joint
        canvas.paint(frame.at, (edge > 0) & free, base * tone[..., None])
    else:
        base = rgb(152, 134, 108) * rng.uniform(0.9, 1.1)
        tone = 1 + 0.06 * grain + 0.07 * mottle + 0.05 * drift
        canvas.paint(frame.at, np.clip((edge + 1.2 * mottle) / 2, 0, 1) * free, base * tone[..., None])


def pool(canvas: Canvas, centre, angle: float, length: float, width: float) -> None:
    canvas.box(centre, angle, length + 1.8, width + 1.8, rgb(190, 184, 172))
    frame = canvas.frame(centre, angle, length / 2, width / 2)
    if frame is not None:
        inside = (np.abs(frame.u / length * 2) ** 6 + np.abs(frame.v / width * 2) ** 6) < 1
        tone = 1 + 0.05 * canvas.texture("clump", frame.u.shape) + 0.1 * frame.u / length
        canvas.paint(frame.at, inside, rgb(86, 168, 184) * tone[..., None])
    canvas.take(centre, angle, length + 1.8, width + 1.8)


def pond(canvas: Canvas, centre, radius: float) -> None:
    frame = canvas.frame(centre, canvas.rng.uniform(0, 3), radius * 1.5, radius * 1.5)
    if frame is not None:
        ripple = 0.3 * canvas.texture("mottle", frame.u.shape)
        depth = 1 - (frame.u / radius) ** 2 - (frame.v / radius * 1.5) ** 2 + ripple
        canvas.paint(frame.at, np.clip(depth * 4 + 0.8, 0, 1), rgb(116, 112, 82))
        canvas.paint(frame.at, np.clip(depth * 4, 0, 1), mix(rgb(82, 94, 78), rgb(48, 64, 66), depth))
    canvas.take(centre, 0.0, 2 * radius, 1.4 * radius)


def court(canvas: Canvas, centre, angle: float) -> None:
    """A tennis court."""
    colour = rgb(158, 92, 68) if canvas.rng.random() < 0.5 else rgb(78, 112, 92)
    canvas.box(centre, angle, 32, 16, colour * 0.9)
    frame = canvas.frame(centre, angle, 12, 5.6)
    if frame is not None:
        u, v = np.abs(frame.u), np.abs(frame.v)
        canvas.paint(frame.at, (u < 12) & (v < 5.6), colour * (1 + 0.03 * canvas.texture("grain", u.shape))[..., None])
        lines = ((np.abs(v - 5.4) < 0.14) | (np.abs(v - 4.1) < 0.12) | (np.abs(u - 11.8) < 0.14)) & (u < 12) & (v < 5.6)
        lines |= ((np.abs(u - 6.4) < 0.12) & (v < 4.1)) | ((v < 0.1) & (u < 6.4))
        canvas.paint(frame.at, lines * 0.8, rgb(232, 230, 222))
    canvas.take(centre, angle, 33, 17)


def containers(canvas: Canvas, centre, angle: float) -> None:
    """A stack of shipping containers."""
    rng = canvas.rng
    colours = [rgb(150, 72, 54), rgb(60, 92, 130), rgb(86, 112, 84), rgb(176, 174, 168), rgb(178, 128, 60)]
    across = np.array([-np.sin(angle), np.cos(angle)])
    for i in range(rng.integers(2, 6)):
        colour = colours[rng.integers(len(colours))] * rng.uniform(0.85, 1.1)
        canvas.box(np.asarray(centre) + i * 2.7 * across, angle, 6.1, 2.4, colour, rise=2.6 * rng.integers(1, 3))
    canvas.take(np.asarray(centre) + 5 * across, angle, 8, 16)


def bale(canvas: Canvas, centre) -> None:
    canvas.box(centre, canvas.rng.uniform(0, 3), 1.5, 1.3, rgb(196, 176, 122), rise=1.2)
