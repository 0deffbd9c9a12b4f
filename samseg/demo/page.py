"""The page: its elements and their events."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from samseg.common.errors import InputError
from samseg.data.raster import Raster, as_picture
from samseg.demo.classes import Answer, answer, blended, difference_map, legend, uncertainty_map, values
from samseg.demo.clicks import BOX, NEGATIVE, POSITIVE, Clicks
from samseg.demo.uploads import UPLOAD_MB, read_upload
from samseg.inference.predictor import Predictor
from samseg.models.sam.contract import PromptableSam
from samseg.predict.draw import save_class_map, save_picture

WAYS = {"as trained": None, "tiles at its own resolution": True, "whole, at the network's size": False}
OPACITY = 0.5
DOWNLOADS = ("classes.png", "overlay.jpg")
NOBODY = "nothing"
KEPT_SECONDS = 1800  # results of a visitor are deleted after that, or when the page is closed

STYLE = """
#status, #pixel, #clicks-status { font-size: 1.05rem; }
#pixel { min-height: 1.6rem; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1rem; padding: .5rem; }
#first, #second { cursor: crosshair; }
#under { position: fixed; z-index: 9999; pointer-events: none; padding: .25rem .6rem; border-radius: 4px;
         background: rgb(20 22 26 / .88); color: white; font: .9rem system-ui, sans-serif; white-space: nowrap; }
#under[hidden] { display: none; }
@media (max-width: 640px) { /* a phone: the picture before what changes it */
  .left { display: contents; }
  .left > * { flex: 1 0 100%; }
  .left > .after { order: 1; }
}
"""
HOVER = (Path(__file__).parent / "hover.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Shown:
    """What the page offers: runs by name, their test images by name, and SAM for clicks."""

    predictors: dict[str, Predictor]
    samples: dict[str, Path]
    sam: PromptableSam | None
    cache: Path  # where files for visitors are written


def page(shown: Shown) -> gr.Blocks:
    """Build the page."""
    with gr.Blocks(title="samseg", analytics_enabled=False, delete_cache=(300, KEPT_SECONDS)) as blocks:
        gr.Markdown("## samseg")
        if shown.predictors:
            with gr.Tab("Classes"):
                _classes_tab(shown)
        if shown.sam is not None:
            with gr.Tab("Clicks"):
                _clicks_tab(shown)
    return blocks


def _classes_tab(shown: Shown) -> None:
    runs = list(shown.predictors)
    image = gr.State(None, time_to_live=KEPT_SECONDS)
    kept = gr.State([], time_to_live=KEPT_SECONDS)  # the answers on the page: one, or two to compare
    with gr.Row():
        with gr.Column(scale=1, min_width=280, elem_classes="left"):
            upload, sample = _inputs(shown, "file")
            with gr.Column(elem_classes="after"):
                run = gr.Dropdown(runs, value=runs[0], label="Run", visible=len(runs) > 1)
                other = gr.Dropdown([NOBODY, *runs], value=NOBODY, label="Beside it", visible=len(runs) > 1)
                way = gr.Radio(list(WAYS), value="as trained", label="The network sees the image")
                opacity = gr.Slider(0, 1, OPACITY, step=0.05, label="Opacity of the classes")
            key = gr.HTML()
            with gr.Row(elem_classes="after"):
                files = [gr.DownloadButton(f"Download {name}", visible=False) for name in DOWNLOADS]
        with gr.Column(scale=3, min_width=280):
            status = gr.Markdown("Upload an image, or choose one.", elem_id="status")
            pixel = gr.Markdown("", elem_id="pixel")
            with gr.Row():
                first, second = _picture("Classes", "first"), _picture("Beside it", "second", visible=False)
                unsure = _picture("Uncertainty: dark is sure", "unsure")
                differ = _picture("Where they differ", "differ", visible=False)
            under = [gr.HTML(elem_id=f"{name}-values", padding=False) for name in ("first", "second")]

    def classify(image: Raster | None, run: str, other: str, way: str, opacity: float) -> dict:
        if image is None:
            return {status: "Upload an image, or choose one."}
        names = [run] if other in (NOBODY, run) else [run, other]
        found = [answer(shown.predictors[name], image, WAYS[way]) for name in names]
        two = len(found) == 2
        height, width = found[0].classes.shape
        text, difference = f"{width} x {height} pixels; point at the picture, or click, to ask what is there", None
        if two:
            difference, share = difference_map(*found)
            text += f"; the runs differ in {100 * share:.1f} % of the pixels"
        return {
            kept: found,
            status: text,
            pixel: "",
            first: gr.Image(blended(found[0], opacity), label=names[0]),
            second: gr.Image(blended(found[1], opacity) if two else None, label=names[-1], visible=two),
            unsure: uncertainty_map(found[0]),
            differ: gr.Image(difference, visible=two),
            under[0]: values(found[0]),
            under[1]: values(found[1]) if two else "",
            key: "".join(legend(one, name) for one, name in zip(found, names)),
            **_downloads(files, found[0], opacity, shown.cache),
        }

    def begin(path: str | None, *settings) -> dict:
        read = read_upload(path)
        return {image: read, sample: None} | classify(read, *settings)

    def choose(name: str | None, *settings) -> dict:
        if name is None:
            return gr.skip()  # an upload emptied the list
        read = read_upload(shown.samples[name], own=True)
        return {image: read, upload: None} | classify(read, *settings)

    def repaint(found: list[Answer], opacity: float) -> list:
        pictures = [blended(one, opacity) for one in found]
        return [*pictures, None, None][:2]

    def ask(number: int) -> Callable:
        def asked(found: list[Answer], event: gr.SelectData) -> str:
            return found[number].at(*event.index) if len(found) > number else ""

        return asked

    settings = [run, other, way, opacity]
    changed = [kept, status, pixel, first, second, unsure, differ, key, *files, *under]
    upload.upload(_messages(begin, status), [upload, *settings], [image, sample, *changed])
    sample.change(_messages(choose, status), [sample, *settings], [image, upload, *changed])
    for setting in (run, other, way):
        setting.change(_messages(classify, status), [image, *settings], changed)
    opacity.release(repaint, [kept, opacity], [first, second])
    for number, picture in enumerate((first, second)):
        picture.select(ask(number), kept, pixel)


def _clicks_tab(shown: Shown) -> None:
    kept = gr.State(None, time_to_live=KEPT_SECONDS)
    with gr.Row():
        with gr.Column(scale=1, min_width=280, elem_classes="left"):
            upload, sample = _inputs(shown, "clicks-file")
            with gr.Column(elem_classes="after"):
                kind = gr.Radio([POSITIVE, NEGATIVE, BOX], value=POSITIVE, label="A click is on")
                with gr.Row():
                    undo, clear = gr.Button("Undo"), gr.Button("Clear")
                download = gr.DownloadButton("Download mask.png", visible=False)
        with gr.Column(scale=3, min_width=280):
            status = gr.Markdown("Upload an image, or choose one.", elem_id="clicks-status")
            picture = _picture("Image", "clicks-picture")

    def draw(clicks: Clicks) -> dict:
        found = clicks.mask()
        if found is None:
            text, file = "click on an object", None
        else:
            mask, score = found
            text = f"predicted IoU **{score:.3f}**, {100 * mask.mean():.1f} % of the image"
            file = shown.cache / secrets.token_hex(16) / "mask.png"
            save_class_map(file, mask.astype(np.uint8))
        return {
            kept: clicks,
            status: text,
            picture: clicks.picture(found and found[0]),
            download: gr.DownloadButton(value=file, visible=file is not None),
        }

    def begin(path: str | None) -> dict:
        return {sample: None} | draw(Clicks.on(shown.sam, as_picture(read_upload(path))))

    def choose(name: str | None) -> dict:
        if name is None:
            return gr.skip()  # an upload emptied the list
        return {upload: None} | draw(Clicks.on(shown.sam, as_picture(read_upload(shown.samples[name], own=True))))

    def click(clicks: Clicks | None, kind: str, event: gr.SelectData) -> dict:
        return draw(_here(clicks).add(kind, *map(int, event.index)))

    changed = [kept, status, picture, download]
    upload.upload(_messages(begin, status), upload, [sample, *changed])
    sample.change(_messages(choose, status), sample, [upload, *changed])
    picture.select(_messages(click, status), [kept, kind], changed)
    undo.click(_messages(lambda clicks: draw(_here(clicks).take_back(1)), status), kept, changed)
    clear.click(_messages(lambda clicks: draw(_here(clicks).take_back()), status), kept, changed)


def _here(clicks: Clicks | None) -> Clicks:
    if clicks is None:
        raise InputError("there is no image here: upload one")
    return clicks


def _inputs(shown: Shown, name: str) -> tuple[gr.File, gr.Dropdown]:
    upload = gr.File(label=f"Image (at most {UPLOAD_MB} MB)", type="filepath", height=120, elem_id=name)
    return upload, gr.Dropdown(
        list(shown.samples), value=None, label="or a test image of the run", visible=bool(shown.samples)
    )


def _picture(label: str, name: str, visible: bool = True) -> gr.Image:
    """A picture to look at; without gradio's button that shares it on the net."""
    buttons = ["download", "fullscreen"]
    return gr.Image(
        label=label, interactive=False, format="png", buttons=buttons, elem_id=name, visible=visible, min_width=320
    )


def _messages(handler: Callable, status: gr.Markdown) -> Callable:
    """``handler`` whose InputError becomes a line on the page; all else stays as it was."""

    @wraps(handler)
    def handled(*arguments: Any) -> dict:
        try:
            return handler(*arguments)
        except InputError as error:
            return {status: f"⚠️ {error}"}

    return handled


def _downloads(buttons: list[gr.DownloadButton], found: Answer, opacity: float, cache: Path) -> dict:
    """The class map and the overlay behind their buttons, in a folder whose name nobody can guess."""
    folder = cache / secrets.token_hex(16)
    files = [folder / name for name in DOWNLOADS]
    save_class_map(files[0], found.classes)
    save_picture(files[1], blended(found, opacity))
    return {button: gr.DownloadButton(value=file, visible=True) for button, file in zip(buttons, files)}
