"""The page's server: on this machine alone unless told otherwise, asking nothing of any other."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samseg.common.errors import InputError
from samseg.data.config import open_source
from samseg.inference.predictor import Predictor, find_device
from samseg.runs.folder import newest_run
from samseg.runs.load import load_run
from samseg.runs.sam import sam_named, tuned_sam

LOOPBACK, PORT, TRIED = "127.0.0.1", 7860, 100
SAMPLES = 20  # of a run's test images


@contextmanager
def serving(
    runs: list[Path],
    weights: str | None = None,
    host: str = LOOPBACK,
    port: int | None = None,
    device: str | None = None,
) -> Iterator[str]:
    """Serve the page, and yield its address.

    ``runs``: what is shown; none, and no ``weights``: the newest. ``weights``: a SAM to click with, as a file or a
    variant's name; None: that of the first run that trained one. ``port``: None takes a free one.

    Raises InputError for what cannot be loaded, a port that is in use, and where gradio is not installed.
    """
    if not runs and weights is None:
        runs = [_newest()]
    port = _free_port(host, port)
    with tempfile.TemporaryDirectory(prefix="samseg-demo-") as cache:  # readable by this user alone
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": cache, "HF_HUB_DISABLE_TELEMETRY": "1"}
        try:
            import gradio as gr
        except ImportError as error:
            raise InputError(f'samseg demo needs gradio ({error}): pip install "samseg-smp[demo]"') from None
        from samseg.demo.page import HOVER, STYLE, page
        from samseg.demo.uploads import UPLOAD_MB

        shown = _shown(runs, weights, device, Path(cache))
        blocks = page(shown).queue(default_concurrency_limit=1)
        theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        try:
            blocks.launch(
                server_name=host,
                server_port=port,
                max_file_size=f"{UPLOAD_MB}mb",
                theme=theme,
                css=STYLE,
                js=HOVER,
                footer_links=[],
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                ssr_mode=False,
            )
            yield f"http://{host}:{port}"
        finally:
            blocks.close()


def _shown(runs: list[Path], weights: str | None, device: str | None, cache: Path):
    from samseg.demo.page import Shown

    predictors, samples, sam = {}, {}, None
    for folder in runs:
        model, config = load_run(folder)
        sam = sam or tuned_sam(model, config.data.preprocessing)
        if config.task == "semantic":
            predictors[_name(folder, predictors)] = Predictor(model, config, device)
            samples = samples or _samples(config)
    if weights is not None:
        sam = sam_named(weights, "--weights")
    if sam is not None:
        sam.to(find_device(device))
    return Shown(predictors, samples, sam, cache)


def _newest() -> Path:
    try:
        return newest_run()
    except InputError:
        raise InputError(
            "there is no trained run under runs/ to show: samseg train quickstart makes one in minutes; or click with "
            "SAM itself: samseg demo --weights sam-vit_b"
        ) from None


def _samples(config) -> dict[str, Path]:
    """The first of the run's test images by name; none where they have gone."""
    try:
        source = open_source(config.data, "test")
        return {name: source.image_file(name) for name in list(source.names)[:SAMPLES]}
    except InputError:
        return {}


def _name(folder: Path, taken: dict) -> str:
    name = folder.resolve().name
    return name if name not in taken else str(folder)


def _free_port(host: str, port: int | None) -> int:
    for number in [port] if port is not None else range(PORT, PORT + TRIED):
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((host, number))
                return one.getsockname()[1]
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or error
    wanted = f"port {port}" if port is not None else f"ports {PORT} to {PORT + TRIED - 1}"
    raise InputError(f"{wanted} of {host} cannot be had ({reason}); name another with --port")
