"""Notebooks run as their readers would, only smaller; and run at the size they are shown at, to save their pictures.

python -m tests.notebooks [NAME ...] does the latter, in minutes: each cell's output is kept, progress bars are not, and
pictures become light. It needs no network: instead of SAM's weights it takes random ones, and less of all.
"""

import base64
import io
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
OFFLINE = {"ENCODER": '"sam-vit_t"', "WEIGHTS": "None"}
FAMILY = {"ENCODERS": '["sam-vit_t", "sam2-hiera_t", "dinov3-vit_s"]', "WEIGHTS": "None"}
SHOWN = {  # what two busy cores take a minute or two for
    "maps": OFFLINE | {"TILE": "128", "EPOCHS": "12"},
    "prompts": OFFLINE | {"IMAGES": "2", "SIZE": "64", "EPOCHS": "1"},
    "smp": FAMILY | {"SIZE": "160", "STEPS": "60"},
    "your_data": OFFLINE | {"SIZE": "128", "EPOCHS": "6"},
}
PICTURES = ("image/png", "image/jpeg")


def executed(notebook: Path, folder: Path, settings: dict[str, str], manager=None) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in ``folder`` with other values of its ``settings``.

    A kernel's ``manager`` that has run a notebook before spares the imports. Raises nbclient's CellExecutionError for
    a cell that fails, AssertionError for a setting that does not stand there.
    """
    content = nbformat.read(notebook, as_version=4)
    for name, value in settings.items():
        count = 0
        for cell in content.cells:
            cell.source, found = re.subn(
                rf"^{name} = [^#\n]*?( *#.*)?$", rf"{name} = {value}\1", cell.source, flags=re.M
            )
            count += found
        assert count == 1, f"{notebook.name} sets {name} {count} times"
    first = nbformat.v4.new_code_cell(f"import os\n\nos.chdir({str(folder)!r})\n%reset -f")
    content.cells.insert(0, first)
    NotebookClient(content, km=manager, timeout=600).execute()
    content.cells.remove(first)
    for cell in content.cells:  # %run tells of an error without raising it
        for output in cell.get("outputs", []):
            assert output.output_type != "error", f"{notebook.name}: {output.evalue}"
    return content


def saved(notebook: Path) -> None:
    """Run the notebook with the settings of `SHOWN`, and keep what it gave beside the cells as they stand."""
    content = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        run = executed(notebook, Path(folder), SHOWN[notebook.stem])
    for cell, ran in zip(content.cells, run.cells):
        if cell.cell_type == "code":
            cell.outputs = [] if needs_sam(cell) else shown(ran.outputs)
            cell.execution_count = ran.execution_count
    content.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook.write_text(nbformat.writes(content).replace(f"{folder}/", "") + "\n")  # outputs may name files in full


def needs_sam(cell: nbformat.NotebookNode) -> bool:
    """Whether what a cell gives is worth nothing without SAM's weights, so that it is run and not shown: by its tag."""
    return "needs-sam" in cell.metadata.get("tags", [])


def shown(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """A cell's outputs without progress bars, without what is there to be interactive, with light pictures."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if kept and output.output_type == kept[-1].output_type == "stream":
            kept[-1].text += output.text
            continue
        if "data" in output:
            picture = output.data.get("image/png")
            output.data = light(picture) if picture else {"text/plain": output.data["text/plain"]}
            output.metadata = {}
        kept.append(output)
    return kept


def light(png: str) -> dict[str, str]:
    """A picture by its kind: PNG of 256 colours or JPEG, whichever is smaller."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    files = {kind: io.BytesIO() for kind in PICTURES}
    picture.quantize(256, dither=Image.Dither.NONE).save(files["image/png"], "PNG", optimize=True)
    picture.save(files["image/jpeg"], "JPEG", quality=70, optimize=True)
    kind = min(files, key=lambda kind: len(files[kind].getvalue()))
    return {kind: base64.b64encode(files[kind].getvalue()).decode()}


if __name__ == "__main__":
    for path in NOTEBOOKS:
        if path.stem in sys.argv[1:] or not sys.argv[1:]:
            saved(path)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
