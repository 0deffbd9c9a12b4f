"""What a run shows: its curves, validation images beside truth and prediction, and TensorBoard events."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from samseg.config import DataConfig
from samseg.data.classes import IGNORE_INDEX
from samseg.data.dataset import SegmentationDataset
from samseg.data.images import read_image
from samseg.files import written_whole
from samseg.inference.draw import legend, palette
from samseg.training.evaluation import item_rows

CURVES = "curves.png"
PICTURES = "validation.png"
EVENTS = "events.out.tfevents.*"  # TensorBoard's names
IGNORED = (128, 128, 128)
WIDTH, GAP, TITLE = 420, 12, 28  # of a picture, between pictures, of a line of text, in pixels


def draw_curves(history: list[dict], path: Path) -> None:
    """Write the loss, the validation scores and the learning rate of a run's ``history`` over its epochs."""
    from matplotlib.figure import Figure  # a second to import, and only the trainer draws
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(12, 3.6))
    figure.subplots_adjust(left=0.05, right=0.98, bottom=0.14, top=0.87, wspace=0.18)
    loss, score, rate = figure.subplots(1, 3)
    _line(loss, epochs, history, "loss", "training loss")
    _line(score, epochs, history, "val_miou", "mIoU")
    _line(score, epochs, history, "val_accuracy", "pixel accuracy")
    _line(rate, epochs, history, "lr", "learning rate")
    scores = [row["val_miou"] or 0 for row in history]
    best = int(np.argmax(scores))
    score.plot(epochs[best], scores[best], "o", color="C0", label=f"best: {scores[best]:.3f} in epoch {epochs[best]}")
    for axes, title in ((loss, "training loss"), (score, "validation"), (rate, "learning rate at the epoch's end")):
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    loss.set_ylim(bottom=0)
    score.set_ylim(0, 1)
    score.legend(loc="lower right")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_predictions(
    model: nn.Module, dataset: SegmentationDataset, config: DataConfig, path: Path, images: int = 4
) -> None:
    """Write up to ``images`` of the split, spread over it, each beside its truth and the model's prediction."""
    rows = []
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    for index in np.unique(np.linspace(0, len(dataset) - 1, images).round().astype(int)):
        item = dataset[int(index)]
        stripes = [logits.argmax(0).cpu().numpy() for _, logits in item_rows(model, item, config, device)]
        prediction = np.concatenate(stripes)
        image = item["image"] if "image" in item else read_image(dataset.pairs[index].image)
        pictures = (image, _coloured(item["mask"].numpy()), _coloured(prediction))
        rows.append((item["name"], [_fitted(Image.fromarray(picture)) for picture in pictures]))
    key = Image.fromarray(legend(dataset.classes))
    width = max(3 * (WIDTH + GAP) + GAP, key.width)
    page = Image.new("RGB", (width, TITLE + sum(row[0].height + TITLE for _, row in rows) + key.height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=15)
    top = TITLE
    for name, pictures in rows:
        titles = (name, "truth (grey: ignored)", "prediction")
        for column, (title, picture) in enumerate(zip(titles, pictures, strict=True)):
            left = GAP + column * (WIDTH + GAP)
            draw.text((left, top - 5), title, fill="black", font=font, anchor="ls")
            page.paste(picture, (left, top))
        top += pictures[0].height + TITLE
    page.paste(key, (0, top - TITLE // 2))
    with written_whole(path) as temporary:
        page.save(temporary)


def _fitted(picture: Image.Image) -> Image.Image:
    """``picture`` at `WIDTH`, without new colours: classes must stay apart."""
    return picture.resize((WIDTH, max(1, round(WIDTH * picture.height / picture.width))), Image.Resampling.NEAREST)


def _line(axes, epochs: list[int], history: list[dict], key: str, label: str) -> None:
    values = [np.nan if row[key] is None else row[key] for row in history]
    axes.plot(epochs, values, label=label, marker="." if len(epochs) < 30 else None)


def _coloured(classes: np.ndarray) -> np.ndarray:
    """Class indices (H, W) as colours (H, W, 3) uint8, 255 (ignored) grey."""
    table = np.full((256, 3), IGNORED, np.uint8)
    table[:IGNORE_INDEX] = palette(IGNORE_INDEX)
    return table[classes]


class Events:
    """TensorBoard events in the run folder, a step an epoch; resuming after ``epoch`` hides what came later."""

    def __init__(self, folder: Path, epoch: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(folder, purge_step=epoch + 1)

    def add(self, row: dict, metrics: dict) -> None:
        """Write a ``row`` of the history and the IoU of each class in ``metrics``."""
        scalars = {f"run/{key}": value for key, value in row.items() if key != "epoch"}
        scalars |= {f"iou/{name}": value for name, value in metrics["iou"].items()}
        for key, value in scalars.items():
            if value is not None:
                self.writer.add_scalar(key, value, row["epoch"])
        self.writer.flush()
