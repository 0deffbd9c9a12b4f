"""The notebooks run from top to bottom, in small, and hold the pictures that they are shown with."""

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient.util import run_sync

from tests.notebooks import FAMILY, NOTEBOOKS, OFFLINE, PICTURES, executed, needs_sam

SMALLER = {
    "maps": OFFLINE | {"SIDE": "224", "TILE": "64", "EPOCHS": "1"},
    "prompts": OFFLINE | {"IMAGES": "2", "SIZE": "64", "EPOCHS": "1"},
    "smp": FAMILY | {"SCENES": "2", "SIZE": "128", "STEPS": "2"},
    "your_data": OFFLINE | {"SAMPLE": '"--train 2 --val 2 --test 2 --size 64"', "SIZE": "64", "EPOCHS": "1"},
}


@pytest.fixture(scope="module")
def kernel():
    """One for all of them: each of its own would import everything anew."""
    manager = AsyncKernelManager(kernel_name="python3")
    yield manager
    run_sync(manager.shutdown_kernel)(now=True)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(notebook, kernel, tmp_path):
    ran = executed(notebook, tmp_path, SMALLER[notebook.stem], kernel)
    assert pictures(ran) == pictures(nbformat.read(notebook, as_version=4)), "python -m tests.notebooks saves them anew"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_pictures_are_saved_and_small(notebook):
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    assert pictures(content) >= 2
    assert notebook.stat().st_size < 300_000
    assert "find_spec" in content.cells[1].source, "the first code installs samseg where it is missing"
    assert '"/tmp' not in notebook.read_text(), "the folder that it ran in is nobody's business"


def pictures(content: nbformat.NotebookNode) -> int:
    outputs = [output for cell in content.cells if not needs_sam(cell) for output in cell.get("outputs", [])]
    return sum(any(kind in output.get("data", {}) for kind in PICTURES) for output in outputs)
