"""The house's arrows, as docs/architecture.md draws them: who may import whom, and what `import samseg` costs."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "samseg"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 300  # lines of a file


@cache
def drawn() -> dict[str, set[str]]:
    """The map's rooms in their order, each with those it may import from."""
    _, _, section = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Rooms and arrows\n")
    rows = [line.split("|")[1:-1] for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    return {room.strip(" `"): {name.strip() for name in arrows.split(",")} - {""} for room, _, arrows in rows}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@cache
def imports(file: Path) -> set[str]:
    """The modules of samseg and of the folders beside it that a file imports, anywhere in it, save for types alone."""
    found, tree = set(), ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the room"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if is_module(whole) else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.split(".")[0] in ("samseg", "tools", "benchmarks", "tests")}


def room(module: str) -> str:
    """ "" is the package itself."""
    name = module.partition(".")[2].partition(".")[0]
    return {"__main__": "cli", "_version": ""}.get(name, name)


def arrows() -> dict[str, set[str]]:
    """Each room and those it does import from, ground aside."""
    found: dict[str, set[str]] = {}
    for file in FILES:
        here = found.setdefault(room(module_of(file)), set())
        here.update(room(name) for name in imports(file))
    return {here: targets - {here, "", "common"} for here, targets in found.items() if here}


def test_the_map_has_every_room():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    rooms |= {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("_")}
    assert rooms == drawn().keys(), "docs/architecture.md, Rooms and arrows: a row a room"


def test_the_map_has_every_arrow_and_no_other():
    wrong = []
    for here, targets in arrows().items():
        wrong += [f"{here} imports {name}, which the map does not say" for name in sorted(targets - drawn()[here])]
        wrong += [f"{here} does not import {name}, which the map says" for name in sorted(drawn()[here] - targets)]
    assert not wrong, "docs/architecture.md, Rooms and arrows: " + "; ".join(wrong)


def test_arrows_point_upwards_in_the_map():
    rooms = list(drawn())
    for here, targets in drawn().items():
        below = [name for name in targets if rooms.index(name) >= rooms.index(here)]
        assert not below, f"{here} must not import {below}"


def test_no_module_imports_itself_through_others():
    graph = {module_of(file): {name for name in imports(file) if name.startswith("samseg.")} for file in FILES}
    list(TopologicalSorter(graph).static_order())  # CycleError names the circle


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_is_about_one_thing_and_needs_nothing_beside_the_package(file):
    assert len(file.read_text().splitlines()) <= LONGEST
    assert all(name.startswith("samseg") for name in imports(file))


def test_import_is_light():
    """No image library, no plotting and no trainer for the package and a command's help, nor all to read a config."""
    code = """if True:
        import sys
        import samseg
        heavy = {"cv2", "albumentations", "matplotlib", "accelerate", "torchmetrics", "tensorboard", "onnx", "rasterio"}
        loaded = [heavy & set(sys.modules)]
        from samseg.cli.main import main
        try:
            main(["train", "--help"])
        except SystemExit:
            loaded.append(heavy & set(sys.modules))
        import samseg.runs.config.load, samseg.data.dataset
        loaded.append(heavy & set(sys.modules) - {"cv2"})  # the dataset reads images with it
        print(*map(sorted, loaded))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.splitlines()[-1] == "[] [] []"


@pytest.mark.parametrize("file", sorted((ROOT / "tools").glob("*.py")), ids=lambda file: file.name)
def test_tools_are_a_few_lines(file):
    assert len(file.read_text().splitlines()) <= 12 and imports(file) == {"samseg.cli.main"}
