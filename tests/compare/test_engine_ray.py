"""The runs of a comparison on a Ray cluster."""

import signal
from pathlib import Path

import pytest
import ray

from samseg.compare.engine_ray import on_ray
from samseg.compare.plan import plan
from samseg.compare.run import compare

pytestmark = pytest.mark.slow  # each worker imports torch anew


def test_the_runs_are_spread_and_one_that_fails_is_said(tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # of its workers
    handler = signal.getsignal(signal.SIGTERM)  # Ray takes it for itself
    out, encoders = Path("out"), ["tu-resnet18", "tu-resnet10t", "tu-resnet18:none.pth"]
    planned = plan(tiny_config, [], encoders, ["free"], budget="1e", out=out)
    try:
        assert compare(planned, out, engine=on_ray(None, 0)) == 1
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, handler)
    said = capsys.readouterr().out
    assert "tu-resnet18-none.pth-free: FAILED: no weights 'none.pth'" in said and "3/3" in said
    assert (out / "compare.csv").read_text().count("\n") == 3
