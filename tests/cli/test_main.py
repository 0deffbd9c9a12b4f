"""The program: its commands, their words, and what each says of itself."""

import io
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from samseg.cli.exit_codes import run
from samseg.cli.main import COMMANDS
from samseg.runs.config.load import load_config
from samseg.runs.config.schema import RunConfig
from samseg.runs.config.shipped import find_config, shipped
from samseg.runs.export import FORMATS

REPOSITORY = Path(__file__).parents[2]
TOOLS = sorted((REPOSITORY / "tools").glob("*.py"))


@pytest.fixture
def tool(capsys, monkeypatch):
    """Run one of tools/ within this process; (exit code, stdout, stderr)."""

    def call(path, *arguments):
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path), run_name="__main__")
        return end.value.code or 0, *capsys.readouterr()

    return call


def test_help_names_every_command(command):
    code, out, _ = command("--help")
    assert code == 0 and all(f"\n  {name} " in out for name in COMMANDS)
    assert command()[0] == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, command):
    code, out, _ = command(name, "--help")
    assert code == 0 and f"usage: samseg {name} " in out
    assert f"\n  samseg {name}" in out.partition("examples:")[2]
    assert "tools/" not in out and ".py" not in out, "a pip user has no such file"


def test_settings_are_no_options(command):
    code, _, error = command("train", "buildings", "--epochs", "3", "train.lr=1")
    assert (code, error) == (
        2, "error: samseg train has no option --epochs; settings are written key=value: train.epochs=3\n"
    )  # fmt: skip


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.name)
def test_tools_are_the_commands(path, tool):
    code, out, _ = tool(path, "--help")
    assert code == 0 and f"usage: samseg {path.stem} " in out


def test_tools_exit_as_the_command_does(tool):
    code, _, stderr = tool(REPOSITORY / "tools" / "infer.py", "runs/none", "photo.jpg")
    assert (code, stderr) == (2, "error: no such image, folder or run: runs/none\n")


def test_an_unknown_command_is_one_line(command):
    code, _, stderr = command("trian")
    assert (code, stderr) == (2, "error: no such command: samseg trian; did you mean 'train'?\n")


def test_version_names_what_it_runs_on(command):
    code, out, _ = command("--version")
    assert code == 0 and f"torch {torch.__version__.partition('+')[0]}" in out
    assert "segmentation-models-pytorch" in out and torch.backends.cpu.get_cpu_capability() in out


def test_version_tells_of_a_namesake_in_the_same_package(command, tmp_path, monkeypatch):
    """FreeSurfer's distribution `samseg` has a package of that name, too; what lies in a clone of ours is no wheel."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "samseg.egg-info").mkdir()
    (tmp_path / "samseg.egg-info" / "PKG-INFO").write_text("Name: samseg\nVersion: 0.0.1\n")
    (tmp_path / "samseg.egg-info" / "SOURCES.txt").write_text("samseg/__init__.py\n")
    assert len(command("--version")[1].splitlines()) == 2
    (tmp_path / "samseg-0.4a0.dist-info").mkdir()
    (tmp_path / "samseg-0.4a0.dist-info" / "METADATA").write_text("Name: samseg\nVersion: 0.4a0\n")
    (tmp_path / "samseg-0.4a0.dist-info" / "RECORD").write_text("samseg/GMM.py,,\nsamseg/__init__.py,,\n")
    *_, line = command("--version")[1].splitlines()
    assert "samseg 0.4a0" in line and "pip uninstall samseg samseg-smp" in line


def test_a_name_that_the_code_page_lacks_ends_no_command(monkeypatch):
    """Where what is printed goes to a file, Windows takes the letters of one part of the world."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="\n")
    monkeypatch.setattr(sys, "stdout", printed)
    with pytest.raises(SystemExit) as end:
        run(lambda: print("roof, \u68ee"))
    assert not end.value.code and printed.buffer.getvalue() == b"roof, \\u68ee\n"


def test_export_help_names_every_format(command):
    _, out, _ = command("export", "--help")
    assert all(f"\n  {name} " in out for name in FORMATS)


def test_config_lists_and_prints(command):
    _, out, _ = command("config")
    assert {line.split()[0] for line in out.split("\n\n")[0].splitlines()} == set(shipped())
    _, out, _ = command("config", "buildings")
    assert out == (REPOSITORY / "configs" / "buildings.yaml").read_text()
    code, _, stderr = command("config", "buildngs")
    assert (code, stderr) == (2, "error: no such config: buildngs; did you mean 'buildings'?\n")


def test_config_keys_are_all_of_them_with_their_defaults(command, tmp_path):
    _, out, _ = command("config", "--keys")
    file = tmp_path / "keys.yaml"
    file.write_text(out)
    (tmp_path / "empty.yaml").write_text("data: {classes: {a: 0, b: 1}}")
    assert load_config(file, ["data.classes={a: 0, b: 1}"]) == load_config(tmp_path / "empty.yaml")
    keys = yaml.safe_load(out)
    assert list(keys) == list(RunConfig.__dataclass_fields__) and "# " in out


def test_a_file_goes_before_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("buildings") == shipped()["buildings"]
    Path("buildings").mkdir()  # such as a folder of images
    assert find_config("buildings") == shipped()["buildings"]
    Path("buildings").rmdir()
    Path("buildings").write_text("seed: 1")
    assert find_config("buildings") == Path("buildings")
    assert find_config("some/other") == Path("some/other") and find_config("other.yaml") == Path("other.yaml")


def test_sample_writes_what_was_asked_for(command, tmp_path):
    sizes = ["--train", "2", "--val", "1", "--test", "1", "--size", "64"]
    code, out, _ = command("sample", tmp_path / "scenes", *sizes)
    assert code == 0 and "4 scenes" in out
    assert len(list((tmp_path / "scenes" / "train" / "masks").iterdir())) == 2
    code, _, stderr = command("sample", tmp_path / "scenes", *sizes)
    assert code == 2 and "not an empty folder" in stderr


def test_a_reader_who_has_seen_enough_is_no_failure():
    line = [sys.executable, "-m", "samseg", "config", "--keys"]
    process = subprocess.Popen(line, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 141
