"""Plots of land and what is built on them: houses in gardens, farmsteads, car parks."""

import numpy as np

from samseg.sample import buildings, ground, roads
from samseg.sample.canvas import BACKGROUND, Axes, Canvas, rgb
from samseg.sample.trees import Forester


def houses(canvas, season, forester, streets, *, lot, setback, vacancy, barns=0.0) -> None:
    """Plots along both sides of the streets: lawn, house, drive, and what people keep in gardens."""
    rng = canvas.rng
    plots = []
    for street in streets:
        normals = street.normals()
        for side in (-1, 1):
            s = rng.uniform(0, 20)
            while s < len(street.points):
                frontage = rng.uniform(*lot)
                i = min(int(s + frontage), len(street.points) - 1)
                s += 2 * frontage
                out = side * normals[i]
                verge = 2.0 if street.pavement else 1.0
                plots.append((street.points[i] + out * (street.width_m / 2 + verge), out, frontage))
    for kerb, out, frontage in plots:
        along = np.array([out[1], -out[0]])
        angle = np.arctan2(along[1], along[0]) + rng.normal(0, 0.02 if barns == 0 else 0.07)
        length, width = rng.uniform(0.5, 0.75) * frontage, rng.uniform(7.5, 11)
        back = rng.uniform(*setback)
        middle = kerb + out * (back + width / 2) + along * rng.uniform(-0.1, 0.1) * frontage
        if rng.random() < vacancy or not canvas.free(middle, angle, length + 2.5, width + 1):
            continue
        depth = max(rng.uniform(24, 30), back + width + 7)
        ground.garden(canvas, season, kerb + out * depth / 2, angle, frontage, depth)
        drive_at = kerb + along * rng.choice((-1, 1)) * (0.5 * frontage - 2.2)
        _drive(canvas, drive_at, out, back + rng.uniform(2, 7))
        if rng.random() < barns:
            turn = angle + rng.choice((0, np.pi / 2))
            buildings.build(canvas, middle, turn, length + 2, width + 1, buildings.barn_roof(rng))
        else:
            _house(canvas, middle, angle, length, width, out)
        _backyard(canvas, forester, kerb, out, along, angle, frontage, back + width, depth)


def _house(canvas: Canvas, middle, angle, length, width, out) -> None:
    rng, roof = canvas.rng, buildings.house_roof(canvas.rng)
    along = np.array([np.cos(angle), np.sin(angle)])
    if roof.shape in ("gable", "hip") and rng.random() < 0.45:  # an L or a T: a wing across the main roof
        wing = rng.uniform(0.42, 0.6) * length
        place = middle + along * rng.uniform(-0.5, 0.5) * (length - wing) + out * rng.choice((-1, 1)) * width * 0.35
        buildings.build(canvas, place, angle + np.pi / 2, width * 0.95, wing, roof)
    elif roof.shape == "flat" and rng.random() < 0.5:
        upper = buildings.Roof("flat", "felt", roof.colour * rng.uniform(0.8, 1.2), roof.eave + 2.8, roof.pitch)
        buildings.build(canvas, middle - along * length * 0.2, angle, length * 0.55, width * 0.9, upper)
    buildings.build(canvas, middle, angle, length, width, roof)


def _drive(canvas: Canvas, start, out, length: float) -> None:
    """A drive from the kerb; it is a road, whatever it is paved with."""
    rng = canvas.rng
    colours = rgb(118, 117, 116), rgb(166, 160, 150), rgb(150, 124, 110), rgb(170, 158, 136)
    angle, width = np.arctan2(out[1], out[0]), rng.uniform(2.8, 4.2)
    frame = canvas.frame(start + out * (length - 2.2) / 2, angle, (length + 2.2) / 2, width / 2)
    if frame is None:
        return
    inside = (np.abs(frame.u) < (length + 2.2) / 2) & (np.abs(frame.v) < width / 2)
    roads.pave(canvas, frame.at, inside & (canvas.classes[frame.at] == BACKGROUND), colours[rng.integers(4)])
    if rng.random() < 0.6:
        roads.car(canvas, start + out * max(3.0, length - 3), np.arctan2(out[1], out[0]))


def _backyard(canvas: Canvas, forester: Forester, kerb, out, along, angle, frontage, built, depth) -> None:
    rng = canvas.rng

    def spot(reach: float) -> np.ndarray:
        return kerb + out * rng.uniform(built + reach, depth - reach / 2) + along * rng.uniform(-0.4, 0.4) * frontage

    if rng.random() < 0.5:
        terrace = rgb(168, 158, 145) * rng.uniform(0.8, 1.1)
        canvas.box(kerb + out * (built + 1.5), angle, rng.uniform(4, 7), 3.4, terrace)
    place = spot(3.5)
    if rng.random() < 0.2 and canvas.free(place, angle, 10, 6):
        ground.pool(canvas, place, angle, rng.uniform(6, 8.5), rng.uniform(3.2, 4.4))
    place = spot(2.5)
    if rng.random() < 0.4 and canvas.free(place, angle, 5, 4):
        roof = buildings.Roof("gable", "tile", buildings.TILE[rng.integers(9)], 2.2, 0.4)
        buildings.build(canvas, place, angle, rng.uniform(3, 4.5), rng.uniform(2.4, 3.2), roof, clear_m=0.3)
    if rng.random() < 0.35:
        side = rng.choice((-0.5, 0.5)) * frontage
        forester.hedge(kerb + along * side + out, kerb + along * side + out * depth)
    if rng.random() < 0.3:
        forester.hedge(kerb - along * frontage / 2 + out * depth, kerb + along * frontage / 2 + out * depth)
    for _ in range(rng.integers(1, 5)):
        x, y = spot(1.0)
        if canvas.free((x, y), 0.0, 1.2, 1.2):
            forester.tree(x, y, rng.uniform(1.2, 4.0), conifer=rng.random() < 0.15)
    if rng.random() < 0.5:
        x, y = kerb + out * 2 + along * rng.uniform(-0.4, 0.4) * frontage
        if canvas.free((x, y), 0.0, 1.2, 1.2):
            forester.tree(x, y, rng.uniform(1.0, 2.8))


def farmstead(canvas: Canvas, forester: Forester, axis: Axes, u: float, v: float) -> None:
    """A house and barns around a yard, with silos and big old trees."""
    rng = canvas.rng
    turn = axis.angle + rng.normal(0, 0.1)
    middle = axis.at(u, v)
    local = Axes(middle, turn)
    ground.yard(canvas, middle, turn, rng.uniform(44, 56), rng.uniform(36, 44), str(rng.choice(["earth", "concrete"])))
    for du, dv, length, width in ((0, -15, 30, 12), (-17, 4, 18, 11), (17, 6, 22, 13), (2, 17, 15, 10)):
        place = local.at(du + rng.normal(0, 1), dv + rng.normal(0, 1))
        size = np.array([length, width]) * rng.uniform(0.85, 1.2, 2)
        side = turn + (np.pi / 2 if abs(du) > 10 else 0)
        if canvas.free(place, side, *(size + 1)):
            if length < 16:
                _house(canvas, place, side, *size, local.v)
            else:
                buildings.build(canvas, place, side, *size, buildings.barn_roof(rng))
    for i in range(rng.integers(0, 4)):
        place = local.at(-8 + 7 * i, -26)
        if canvas.free(place, 0.0, 7, 7):
            sheet = buildings.SHEET[rng.integers(3)]
            buildings.build_round(canvas, place, rng.uniform(2.2, 3.2), rng.uniform(7, 11), sheet)
    for _ in range(rng.integers(1, 4)):
        place = local.at(*rng.uniform(-8, 8, 2))
        if canvas.free(place, turn, 5, 3):
            roads.car(canvas, place, rng.uniform(0, 6.3))
    for _ in range(10):
        x, y = local.at(*rng.choice((-1, 1), 2) * rng.uniform(18, 30, 2))
        if canvas.free((x, y), 0.0, 3, 3):
            forester.tree(x, y, rng.uniform(2.5, 4.8))


def car_park(canvas: Canvas, axis: Axes, middle) -> None:
    """A car park is a road: an aisle between two rows of bays, some of them full."""
    rng = canvas.rng
    if not canvas.free(middle, axis.angle, 40, 19):
        return
    frame = canvas.frame(middle, axis.angle, 19.5, 8.5)
    if frame is None:
        return
    local = Axes(middle, axis.angle)
    inside = (np.abs(frame.u) < 19.5) & (np.abs(frame.v) < 8.5)
    roads.pave(canvas, frame.at, inside, np.full(3, rng.uniform(0.38, 0.5), np.float32))
    bays = inside & (np.abs(frame.v) > 3.4) & (np.mod(frame.u, 2.6) < 0.16)
    canvas.paint(frame.at, bays * 0.75, rgb(224, 224, 217))
    for u in np.arange(-18.2 + 1.3 - 0.08, 18, 2.6):
        for v in (-5.9, 5.9):
            if rng.random() < 0.6:
                roads.car(canvas, local.at(u, v), axis.angle + np.pi / 2)
    canvas.take(middle, axis.angle, 41, 19)
