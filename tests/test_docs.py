"""What README.md, CONTRIBUTING.md and docs/ tell a reader to run, run: in the order of the text, and in small.

Blocks in ```bash and code that names a command in the text are called one after the other in one folder, as a reader
would, and once, in however many documents they stand; blocks in ```python are executed there; of ```diff blocks the
context must stand in the code.
"""

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image

from samseg.cli.main import COMMANDS, main, parsed, parser_of
from samseg.common.machine import cpu_has_bfloat16
from samseg.data.sources import SOURCES
from samseg.encoders.adapters.methods import METHODS
from samseg.encoders.registry import ROWS
from samseg.sample.write import write_sample
from samseg.tasks import TASKS
from tests.data.sources.test_maps import box, write_labels
from tests.encoders.conftest import SMALL
from tests.maps.rasters import noise, write_raster
from tests.processes import forked

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

NOT_RUN = {  # commands and snippets that begin so are not run here, and why
    "make quickstart": ".ci/run runs it",
    "make test": "it runs this",
    "make lint": ".ci/run runs it",
    "make docs": ".ci/run runs it",
    "make dist": ".ci/run runs it",
    "make notebooks": "it takes minutes; tests/test_notebooks.py runs them in small",
    "make test-lowest": "it downloads gigabytes",
    "python -m pytest -m slow": "it takes minutes",
    "accelerate launch": "tests/cli/test_train.py trains in several processes",
    "torchrun": "tests/cli/test_train.py trains in several processes",
    "srun torchrun": "it needs Slurm",
    "sbatch": "it needs Slurm",
    "samseg infer runs/buildings map.tif --out ray": "it needs a cluster; tests/maps/test_engine_ray.py starts one",
    "samseg export RUN --to onnx": "tests/runs/test_export.py does, and it takes ten seconds",
    "samseg export RUN --to torch-export": "tests/runs/test_export.py does, and it takes ten seconds",
    "import json\n\nimport cv2": "tests/runs/test_export.py runs it",
    "import openvino": "tests/runs/test_export.py runs it",
    "trtexec": "it needs a GPU",
    "samseg weights sam-vit_b": "it needs the hub",
    "make gpu": "it needs a GPU; tests/benchmarks/test_gpu.py tries its frame",
    "samseg benchmark gpu": "it needs a GPU",
    "samseg benchmark table": "tests/benchmarks/test_encoder.py does, and it takes ten seconds",
    "samseg benchmark faults": "it takes minutes",
    "samseg benchmark sam": "it takes minutes",
    "samseg benchmark maps": "it takes minutes",
    "samseg benchmark pretrain": "it takes an hour; tests/benchmarks/test_pretrain.py runs it in small",
    "samseg push": "it needs a hub; tests/runs/hub bring one",
    "samseg compare": "tests/compare runs it",
    "samseg demo": "it serves a page until it is stopped; tests/demo try it",
    "samseg label-studio": "it serves until it is stopped; tests/labelling ask it",
    "samseg train configs/promptable.yaml": "it needs SAM's weights, whole",
    "samseg export runs/promptable": "it needs SAM's weights, whole",
    "samseg export RUN --to sam": "it needs SAM's weights, whole",
    "samseg export RUN --to transformers": "it needs SAM's weights, whole",
    "pip install": "it is installed",
    "samseg oneshot": "it needs SAM's weights, whole",
    "samseg infer runs/cells": "there is no such run",
    "samseg evaluate runs/cells": "there is no such run",
    "import samseg\n\nsam = samseg.build_sam": "it needs SAM's weights, whole",
    "import fiftyone": "it needs FiftyOne's database; tests/test_fiftyone.py runs it where there is one",
    "sam = samseg.build_sam": "it needs SAM-HQ's weights",
    "oneshot = samseg.OneShot": "it needs SAM's weights, whole",
}
if not cpu_has_bfloat16():
    for refused in ("samseg benchmark predict --precision fp32 bf16", "samseg infer --precision bf16"):
        NOT_RUN[refused] = "this processor has no bfloat16, and it is refused"
PLACEHOLDERS = {  # what stands for something in the text
    "CONFIG": "quickstart",
    "DATA": "my/data",
    "[key=value ...]": "train.epochs=1",
    "[RUN ...]": "",
    "[RUN]": "runs/buildings",
    "RUN": "runs/buildings",
    "[SPLIT]": "val",
    "[INPUT ...]": "photo.jpg",
    "FORMAT": "safetensors",
    "[FOLDER]": "scenes",
    "[NAME]": "lora",
    "[ENCODER]": "",
    "$SLURM_ARRAY_TASK_ID/16": "1/1",
}
SMALLER = {  # what is added to a command, so that it takes a second
    "train": f"model.encoder={SMALL} model.weights=null data.image_size=64 train.epochs=1 train.workers=0",
    "train maps": "data.maps.window=128",
    "sample": "--train 1 --val 1 --test 1 --size 64",
    "benchmark encoder": "--variant sam-vit_t --size 64 --dtype float32 bfloat16 --repeats 1 --peers",
    "benchmark cache": f"--encoder {SMALL} --size 64",
    "benchmark predict": f"--encoder {SMALL} --size 64 --images 2 --large 100",
    "benchmark train": "--encoder sam-vit_t --size 64 --methods frozen",
}
SMALLER_PYTHON = {  # SAM's weights cannot be fetched here, and its networks are large
    'smp.Unet(encoder_name="sam-vit_b", classes=3)': 'smp.Unet("sam-vit_t", encoder_weights=None, classes=3)',
    'create_model("unet", "sam-vit_b", None, classes=2)': f'create_model("unet", "{SMALL}", None, classes=2)',
    "blocks=[8, 9, 10, 11]": "blocks=[1, 2, 3, 4]",
}


class Piece(NamedTuple):
    """Something to run: ``kind`` is a block's language, or bash for a command within the text."""

    kind: str
    text: str
    line: int


def pieces(document: Path) -> list[Piece]:
    found, block = [], None
    for number, line in enumerate(document.read_text().splitlines(), start=1):
        if line.startswith("```"):
            if block is None:
                block = Piece(line[3:], "", number)
            else:
                found.append(block)
                block = None
        elif block is not None:
            block = block._replace(text=f"{block.text}{line}\n")
        else:
            spans = re.findall(r"`([^`]+)`", line)
            found += [Piece("bash", span, number) for span in spans if re.match(COMMAND, span)]
    assert block is None, f"{document.name}: a block is not closed"
    return found


COMMAND = rf"samseg (({'|'.join(COMMANDS)})\b|--version)|make [a-z]|accelerate launch|torchrun"


def commands(text: str) -> list[str]:
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_what_is_listed_here_is_still_written_there():
    texts = [piece for document in DOCUMENTS for piece in pieces(document)]
    said = [line for piece in texts if piece.kind == "bash" for line in commands(piece.text)]
    said += [piece.text for piece in texts if piece.kind == "python"]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in said)] == []
    assert [name for name in PLACEHOLDERS if not any(name in line for line in said)] == []
    python = "".join(piece.text for piece in texts if piece.kind == "python")
    assert [text for text in SMALLER_PYTHON if text not in python] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory, done) -> Path:
    """A reader's folder: the sample, pairs with masks of 0 and 255 under two names, a photo and the clone's files."""
    folder = tmp_path_factory.mktemp("reader")
    write_sample(folder / "data" / "sample", train=2, val=1, test=1, size=96)
    write_sample(folder / "inria", train=2, val=1, test=1, size=96)
    for mask in (folder / "inria").rglob("masks/*.png"):
        Image.fromarray(255 * (np.asarray(Image.open(mask)) == 2).astype(np.uint8)).save(mask)
    (folder / "my").mkdir()
    (folder / "my" / "data").symlink_to(folder / "inria")
    Image.fromarray(np.full((70, 90, 3), 99, np.uint8)).save(folder / "photo.jpg")
    write_raster(folder / "map.tif", noise(70, 90))
    (folder / "my" / "maps").mkdir()
    for name in ("my/maps/city.tif", "other.tif"):  # three windows
        write_raster(folder / name, 40 * noise(64, 384, bands=1).astype(np.uint16))
    houses = [("building", box(10, left, 40, left + 30)) for left in range(10, 350, 60)]
    write_labels(folder / "my" / "maps" / "city.geojson", houses)
    for name in ("configs", "tools"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:  # the run that documents speak of, whichever of them comes first
        patch.chdir(folder)
        words = ["samseg", "train", "buildings", *shlex.split(SMALLER["train"])]
        with pytest.raises(SystemExit) as end:
            main(words[1:])
        assert not end.value.code
        done.add(meaning(words))
    return folder


@pytest.fixture(scope="module")
def done() -> set[str]:
    """Commands that were run already, in this document or another."""
    return set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_all_of_it_runs(document, folder, done, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for registry in (METHODS, SOURCES, TASKS, ROWS, smp.encoders.encoders):
        for name in list(registry):  # a snippet may add rows: they go away again
            monkeypatch.setitem(registry, name, registry[name])
    before = [(registry, set(registry)) for registry in (METHODS, SOURCES, TASKS, ROWS, smp.encoders.encoders)]
    try:
        for piece in pieces(document):
            where = f"{document.name}, line {piece.line}"
            if piece.kind == "bash":
                for line in commands(piece.text):
                    run_command(line, where, done, monkeypatch, capsys)
            elif piece.kind == "python":
                if not piece.text.startswith(tuple(NOT_RUN)):
                    run_python(piece.text, where)
            elif piece.kind == "diff":
                check_context(piece.text, where)
            else:
                assert piece.kind == "text", f"{where}: say what language the block is in"
    finally:
        for registry, names in before:
            for name in set(registry) - names:
                del registry[name]


def run_command(line: str, where: str, done: set[str], monkeypatch, capsys) -> None:
    if line.startswith("make "):
        assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.M), f"{where}: no such target"
    if line.startswith(tuple(NOT_RUN)):
        return
    for name, stands_for in PLACEHOLDERS.items():
        line = line.replace(name, stands_for)
    words = shlex.split(line.partition(" > ")[0], comments=True)
    if words[0].endswith("python") and words[1].startswith("tools/"):
        words = [words[1], *words[2:]]
        command = Path(words[0]).stem
    else:
        assert words[0] == "samseg", f"{where}: {line} is neither run nor listed in NOT_RUN"
        command = words[1]
    for start, more in SMALLER.items():
        if " ".join([command, *words[2:]]).startswith(start):
            words += shlex.split(more)
    if (asked := meaning(words)) in done:
        return
    done.add(asked)
    monkeypatch.setattr(sys, "argv", words)
    for benchmark in ("encoder", "train"):  # whose processes would import everything anew
        monkeypatch.setattr(f"benchmarks.{benchmark}.get_context", lambda kind: forked())
    monkeypatch.setattr("benchmarks.encoder.TOKENS", 64)
    monkeypatch.setattr("benchmarks.routes.SHAPES", ((64, 32, 48),))
    monkeypatch.setattr("benchmarks.routes.SIDE", 8)
    with pytest.raises(SystemExit) as end:
        main(words[1:]) if words[0] == "samseg" else runpy.run_path(words[0], run_name="__main__")
    assert not end.value.code, f"{where}: {line} ended with {end.value.code}: {capsys.readouterr().err}"


def meaning(words: list[str]) -> str:
    """Equal for commands that are: made small, they may be, though they were written differently."""
    return str([*words[:2], parsed(parser_of(words[1]), words[2:])] if words[1] in COMMANDS else words)


def run_python(text: str, where: str) -> None:
    for large, small in SMALLER_PYTHON.items():
        text = text.replace(large, small)
    exec(compile(text, where, "exec"), {"images": torch.rand(2, 3, 64, 64), "__name__": "__main__"})


def check_context(text: str, where: str) -> None:
    context = "\n".join(line[1:] for line in text.splitlines() if line.startswith(" "))
    assert any(context in file.read_text() for file in (ROOT / "samseg").rglob("*.py")), f"{where}: the code is another"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#]+)", re.sub(r"`[^`]*`", "", document.read_text()))
    assert [link for link in links if "://" not in link and not (document.parent / link).exists()] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_a_commands_help_are_understood(name):
    examples = [line.strip() for line in COMMANDS[name].EPILOG.splitlines() if line.startswith(f"  samseg {name}")]
    assert examples
    for example in examples:
        line = re.split(r"   +|  > ", example.replace(" > ", "   "))[0]
        parser_of(name).parse_args(shlex.split(line)[2:])
