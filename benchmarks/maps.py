"""Class maps of large rasters: time, peak memory and the network's share, beside a plain loop over windows.

Each measurement is a process of its own. The rasters are made for it: RGB, tiled, of one patch repeated. With
``--encoder`` the network is a Unet on it, random; without, one 1 x 1 convolution, so that what is measured is not the
network. The plain loop reads a window, calls the network and writes the window's classes, one after the other, without
blending: what one writes first with rasterio. terratorch and geoai, where installed, are their tiled inference.
"""

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.timed import NetworkTime, timed

REPOSITORY = Path(__file__).parents[1]
TILE = 1024
WIDE_ROWS = 3000
NODATA = {"sparse": "99.9 % nodata", "wide": f"nodata below row {WIDE_ROWS}"}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="+", default=[6000, 20000], help="pixels a side of the rasters")
    parser.add_argument("--sparse", type=int, metavar="SIZE", help="also a raster of SIZE a side, 99.9 %% of it nodata")
    parser.add_argument(
        "--wide",
        type=int,
        metavar="SIZE",
        help=f"also a raster of SIZE a side, nodata but for {WIDE_ROWS} rows",
    )
    parser.add_argument("--encoder", help="sam-vit_b ...; default: one convolution")
    parser.add_argument("--peers", nargs="+", choices=("plain", "terratorch", "geoai"), default=[], help="on --sizes")


def run(args: Namespace) -> None:
    rows = [["raster", "way", "s", "peak MB", "network %", "pixels written %"]]
    with tempfile.TemporaryDirectory() as folder:
        rasters = [(size, "") for size in args.sizes]
        rasters += [(size, kind) for size, kind in ((args.wide, "wide"), (args.sparse, "sparse")) if size]
        for size, kind in rasters:
            raster = Path(folder) / f"{size}.tif"
            write_raster(raster, size, kind)
            for way in ("samseg", *(() if kind else args.peers)):
                found = measured(way, raster, Path(folder) / str(len(rows)), args.encoder)
                name = f"{size} x {size}" + (f", {NODATA[kind]}" if kind else "")
                cells = (
                    f"{found['seconds']:.1f}",
                    f"{found['peak']:.0f}",
                    *(f"{100 * found[k]:.1f}" for k in ("network", "written")),
                )
                rows.append([name, way, *cells])
            raster.unlink()
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)))


def write_raster(path: Path, size: int, kind: str = "") -> None:
    """One patch of 512 pixels, repeated; "sparse": in the middle 3.2 % of each side alone, "wide": at the top alone."""
    import rasterio
    from rasterio.windows import Window

    patch = np.random.default_rng(0).integers(1, 255, (3, 64, 64), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    layout = dict(driver="GTiff", tiled=True, blockxsize=512, blockysize=512, compress="deflate", sparse_ok=True)
    shape = dict(height=size, width=size, count=3, dtype="uint8", nodata=0, bigtiff="if_safer")
    with rasterio.open(
        path, "w", crs="EPSG:32616", transform=rasterio.Affine(1, 0, 500000, 0, -1, 4000000), **layout, **shape
    ) as raster:
        for top in range(0, size, 512):
            for left in range(0, size, 512):
                middle = max(abs(top - size / 2), abs(left - size / 2)) < 0.016 * size
                if not kind or (middle if kind == "sparse" else top < WIDE_ROWS):
                    height, width = min(512, size - top), min(512, size - left)
                    raster.write(patch[:, :height, :width], window=Window(left, top, width, height))


def measured(way: str, raster: Path, out: Path, encoder: str | None) -> dict[str, float]:
    command = [
        sys.executable,
        "-c",
        "from benchmarks.maps import measure; measure()",
        way,
        str(raster),
        str(out),
        encoder or "",
    ]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _network(encoder: str) -> nn.Module:
    torch.manual_seed(0)
    if not encoder:
        return nn.Conv2d(3, 2, 1).eval()
    import samseg

    return samseg.create_model("unet", encoder, encoder_weights=None, classes=2).eval()


def _samseg(network: nn.Module, raster: Path, out: Path) -> None:
    from samseg.data.config import DataConfig, complete_data
    from samseg.inference.predictor import Predictor
    from samseg.maps.options import MapOptions
    from samseg.maps.run import MapRun, infer_map
    from samseg.runs.config.schema import RunConfig

    config = RunConfig(data=complete_data(DataConfig(classes={"ground": 0, "roof": 1}, image_size=TILE)))
    infer_map(MapRun(Predictor(network, config, "cpu"), Path(__file__)), raster, out, MapOptions())


def _plain(network: nn.Module, raster: Path, out: Path) -> None:
    import rasterio
    from rasterio.windows import Window

    out.mkdir()
    step = TILE - TILE // 4
    with rasterio.open(raster) as read:
        profile = read.profile | dict(count=1, nodata=255)
        with rasterio.open(out / raster.name, "w", **profile) as written, torch.inference_mode():
            for top in range(0, read.height, step):
                for left in range(0, read.width, step):
                    window = Window(left, top, min(TILE, read.width - left), min(TILE, read.height - top))
                    pixels = torch.from_numpy(read.read(window=window)).float() / 255
                    padding = (0, TILE - pixels.shape[2], 0, TILE - pixels.shape[1])
                    answer = network(nn.functional.pad(pixels, padding)[None])[0]
                    classes = answer[:, : window.height, : window.width].softmax(0).argmax(0).byte().numpy()
                    written.write(classes, 1, window=window)


def _terratorch(network: nn.Module, raster: Path, out: Path) -> None:
    """As its inference task does: the raster whole in memory, then its tiles."""
    import rasterio
    from terratorch.tasks.tiled_inference import tiled_inference

    out.mkdir()
    with rasterio.open(raster) as read:
        pixels, profile = torch.from_numpy(read.read()).float()[None] / 255, read.profile
    answer = tiled_inference(network, pixels, crop=TILE, stride=TILE - TILE // 4, delta=8, batch_size=1)
    with rasterio.open(out / raster.name, "w", **profile | dict(count=1, nodata=255)) as written:
        written.write(answer[0].argmax(0).byte().numpy(), 1)


def _geoai(network: nn.Module, raster: Path, out: Path) -> None:
    from geoai.inference import predict_geotiff

    predict_geotiff(
        network, str(raster), str(out / raster.name), TILE, TILE // 4, batch_size=1, num_classes=2, device="cpu",
        output_dtype="uint8", output_nodata=255, postprocess_fn=lambda scores: scores.argmax(0), verbose=False,
    )  # fmt: skip


WAYS = {"samseg": _samseg, "plain": _plain, "terratorch": _terratorch, "geoai": _geoai}


def measure() -> None:
    """What a process of `measured` does: prints its figures as JSON."""
    import rasterio

    way, raster, out, encoder = sys.argv[1:]
    network = _network(encoder)
    inside = NetworkTime(network)
    seconds = timed(lambda: WAYS[way](network, Path(raster), Path(out)))
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    with rasterio.open(Path(out) / Path(raster).name) as made, rasterio.open(raster) as read:
        written = wanted = 0
        for _, window in made.block_windows(1):
            here = read.read(1, window=window) != 0
            wanted += here.sum()
            written += (made.read(1, window=window)[here] != 255).sum()
    share = {"network": inside.seconds / seconds, "written": written / max(1, wanted)}
    print(json.dumps({"seconds": seconds, "peak": int(peak.split()[1]) / 1024, **share}, default=float))
