import pytest
from PIL import Image

from samseg.tasks.semantic.task import SemanticTask
from samseg.training import report
from samseg.training.report import Progress, draw_curves


@pytest.mark.parametrize("epochs", [1, 3, 100])
def test_curves_of_any_length_and_with_gaps(tmp_path, epochs):
    history = [
        {"epoch": epoch, "loss": 1 / epoch, "lr": 1e-3, "val_miou": None if epoch == 2 else 0.5, "val_accuracy": 0.7}
        for epoch in range(1, epochs + 1)
    ]
    draw_curves(history, SemanticTask, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert len(picture.convert("RGB").getcolors(2**24)) > 10


def test_the_time_left_goes_by_all_images_of_the_run(monkeypatch):
    """A second an image: 3 epochs of 10 images, of which 4 are done already."""
    now = [0.0]
    monkeypatch.setattr(report.time, "monotonic", lambda: now[0])
    progress = Progress(10, 3, float("inf"), shown=False)
    for done, images, left in ((4, 4, 22), (None, 4, 20), (0, 8, 12), (None, 2, 10), (0, 10, 0)):
        if done is not None:
            bar = progress.bar("", done)
        now[0] += min(images, progress.left_of_epoch)
        progress.step(images, 1.0)
        assert bar.postfix == f"loss 1.0000, run 00:{left:02} left"
