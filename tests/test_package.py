"""The distribution: what it holds, and that it works without the clone."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import samseg

ROOT = Path(__file__).parents[1]
SOURCES = ("samseg", "configs", "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
COMMANDS = """if True:
    import sys
    from importlib.metadata import version

    import samseg
    from samseg.cli.main import main

    assert samseg.__version__ == version("samseg-smp")
    assert samseg.__file__.startswith(sys.prefix), f"not the installed one: {samseg.__file__}"
    small = "data.image_size=64 train.epochs=1 train.workers=0".split()
    for arguments in (
        "sample data/sample --train 2 --val 1 --test 1 --size 64".split(),
        ["train", "quickstart", *small],
        ["infer", "runs/quickstart", "data/sample/test/images"],
    ):
        try:
            main(arguments)
        except SystemExit as end:
            assert not end.code, arguments
"""


def run(*arguments: object, folder: Path) -> str:
    """A program's stdout; it sees nothing of the clone."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in arguments], cwd=folder, env=clean, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and the wheel that was built from it; nothing is downloaded for them."""
    folder = tmp_path_factory.mktemp("built")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    run(sys.executable, "-m", "build", "--no-isolation", folder, folder=folder)
    return folder / "dist"


def needed() -> set[str]:
    """The package's files in the clone, as they are installed."""
    files = [path for path in (ROOT / "samseg").rglob("[!.]*") if path.is_file() and path.suffix != ".pyc"]
    return {path.relative_to(ROOT).as_posix() for path in files} | {
        f"samseg/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")
    }


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built):
    (wheel,) = built.glob(f"samseg_smp-{samseg.__version__}-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == needed()
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]


def test_the_version_is_cited_and_in_the_changelog():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == samseg.__version__
    headings = re.findall(r"^## (.+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] == "[Unreleased]"
    released = [re.match(r"\[(.+)\] - \d{4}-\d\d-\d\d$", heading)[1] for heading in headings[1:]]
    assert not released or released[0] == samseg.__version__


def test_it_works_without_the_clone(built, tmp_path):
    """Installed into an environment of its own, which borrows the packages that this one has."""
    builder = venv.EnvBuilder(symlinks=os.name != "nt")
    builder.create(tmp_path / "env")
    there = builder.ensure_directories(tmp_path / "env")
    install = ("install", "--quiet", "--no-deps", "--no-index", next(built.glob("*.whl")))
    run(sys.executable, "-m", "pip", "--python", there.env_exe, *install, folder=tmp_path)
    packages = run(there.env_exe, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=tmp_path)
    Path(packages.strip(), "borrowed.pth").write_text(
        "\n".join({sysconfig.get_path(n) for n in ("purelib", "platlib")})
    )

    assert "quickstart" in run(Path(there.bin_path, "samseg"), "config", folder=tmp_path)
    run(there.env_exe, "-c", COMMANDS, folder=tmp_path)
    assert "<script>" in (tmp_path / "runs/quickstart/report.html").read_text(encoding="utf-8")
    assert list((tmp_path / "runs/quickstart/predictions").glob("*.png"))
