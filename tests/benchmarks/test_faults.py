"""A few of each fault that costs little; `samseg benchmark faults` makes them all."""

import random

import pytest

from benchmarks.faults import ROWS
from benchmarks.victims import CONVOLUTIONS, write_scenes
from tests.faults import CAN_MOUNT

HARMLESS = ("refused", "skipped", "without effect", "killed and resumed", "accepted", "computed again")


@pytest.mark.parametrize(
    "row, times",
    [
        pytest.param("kill", 1, marks=pytest.mark.slow),
        ("code", 2),
        ("data", 2),
        ("settings", 6),
        pytest.param("full", 6, marks=pytest.mark.skipif(not CAN_MOUNT, reason="needs the right to mount")),
    ],
)
def test_what_happens_is_harmless(row, times, tmp_path, monkeypatch):
    yaml = pytest.importorskip("yaml")
    monkeypatch.chdir(tmp_path)
    random.seed(1)
    write_scenes(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONVOLUTIONS))
    found = ROWS[row](times)
    assert found.total() >= times and all(outcome.startswith(HARMLESS) for outcome in found), found
