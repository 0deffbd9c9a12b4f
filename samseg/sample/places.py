"""The kinds of place: where roads run, what stands along them, what grows between."""

import numpy as np

from samseg.sample import buildings, ground, plots, roads
from samseg.sample.canvas import Axes, Canvas
from samseg.sample.ground import Season
from samseg.sample.roads import Street, curve
from samseg.sample.trees import Forester


def suburb(canvas: Canvas, season: Season) -> None:
    """Parallel streets with pavements, houses in gardens on both sides, a park."""
    rng, forester = canvas.rng, Forester(canvas, season.autumn)
    axis = Axes(canvas.centre, rng.uniform(0, np.pi))
    ground.cover(canvas, season)
    bend, phase = rng.uniform(0, 9), rng.uniform(0, 6.3)
    spacing, first = rng.uniform(58, 66), rng.uniform(-15, 15)

    def wavy(u: float, v: float) -> np.ndarray:
        return axis.at(u, v + bend * np.sin(u / 45 + phase))

    reach, width = canvas.side_m * 0.75, rng.uniform(6.5, 8.5)
    rows = np.arange(first - spacing * (reach // spacing), reach, spacing)
    along = [Street(curve(*[wavy(u, v) for u in np.linspace(-reach, reach, 9)]), width, pavement=True) for v in rows]
    crossings = np.arange(rng.uniform(-40, 40) - 95 * 3, reach, rng.uniform(85, 110))
    across = [Street(curve(wavy(u, -reach), wavy(u, 0), wavy(u, reach)), width + 1, pavement=True) for u in crossings]
    for street in across:
        street.marked = rng.random() < 0.7
    roads.lay(canvas, along + across)
    if rng.random() < 0.5:
        park = axis.at(rng.uniform(-40, 40), first + spacing / 2)
        if canvas.free(park, axis.angle, 36, 22):
            ground.court(canvas, park, axis.angle)
    plots.houses(canvas, season, forester, along + across, lot=(14, 20), setback=(3.0, 7.0), vacancy=0.05)
    roads.traffic(canvas, along + across, 0.4)
    for street in along + across:
        if rng.random() < 0.6:
            verge = street.beside(rng.choice((-1, 1)) * (street.width_m / 2 + 2.4))
            forester.row(verge[::2], rng.uniform(7, 14), (1.8, 3.4))
    forester.scatter(50)


def village(canvas: Canvas, season: Season) -> None:
    """A winding main road, lanes off it, houses and barns of all ages, orchards, fields behind."""
    rng, forester = canvas.rng, Forester(canvas, season.autumn)
    axis = Axes(canvas.centre, rng.uniform(0, 2 * np.pi))
    ground.cover(canvas, season)
    ground.fields(canvas, axis.angle + rng.uniform(-0.3, 0.3), canvas.side_m * 0.75)
    reach = canvas.side_m * 0.75
    sway = rng.uniform(-22, 22, 4)
    bends = [axis.at(u, v) for u, v in zip(np.linspace(-reach, reach, 4), sway, strict=True)]
    main = Street(curve(*bends), 7.5, marked=True)
    lanes = []
    for side in (-1, 1):
        for share in ((0.5,), (0.4, 0.65))[rng.integers(2)]:
            i = int((share + rng.uniform(-0.08, 0.08)) * len(main.points))
            start, out = main.points[i], side * main.normals()[i]
            drift = np.array([-out[1], out[0]]) * rng.uniform(-25, 25)
            end = curve(start, start + 35 * out, start + 70 * out + drift, start + 150 * out + 2 * drift)
            lanes.append(Street(end, rng.uniform(4.5, 6), str(rng.choice(["asphalt", "gravel"]))))
    streets = sorted(lanes, key=lambda lane: lane.surface == "asphalt") + [main]
    roads.lay(canvas, streets)
    plots.houses(canvas, season, forester, streets[::-1], lot=(17, 27), setback=(1.5, 9.0), vacancy=0.1, barns=0.3)
    roads.traffic(canvas, streets, 0.15)
    forester.orchard(axis.shifted(*rng.choice((-1, 1), 2) * rng.uniform(35, 55, 2)))
    for _ in range(3):
        forester.wood(rng.uniform(0, canvas.side_m, 2), rng.uniform(10, 22), rng.uniform(0.5, 1.0))
    forester.scatter(45)


def industry(canvas: Canvas, season: Season) -> None:
    """Wide straight roads, halls in paved yards, car parks, containers and tanks."""
    rng, forester = canvas.rng, Forester(canvas, season.autumn)
    axis = Axes(canvas.centre, rng.uniform(0, np.pi))
    ground.cover(canvas, season)
    reach, v0, u0 = canvas.side_m * 0.75, rng.uniform(-35, 35), rng.uniform(-35, 35)
    lean = rng.uniform(-12, 12)
    main = Street(curve(axis.at(-reach, v0 - lean), axis.at(0, v0), axis.at(reach, v0 - lean)), 10.0, marked=True)
    cross = Street(curve(axis.at(u0, -reach), axis.at(u0, reach)), 8.5, marked=rng.random() < 0.5)
    roads.lay(canvas, [cross, main])
    for side_u in (-1, 1):
        for side_v in (-1, 1):
            middle = axis.at(u0 + side_u * 45, v0 + side_v * 42)
            surface = "concrete" if rng.random() < 0.7 else "earth"
            ground.yard(canvas, middle, axis.angle, rng.uniform(62, 76), rng.uniform(54, 66), surface)
    for _ in range(2):
        plots.car_park(canvas, axis, axis.at(u0 + rng.choice((-1, 1)) * 30, v0 + rng.choice((-1, 1)) * 27))
    for length, width, tries in ((54, 34, 40), (38, 24, 60), (24, 15, 60), (14, 10, 30)):
        for _ in range(tries):
            place = axis.at(*rng.uniform(-0.6, 0.6, 2) * canvas.side_m)
            turn = axis.angle + rng.choice((0, np.pi / 2))
            size = np.array([length, width]) * rng.uniform(0.8, 1.2, 2)
            if canvas.free(place, turn, *(size + 5)):
                roof = buildings.hall_roof(rng)
                buildings.build(canvas, place, turn, *size, roof, clear_m=3.0)
    for _ in range(10):
        place = axis.at(*rng.uniform(-0.6, 0.6, 2) * canvas.side_m)
        radius = rng.uniform(3, 6.5)
        if canvas.free(place, 0.0, 2 * radius + 2, 2 * radius + 2):
            buildings.build_round(canvas, place, radius, rng.uniform(5, 10), buildings.SHEET[rng.integers(4)])
            break
    for _ in range(14):
        place = axis.at(*rng.uniform(-0.6, 0.6, 2) * canvas.side_m)
        if canvas.free(place, axis.angle, 12, 18):
            ground.containers(canvas, place, axis.angle)
        elif canvas.free(place, axis.angle, 14, 5):
            roads.car(canvas, place, axis.angle, lorry=rng.random() < 0.6)
            canvas.take(place, axis.angle, 14, 4)
    roads.traffic(canvas, [main, cross], 0.3)
    for street in (main, cross):
        for side in (-1, 1):
            if rng.random() < 0.75:
                forester.row(street.beside(side * (street.width_m / 2 + 3.5))[::2], rng.uniform(7, 12), (1.4, 3.8))
    for _ in range(3):
        forester.wood(rng.uniform(0, canvas.side_m, 2), rng.uniform(8, 18), rng.uniform(0.4, 1.0))
    forester.scatter(25)


def farmland(canvas: Canvas, season: Season) -> None:
    """Fields and hedgerows, a lane and a track, a farmstead, a wood."""
    rng, forester = canvas.rng, Forester(canvas, season.autumn)
    axis = Axes(canvas.centre, rng.uniform(0, 2 * np.pi))
    ground.cover(canvas, season)
    reach = canvas.side_m * 0.75
    borders = ground.fields(canvas, axis.angle, reach)
    v0 = rng.uniform(-30, 30)
    lane = Street(
        curve(axis.at(-reach, v0), axis.at(-25, v0 + rng.uniform(-10, 10)), axis.at(30, v0), axis.at(reach, v0 + 20)),
        rng.uniform(5, 6.5), marked=rng.random() < 0.4,
    )  # fmt: skip
    u0, side = rng.uniform(-35, 35), rng.choice((-1, 1))
    fork = axis.at(u0, v0)
    track = Street(
        curve(fork, axis.at(u0 + 4, v0 + side * 40), axis.at(u0 + rng.uniform(-15, 15), v0 + side * reach * 1.5)),
        rng.uniform(3.2, 4.5), str(rng.choice(["gravel", "earth"])),
    )  # fmt: skip
    roads.lay(canvas, [track, lane])
    plots.farmstead(canvas, forester, axis, u0 + rng.choice((-1, 1)) * 30, v0 + side * 34)
    if rng.random() < 0.7:
        plots.farmstead(canvas, forester, axis, rng.uniform(-30, 30), v0 - side * 32)
    if rng.random() < 0.5:
        spot = axis.at(*rng.uniform(-60, 60, 2))
        if canvas.free(spot, 0.0, 24, 16):
            ground.pond(canvas, spot, rng.uniform(6, 11))
    for _ in range(rng.integers(0, 14)):
        spot = axis.at(*rng.uniform(-80, 80, 2))
        if canvas.free(spot, 0.0, 3, 3):
            ground.bale(canvas, spot)
    roads.traffic(canvas, [lane, track], 0.06)
    for start, end in borders:
        if rng.random() < 0.7:
            steps = max(2, int(np.linalg.norm(end - start)))
            forester.row(np.linspace(start, end, steps), rng.uniform(3, 8), (1.4, 3.4))
    for _ in range(rng.integers(1, 3)):
        forester.wood(axis.at(*rng.choice((-1, 1), 2) * rng.uniform(45, 85, 2)), rng.uniform(20, 38))
    forester.scatter(15)


PLACES = (suburb, industry, village, farmland)
