"""Trees: single crowns, rows, hedges and woods."""

import numpy as np

from samseg.sample.canvas import TREE, Axes, Canvas, rgb

BROADLEAF = [rgb(72, 94, 48), rgb(84, 104, 54), rgb(62, 84, 46), rgb(98, 112, 62), rgb(80, 92, 58)]
AUTUMN = BROADLEAF[:3] + [rgb(140, 108, 52), rgb(150, 88, 48), rgb(122, 96, 62), rgb(110, 104, 56)]
CONIFER = [rgb(50, 72, 48), rgb(56, 76, 56)]


class Forester:
    """Plants trees of one scene's season."""

    def __init__(self, canvas: Canvas, autumn: bool):
        self.canvas, self.rng = canvas, canvas.rng
        self.leaves = AUTUMN if autumn else BROADLEAF

    def tree(self, x: float, y: float, radius: float, *, conifer: bool = False, height: float | None = None, leaf=None):
        """One crown of ``radius`` metres, by default of a kind and height of its own; it hides what is lower."""
        canvas, rng = self.canvas, self.rng
        frame = canvas.frame((x, y), rng.uniform(0, 2 * np.pi), radius * 1.35, radius * 1.35)
        if frame is None:
            return
        distance = np.sqrt(frame.u**2 + frame.v**2) / radius
        turn = np.arctan2(frame.v, frame.u)
        lobes = sum(rng.uniform(0.02, 0.09) * np.cos(k * turn + rng.uniform(0, 6.3)) for k in (2, 3, 5))
        clump = canvas.texture("clump", frame.u.shape)
        if conifer:
            star = 0.08 * np.cos(int(rng.integers(7, 11)) * turn)
            fullness = 1 - distance + star + 0.05 * clump
            shape = fullness
        else:
            fullness = 1 - distance**2 + lobes + 0.16 * clump
            shape = np.sqrt(np.clip(fullness, 0, None))
        top = height if height is not None else radius * rng.uniform(1.5, 2.1) + 2.0
        surface = top * (0.35 + 0.65 * shape) + 0.16 * clump * min(1.0, radius / 2)
        leaves = [leaf] if leaf is not None else CONIFER if conifer else self.leaves
        colour = leaves[rng.integers(len(leaves))] * rng.uniform(0.85, 1.15)
        colour = colour * rng.uniform(0.95, 1.05, 3).astype(np.float32)
        tone = 0.62 + 0.42 * shape + 0.13 * clump + 0.07 * canvas.texture("grain", frame.u.shape)
        canvas.paint(frame.at, fullness > 0.06, colour * tone[..., None], klass=TREE, height=surface)

    def row(self, points: np.ndarray, spacing_m: float, radius: tuple[float, float]) -> None:
        """Trees along a line of points (K, 2) one metre apart, where the ground is free."""
        conifer = self.rng.random() < 0.2
        spots = points[:: max(1, round(spacing_m))]
        for x, y in spots + self.rng.normal(0, 0.12 * spacing_m, spots.shape):
            if self._is_free(x, y) and self.rng.random() < 0.85:
                self.tree(x, y, self.rng.uniform(*radius), conifer=conifer)

    def hedge(self, start, end) -> None:
        """A clipped hedge from one point to another, breaking off at anything built."""
        start, end, leaf = np.asarray(start), np.asarray(end), BROADLEAF[self.rng.integers(len(BROADLEAF))]
        steps = max(2, round(float(np.linalg.norm(end - start)) / 0.8))
        for t in np.linspace(0, 1, steps):
            x, y = start + t * (end - start)
            if self._is_free(x, y):
                self.tree(x, y, self.rng.uniform(0.8, 1.05), height=1.7, leaf=leaf)

    def wood(self, centre, reach_m: float, density: float = 1.0, conifer_share: float = 0.2) -> None:
        """A wood around ``centre``, ragged at its edge; ``density`` 1 closes the canopy."""
        for _ in range(round(0.11 * density * reach_m**2)):
            angle, distance = self.rng.uniform(0, 2 * np.pi), np.sqrt(self.rng.random())
            x, y = np.asarray(centre) + reach_m * distance * np.array([np.cos(angle), np.sin(angle)])
            if self._is_free(x, y) and self.rng.random() > (distance - 0.75) * 3:
                self.tree(x, y, self.rng.uniform(2.0, 4.6), conifer=self.rng.random() < conifer_share)

    def orchard(self, axis: Axes) -> None:
        """Small trees in rows around the middle of ``axis``."""
        for u in np.arange(-18, 18, 5.5):
            for v in np.arange(-14, 14, 5.0):
                x, y = axis.at(u, v)
                if self._is_free(x, y) and self.rng.random() < 0.92:
                    self.tree(x, y, self.rng.uniform(1.3, 1.9))

    def scatter(self, count: int) -> None:
        """Trees anywhere."""
        for x, y in self.rng.uniform(0, self.canvas.side_m, (count, 2)):
            if self._is_free(x, y):
                self.tree(x, y, self.rng.uniform(1.2, 4.2), conifer=self.rng.random() < 0.15)

    def _is_free(self, x: float, y: float) -> bool:
        """Whether a trunk fits: the crown may hang over roads and roofs."""
        return self.canvas.free((x, y), 0.0, 1.2, 1.2)
