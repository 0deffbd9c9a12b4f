"""The house's arrows: who may import whom, and what `import samseg` costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOUNDATION = {"errors", "files", "cli", "_version", "typed_yaml"}
ALLOWED = {  # room -> rooms it may import from, besides itself and the foundation
    "errors": set(),
    "files": set(),
    "cli": set(),
    "_version": set(),
    "typed_yaml": set(),
    "data": {"config"},
    "config": {"data"},
    "encoders": set(),
    "adapters": {"encoders"},
    "trainable": {"config", "encoders", "adapters"},
    "base": {"trainable"},
    "model": {"base", "config", "encoders", "adapters", "trainable"},
    "checkpoint": {"base", "config", "model"},
    "export": {"adapters", "config", "model", "checkpoint"},
    "inference": {"config", "data", "model", "checkpoint"},
    "training": {"base", "config", "data", "adapters", "model", "trainable", "checkpoint", "inference"},
    "benchmark": {"adapters", "config", "data", "encoders", "model", "trainable", "training"},
    "__init__": {"_version", "encoders", "adapters", "model", "trainable", "checkpoint", "inference"},
}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("samseg", "tools"):
            names = [node.module] if node.module != "samseg" else [f"samseg.{alias.name}" for alias in node.names]
            found.update(names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.split(".")[0] in ("samseg", "tools"))
    return found


@pytest.mark.parametrize("file", sorted((ROOT / "samseg").rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_arrows(file):
    here = room(".".join(file.relative_to(ROOT).with_suffix("").parts))
    for module in imports(file):
        assert not module.startswith("tools")
        assert room(module) in ALLOWED[here] | FOUNDATION | {here}, f"{here} must not import {module}"


def test_import_is_light():
    """No image library, no plotting and no trainer until they are needed."""
    heavy = "cv2 albumentations matplotlib accelerate torchmetrics tensorboard segment_anything onnx"
    code = f"import sys, samseg; print([name for name in {heavy.split()} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda f: f.name)
def test_tools_are_short_and_explain_themselves(path, tool):
    assert len(path.read_text().splitlines()) <= 60
    code, out, _ = tool(path.name, "--help")
    assert code == 0 and "usage:" in out
    assert path.name == "benchmark.py" or ("examples:" in out and f"python tools/{path.name}" in out)
