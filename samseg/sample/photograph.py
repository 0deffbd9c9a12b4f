"""Sun, shadow and camera: from colours and heights to a photograph."""

import cv2
import numpy as np

SHADOW_M = 25.0  # how far the longest shadow reaches


def photograph(
    colour: np.ndarray, height: np.ndarray, px_per_m: float, rng: np.random.Generator, inner: tuple, size: int
) -> np.ndarray:
    """Light a surface, cut out ``inner``, and average it down: (size, size, 3) uint8.

    Args:
        colour: sRGB (N, N, 3) float32 under full light.
        height: (N, N) float32, metres.
    """
    azimuth, rise = rng.uniform(0, 2 * np.pi), np.tan(np.radians(rng.uniform(36, 56)))
    sun = np.array([np.cos(azimuth), np.sin(azimuth)], np.float32)  # towards it, over (x, y)
    slope_x, slope_y = (_slope(height, axis) * px_per_m for axis in (1, 0))
    facing = (1 - (slope_x * sun[0] + slope_y * sun[1]) / np.float32(rise)) / np.sqrt(1 + slope_x**2 + slope_y**2)
    direct = np.clip(facing, 0, 1.7) * (1 - _shadow(height, sun, rise, px_per_m))
    side = 2 * round(1.6 * px_per_m) + 1
    hidden = np.clip((cv2.blur(cv2.blur(height, (side, side)), (side, side)) - height) / 9, 0, 0.5)  # sky behind walls
    warmth = rng.uniform(-0.03, 0.06)
    light = direct[..., None] * np.array([0.75 + warmth, 0.75, 0.75 - warmth], np.float32)
    light += (1 - hidden)[..., None] * np.array([0.22, 0.25, 0.3], np.float32)
    light = (light * colour**2)[inner]  # gamma 2: light adds up in linear units
    photo = np.sqrt(np.maximum(cv2.resize(light, (size, size), interpolation=cv2.INTER_AREA), 0))
    photo = cv2.GaussianBlur(photo, (0, 0), 0.5) * rng.uniform(0.95, 1.2) * rng.uniform(0.95, 1.05, 3)
    photo += rng.normal(0, rng.uniform(0.006, 0.016), photo.shape)
    return np.round(np.clip(photo, 0, 1) * 255).astype(np.uint8)


def _slope(height: np.ndarray, axis: int) -> np.ndarray:
    """Slope of the surface along an axis: the gentler of both sides, so that a roof's edge is no steep face."""
    step = np.diff(height, axis=axis, prepend=np.take(height, [0], axis), append=np.take(height, [-1], axis))
    before, after = (step[:-1], step[1:]) if axis == 0 else (step[:, :-1], step[:, 1:])
    return np.where(np.abs(before) < np.abs(after), before, after)


def _shadow(height: np.ndarray, sun: np.ndarray, rise: float, px_per_m: float) -> np.ndarray:
    """Cast shadow (N, N), 0 lit to 1 dark: a point is dark where something towards the sun stands above the ray.

    The highest obstacle within 2k metres follows from that within k metres, so the reach doubles with each pass.
    """
    horizon, metres = height, 1 / px_per_m
    while metres < SHADOW_M:
        shift = np.hstack([np.eye(2, dtype=np.float32), (sun * metres * px_per_m)[:, None]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        further = cv2.warpAffine(horizon, shift, height.shape, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        horizon, metres = np.maximum(horizon, further - np.float32(metres * rise)), 2 * metres
    return cv2.blur(np.clip((horizon - height - 0.12) / 0.35, 0, 1), (3, 3))
