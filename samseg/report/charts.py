"""Charts as SVG, drawn here so that they are there without a script; the page's script only follows the pointer."""

import json
import math
from collections.abc import Iterator

from markupsafe import Markup, escape

from samseg.tasks.sections import Chart, Scatter

WIDTH, HEIGHT = 520, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40  # px around the plot
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito (2008)
TICKS = 5
LETTER, LINE = 6, 13  # px: the width of a letter in a label, the height of a label


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
        dashes = "" if number < len(COLOURS) else " stroke-dasharray='5 3'"
        parts.append(f"<path d='{path}' fill='none' stroke='{colour}' stroke-width='2'{dashes}/>")
        if len(placed) < 60:
            parts += [f"<circle cx='{x}' cy='{y}' r='2.6' fill='{colour}'/>" for x, y, _, _ in placed]
        hover.append({"name": name, "colour": colour, "points": placed})
    data = escape(json.dumps({"x": chart.x, "top": TOP, "bottom": HEIGHT - BOTTOM, "lines": hover}))
    return _element(chart, parts, f" data-points='{data}'")


def scatter(chart: Scatter) -> Markup:
    """The points as an SVG element: each with its bounds, and its name beside it where there is room."""
    bounds = [bound for point in chart.points for bound in (point.y, *(point.bounds or ()))]
    x_scale = _LogScale([point.x for point in chart.points], (LEFT + 16, WIDTH - RIGHT - 16))
    y_scale = _Scale(bounds, (HEIGHT - BOTTOM, TOP), False)
    colours, parts = _groups(chart), [*_grid(chart, x_scale, y_scale)]
    placed = [(y_scale(point.y), x_scale(point.x), point) for point in sorted(chart.points, key=lambda point: -point.y)]
    taken = [(x - LETTER, x + LETTER, y + 4) for y, x, _ in placed]  # left, right and base of each point and label
    for y, x, point in placed:
        colour, name = colours[point.group], escape(point.name)
        if point.bounds:
            low, high = map(y_scale, point.bounds)
            parts.append(f"<line x1='{x}' x2='{x}' y1='{low}' y2='{high}' stroke='{colour}' stroke-opacity='.45'/>")
        parts.append(f"<circle cx='{x}' cy='{y}' r='4.5' fill='{colour}'><title>{name}: {point.y:.3f}</title></circle>")
        width, base = LETTER * len(point.name), y + 4
        left = x + 9 if x + 9 + width < WIDTH else x - 9 - width
        while any(left < other and begin < left + width and abs(base - at) < LINE for begin, other, at in taken):
            base += 1
        taken.append((left, left + width, base))
        parts.append(f"<text style='fill: {colour}' x='{left}' y='{base}'>{name}</text>")
    return _element(chart, parts)


def _element(chart: Chart | Scatter, parts: list[str], data: str = "") -> Markup:
    label = escape(f"{chart.title}: {chart.y} over {chart.x}")
    body = "".join(parts)
    return Markup(
        f"<svg class='chart' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{label}'{data}>{body}</svg>"
    )


def legend(chart: Chart | Scatter) -> list[tuple[str, str]]:
    """(name, background of its mark in CSS) of each line, or of each group of points; dashed as the line is."""
    marks = []
    for number, name in enumerate(chart.series if isinstance(chart, Chart) else _groups(chart)):
        colour = COLOURS[number % len(COLOURS)]
        dashes = f"repeating-linear-gradient(90deg, {colour} 0 4px, transparent 4px 6px)"
        marks.append((name, colour if number < len(COLOURS) else dashes))
    return marks


def _groups(chart: Scatter) -> dict[str, str]:
    """The colour of each group."""
    names = dict.fromkeys(point.group for point in chart.points)
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}


class _Scale:
    """Values onto pixels, with round ticks, whole ones for numbers; ``unit``: 0 to 1 whatever the values are."""

    def __init__(self, values: list[float], pixels: tuple[float, float], unit: bool):
        low, high = (0.0, 1.0) if unit else (min(values), max(values))
        if low == high:
            low, high = low - abs(low) / 2 - 1e-9, high + abs(high) / 2 + 1e-9
        step = 10 ** math.floor(math.log10((high - low) / TICKS))
        step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= TICKS)
        if not unit and all(value == round(value) for value in values):
            step = max(step, 1)
        self.low = low if unit else math.floor(low / step) * step
        self.high = high if unit else math.ceil(high / step) * step
        count = round((self.high - self.low) / step)
        self.ticks = [self.low + index * step for index in range(count + 1)]
        self.pixels = pixels

    def __call__(self, value: float) -> float:
        start, stop = self.pixels
        return round(start + (value - self.low) / (self.high - self.low) * (stop - start), 1)


class _LogScale:
    """Positive values onto pixels by their logarithms, with round ticks."""

    def __init__(self, values: list[float], pixels: tuple[float, float]):
        self.low, self.high = min(values) / 1.2, max(values) * 1.2
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        span = self.high / self.low
        fine = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)
        coarse = (1, 1.5, 2, 3, 4, 5, 6, 8) if span < 6 else (1, 2, 5) if span < 100 else (1,)
        factors = fine if span < 2 else coarse
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        self.ticks = [tick for tick in ticks if self.low <= tick <= self.high] or [min(values)]
        self.pixels = pixels

    def __call__(self, value: float) -> float:
        start, stop = self.pixels
        return round(start + math.log(value / self.low) / math.log(self.high / self.low) * (stop - start), 1)


def _grid(chart: Chart | Scatter, x_scale: _Scale | _LogScale, y_scale: _Scale) -> Iterator[str]:
    for tick in y_scale.ticks:
        y = y_scale(tick)
        yield f"<line class='grid' x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y}' y2='{y}'/>"
        yield f"<text x='{LEFT - 6}' y='{y + 4}' text-anchor='end'>{tick:.4g}</text>"
    for tick in x_scale.ticks:
        yield f"<text x='{x_scale(tick)}' y='{HEIGHT - BOTTOM + 16}' text-anchor='middle'>{tick:.4g}</text>"
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f"<text x='{middle}' y='{HEIGHT - 6}' text-anchor='middle'>{escape(chart.x)}</text>"
