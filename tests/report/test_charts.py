"""Charts as SVG: what can be read off them."""

import re

from samseg.report.charts import scatter, svg
from samseg.tasks.sections import Chart, Point, Scatter


def test_labels_of_points_at_one_place_stand_under_each_other():
    points = [Point(f"method {n}", f"encoder {n % 2}", 2.0, 0.5 + n / 1000, (0.4, 0.6)) for n in range(4)]
    drawn = scatter(Scatter("Cost", "seconds", "IoU", points))
    bases = sorted(float(y) for y in re.findall(r"y='([\d.]+)'>method", drawn))
    assert len(bases) == 4 and all(b - a >= 13 for a, b in zip(bases, bases[1:]))
    assert (
        drawn.count("<circle") == 4 == drawn.count("stroke-opacity") and len(set(re.findall("fill='#.{6}", drawn))) == 2
    )


def test_a_label_covers_no_other_point():
    drawn = scatter(Scatter("Cost", "seconds", "IoU", [Point("frozen", "a", x, 0.5) for x in (2.0, 2.1, 9.0)]))
    [first, second, _] = re.findall(r"circle cx='([\d.]+)' cy='([\d.]+)'", drawn)
    label = re.search(r"x='([\d.]+)' y='([\d.]+)'>frozen", drawn)
    assert float(label[1]) < float(second[0]) < float(label[1]) + 36, "beside its point it would"
    assert float(label[2]) - float(first[1]) > 13


def test_epochs_are_whole_numbers():
    drawn = svg(Chart("Loss", "epoch", "loss", {"loss": [(1, 0.9), (2, 0.5), (3, 0.4)]}))
    assert re.findall(r"text-anchor='middle'>([\d.]+)<", drawn) == ["1", "2", "3"]


def test_costs_stand_by_their_logarithm():
    seconds = [0.01, 0.1, 1, 10]
    drawn = scatter(Scatter("Cost", "s", "IoU", [Point("a", "b", x, 0.5) for x in seconds]))
    places = [float(x) for x in re.findall(r"circle cx='([\d.]+)'", drawn)]
    steps = [b - a for a, b in zip(places, places[1:])]
    assert max(steps) - min(steps) < 0.3 and steps[0] > 50
    assert [text in drawn for text in (">0.01<", ">0.1<", ">1<", ">10<")] == [True] * 4


def test_costs_that_are_alike_have_ticks_between_them():
    drawn = scatter(Scatter("Cost", "s", "IoU", [Point("a", "b", x, 0.5) for x in (1.36, 1.41)]))
    assert re.findall(r"text-anchor='middle'>([\d.]+)<", drawn) == ["1.2", "1.4", "1.6"]
