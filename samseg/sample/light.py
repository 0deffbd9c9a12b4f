"""Sun, shadow and camera: from a painted canvas to a photograph."""

import cv2
import numpy as np

from samseg.sample.canvas import Canvas

SHADOW_REACH_M = 32.0


def photograph(canvas: Canvas, rng: np.random.Generator, margin_px: int, supersample: int) -> np.ndarray:
    """Light the canvas (N, N) and photograph it: (S, S, 3) uint8, where S = (N - 2 margin_px) / supersample."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(33, 58))
    towards_sun = np.array([np.cos(azimuth), np.sin(azimuth)])
    warmth = rng.uniform(-0.03, 0.06)
    sun = np.array([1 + warmth, 1.0, 1 - warmth], np.float32) * rng.uniform(0.68, 0.8)
    sky = np.array([0.88, 1.0, 1.2], np.float32) * (1 - sun[1])

    lambert = _lambert(canvas, towards_sun, elevation)
    lambert *= 1 - _shadow(canvas, towards_sun, np.tan(elevation))
    light = lambert[..., None] * sun + _open_sky(canvas)[..., None] * sky
    light *= canvas.albedo**2  # gamma 2: light adds up in linear units
    light = light[margin_px:-margin_px, margin_px:-margin_px]
    side_px = light.shape[0] // supersample
    photo = cv2.resize(light, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return _develop(np.sqrt(np.maximum(photo, 0)), rng)


def _lambert(canvas: Canvas, towards_sun: np.ndarray, elevation: float) -> np.ndarray:
    """Direct light on every surface (N, N); level ground has 1."""
    slope_x, slope_y = (_slope(canvas.height, axis) * np.float32(canvas.px_per_m) for axis in (1, 0))
    sun_x, sun_y = np.float32(towards_sun / np.tan(elevation))
    facing = 1 - slope_x * sun_x - slope_y * sun_y
    return np.clip(facing / np.sqrt(1 + slope_x**2 + slope_y**2), 0, 1.7)


def _slope(height: np.ndarray, axis: int) -> np.ndarray:
    """Slope of the surface along an axis: the gentler of both sides, so that a roof's edge is no steep face."""
    step = np.diff(height, axis=axis)
    pad = [(0, 0), (0, 0)]
    pad[axis] = (1, 1)
    step = np.pad(step, pad)
    before, after = (step[:-1], step[1:]) if axis == 0 else (step[:, :-1], step[:, 1:])
    return np.where(np.abs(before) < np.abs(after), before, after)


def _shadow(canvas: Canvas, towards_sun: np.ndarray, rise_per_m: float) -> np.ndarray:
    """Cast shadow (N, N), 0 lit to 1 dark.

    A point is dark where something towards the sun stands above the ray. The highest obstacle within 2k steps follows
    from that within k steps, so the reach doubles with each pass.
    """
    bilinear = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    horizon, steps_px = canvas.height.copy(), 1.0
    while steps_px <= SHADOW_REACH_M * canvas.px_per_m:
        dx, dy = towards_sun * steps_px
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        further = cv2.warpAffine(horizon, shift, horizon.shape[::-1], flags=bilinear, borderMode=cv2.BORDER_REPLICATE)
        horizon = np.maximum(horizon, further - np.float32(steps_px / canvas.px_per_m * rise_per_m))
        steps_px *= 2
    dark = np.clip((horizon - canvas.height - 0.12) / 0.35, 0, 1)
    return cv2.blur(dark, (3, 3))


def _open_sky(canvas: Canvas) -> np.ndarray:
    """How much of the sky a point sees (N, N): less beside walls and between crowns."""
    side = 2 * round(1.6 * canvas.px_per_m) + 1
    surroundings = cv2.blur(cv2.blur(canvas.height, (side, side)), (side, side))
    return 1 - np.clip((surroundings - canvas.height) / 9, 0, 0.5)


def _develop(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lens, haze, exposure and sensor noise: (S, S, 3) float32 sRGB to uint8."""
    photo = cv2.GaussianBlur(photo, (0, 0), rng.uniform(0.35, 0.6))
    grey = photo.mean(axis=2, keepdims=True)
    photo = grey + (photo - grey) * np.float32(rng.uniform(0.85, 1.2))
    haze = np.float32(rng.uniform(0, 0.12))
    photo = photo * (1 - haze) + haze * np.array([0.72, 0.77, 0.84], np.float32)
    balance = rng.uniform(0.96, 1.04, 3).astype(np.float32)
    photo = photo * balance * np.float32(rng.uniform(1.02, 1.2))
    photo += rng.standard_normal(photo.shape, np.float32) * np.float32(rng.uniform(0.006, 0.018))
    return np.round(np.clip(photo, 0, 1) * 255).astype(np.uint8)
