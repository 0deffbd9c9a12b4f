import pytest
from PIL import Image

from samseg.tasks.semantic.task import SemanticTask
from samseg.training.report import draw_curves


@pytest.mark.parametrize("epochs", [1, 3, 100])
def test_curves_of_any_length_and_with_gaps(tmp_path, epochs):
    history = [
        {"epoch": epoch, "loss": 1 / epoch, "lr": 1e-3, "val_miou": None if epoch == 2 else 0.5, "val_accuracy": 0.7}
        for epoch in range(1, epochs + 1)
    ]
    draw_curves(history, SemanticTask, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert len(picture.convert("RGB").getcolors(2**24)) > 10
