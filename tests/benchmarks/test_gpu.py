"""The frame of `samseg benchmark gpu`: what fails, hangs or comes too late ends nothing but itself."""

import json
from argparse import Namespace

import pytest

from benchmarks import gpu
from benchmarks.gpu import Place, Skipped, as_text, items, measured


@pytest.fixture
def outcomes(monkeypatch):
    """Items that need no process: what each gives, by name."""
    given = {
        "good": {"outcome": "passed", "figures": {"error": 1e-6}},
        "bad": {"outcome": "failed", "reason": "ValueError: no"},
        "absent": {"outcome": "skipped", "reason": "not here"},
    }
    monkeypatch.setattr(gpu, "in_its_process", lambda name, place, left: given[name])
    monkeypatch.setattr(gpu, "items", lambda place: given)
    return given


@pytest.mark.parametrize("names, code", [(["good", "absent"], 0), (["good", "bad", "absent"], 1)])
def test_a_failure_ends_nothing_else_and_is_the_exit_code(outcomes, names, code, tmp_path, monkeypatch, capsys):
    for name in set(outcomes) - set(names):
        del outcomes[name]
    monkeypatch.setattr("samseg.sample.write.write_sample", lambda *_, **__: None)
    args = Namespace(device="cpu", size=64, minutes=1, json=tmp_path / "gpu.json")
    assert gpu.run(args) == code
    written = json.loads(args.json.read_text())["items"]
    assert {name: row["outcome"] for name, row in written.items()} == {
        name: outcomes[name]["outcome"] for name in names
    }
    printed = capsys.readouterr().out
    assert "error 1e-06" in printed and "skipped: absent: not here" in printed
    assert ("FAILED: bad: ValueError: no" in printed) == (code == 1)


def test_what_has_not_begun_in_time_is_left_out(outcomes):
    found = measured(list(outcomes), Place("cpu", 64, "."), seconds=0)
    assert {row["reason"] for row in found.values()} == {"no time was left"}


def test_an_item_is_a_process_that_is_ended_after_its_limit(tmp_path):
    place = Place("cpu", 64, str(tmp_path))
    found = gpu.in_its_process("no such item", place, 60)
    assert (found["outcome"], found["reason"]) == ("failed", "KeyError: 'no such item'")
    assert gpu.in_its_process("stopped and resumed", place, 0.01)["reason"] == "ended after 0 s"


def test_the_process_of_an_item_leaves_its_outcome(tmp_path):
    gpu.main("trained in fp16", json.dumps({"device": "cpu", "size": 64, "folder": str(tmp_path)}))
    outcome = json.loads((tmp_path / gpu.OUTCOME).read_text())
    assert outcome == {"outcome": "skipped", "reason": "train.precision=fp16 needs a GPU"}


def test_a_cpu_is_not_asked_for_what_gpus_can():
    place = Place("cpu", 64, ".")
    for name in ("trained in fp16", "train.batch_size=auto", "FSDP2, one process"):
        with pytest.raises(Skipped):
            items(place)[name](place)


def test_figures_are_short():
    assert as_text({"images/s": 12.3456, "peak GiB": None}) == "12.3 images/s"
