"""Charts as SVG, drawn here so that they are there without a script; the page's script only follows the pointer."""

import json
import math
from collections.abc import Iterator

from markupsafe import Markup, escape

from samseg.tasks.sections import Chart

WIDTH, HEIGHT = 520, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40  # px around the plot
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito (2008)
TICKS = 5


def svg(chart: Chart) -> Markup:
    """The chart as an SVG element, whose ``data-points`` hold what is under the pointer, for the script."""
    points = [(x, y) for line in chart.series.values() for x, y in line if y is not None]
    if not points:
        return Markup("<p class='note'>no values</p>")
    x_scale = _Scale([x for x, _ in points], (LEFT, WIDTH - RIGHT), chart.diagonal)
    y_scale = _Scale([y for _, y in points], (HEIGHT - BOTTOM, TOP), chart.unit)
    parts = [*_grid(chart, x_scale, y_scale)]
    if chart.diagonal:
        parts.append(
            f"<line class='diagonal' x1='{x_scale(0)}' y1='{y_scale(0)}' x2='{x_scale(1)}' y2='{y_scale(1)}'/>"
        )
    hover = []
    for number, (name, line) in enumerate(chart.series.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [(x_scale(x), y_scale(y), x, y) for x, y in line if y is not None]
        path = "M" + "L".join(f"{x},{y}" for x, y, _, _ in placed)
        parts.append(f"<path d='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        if len(placed) < 60:
            parts += [f"<circle cx='{x}' cy='{y}' r='2.6' fill='{colour}'/>" for x, y, _, _ in placed]
        hover.append({"name": name, "colour": colour, "points": placed})
    data = escape(json.dumps({"x": chart.x, "top": TOP, "bottom": HEIGHT - BOTTOM, "lines": hover}))
    body = "".join(parts)
    label = escape(f"{chart.title}: {chart.y} over {chart.x}")
    return Markup(
        f"<svg class='chart' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{label}' data-points='{data}'>"
        f"{body}</svg>"
    )


def legend(chart: Chart) -> list[tuple[str, str]]:
    """(name, colour) of each line."""
    return [(name, COLOURS[number % len(COLOURS)]) for number, name in enumerate(chart.series)]


class _Scale:
    """Values onto pixels, with round ticks; ``unit``: the scale is 0 to 1 whatever the values are."""

    def __init__(self, values: list[float], pixels: tuple[float, float], unit: bool):
        low, high = (0.0, 1.0) if unit else (min(values), max(values))
        if low == high:
            low, high = low - abs(low) / 2 - 1e-9, high + abs(high) / 2 + 1e-9
        step = 10 ** math.floor(math.log10((high - low) / TICKS))
        step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= TICKS)
        self.low = low if unit else math.floor(low / step) * step
        self.high = high if unit else math.ceil(high / step) * step
        count = round((self.high - self.low) / step)
        self.ticks = [self.low + index * step for index in range(count + 1)]
        self.pixels = pixels

    def __call__(self, value: float) -> float:
        start, stop = self.pixels
        return round(start + (value - self.low) / (self.high - self.low) * (stop - start), 1)


def _grid(chart: Chart, x_scale: _Scale, y_scale: _Scale) -> Iterator[str]:
    for tick in y_scale.ticks:
        y = y_scale(tick)
        yield f"<line class='grid' x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y}' y2='{y}'/>"
        yield f"<text x='{LEFT - 6}' y='{y + 4}' text-anchor='end'>{tick:.4g}</text>"
    for tick in x_scale.ticks:
        yield f"<text x='{x_scale(tick)}' y='{HEIGHT - BOTTOM + 16}' text-anchor='middle'>{tick:.4g}</text>"
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f"<text x='{middle}' y='{HEIGHT - 6}' text-anchor='middle'>{escape(chart.x)}</text>"
