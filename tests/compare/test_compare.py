"""samseg compare: runs under one budget, killed and gone on with, and what is said of them."""

import csv
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samseg.cli.main import main
from samseg.common.errors import InputError
from samseg.compare.page import table
from samseg.compare.plan import Candidate, plan
from samseg.compare.results import Costs, Result, verdict
from samseg.compare.run import compare
from samseg.compare.trial import COSTS, train_and_measure
from samseg.runs.facts import splits_of
from samseg.runs.state import load_state
from samseg.tasks.bootstrap import RESAMPLES
from samseg.tasks.semantic.task import SemanticTask
from tests.processes import kill, start, wait_until

SMALL = ["tu-resnet18", "tu-resnet10t"]


def here(trials):
    """An engine that trains in this process, which has imported everything."""
    for trial in trials:
        yield trial, train_and_measure(trial.config)


def planned(tiny_config, *overrides, **asked):
    asked = dict(encoders=SMALL, methods=["frozen", "free"], budget="1e", out=Path("out")) | asked
    return plan(tiny_config, list(overrides), asked.pop("encoders"), asked.pop("methods"), **asked)


def test_each_combination_is_a_run_and_the_page_says_what_follows(tiny_config, tmp_path, monkeypatch, capsys):
    """One fails and is said; what is done stays; test is looked at for the best alone."""
    monkeypatch.chdir(tmp_path)
    broken = planned(
        tiny_config, encoders=["tu-resnet18", "tu-resnet18:none.pth"], methods=["free"], fractions=[0.5, 1]
    )
    assert compare(broken, Path("out"), engine=here) == 2
    out = capsys.readouterr().out
    assert "2/4 tu-resnet18-none.pth-free: FAILED: no weights 'none.pth' for tu-resnet18" in out
    runs = {name: tmp_path / "out" / f"tu-resnet18-free{name}" for name in ("", "-0.5")}
    assert "Best: tu-resnet18, free, with mIoU" in out and splits_of(runs[""]) == ["val", "test"]
    assert splits_of(runs["-0.5"]) == ["val"]
    with open(tmp_path / "out" / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(float(row["fraction"]), float(row["images"])) for row in rows] == [(1, 6), (0.5, 3)]
    best = json.loads((runs[""] / "metrics.json").read_text())["val"]["miou"]
    assert float(rows[0]["score"]) == best and float(rows[0]["low"]) <= best <= float(rows[0]["high"])
    assert all(float(rows[0][name]) > 0 for name in ("epoch_s", "megapixel_s", "memory_gb"))
    page = (tmp_path / "out" / "compare.html").read_text()
    for expected in ("Score by the number of labels", "The best on test", "no weights &#39;none.pth&#39;", "<img"):
        assert expected in page
    before = [file.stat().st_mtime_ns for run in runs.values() for file in (run / "state.pt", run / "details_val.npz")]
    compare(planned(tiny_config, encoders=["tu-resnet18"], methods=["free"], fractions=[0.5, 1]), Path("out"))
    assert "2 of them done already" in capsys.readouterr().out
    assert before == [
        file.stat().st_mtime_ns for run in runs.values() for file in (run / "state.pt", run / "details_val.npz")
    ]


def test_a_killed_comparison_goes_on(tiny_config, tmp_path, monkeypatch):
    """Its run dies with it, in its process of its own, and goes on where it stopped."""
    monkeypatch.chdir(tmp_path)
    budget = ["--budget", "4e", "--out", "out"]
    line = ["compare", str(tiny_config), "--encoders", "tu-resnet10t", "--methods", "free", *budget]
    run = tmp_path / "out" / "tu-resnet10t-free"
    process = start(main, line, folder=tmp_path)
    wait_until((run / "history.csv").exists, process)
    kill(process)
    wait_until(lambda: not locked(run))
    assert not (run / COSTS).exists()
    epochs = load_state(run).epoch
    again = planned(tiny_config, encoders=["tu-resnet10t"], methods=["free"], budget="4e")
    assert compare(again, Path("out"), engine=here) == 0
    assert f"going on after epoch {epochs}" in (run / "log.txt").read_text() and load_state(run).epoch == 4
    assert (tmp_path / "out" / "compare.html").is_file()


def locked(run: Path) -> bool:
    from samseg.runs.lock import lock_run

    try:
        with lock_run(run):
            return False
    except InputError:
        return True


def test_what_is_planned(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ["model.decoder={}", "data.augment=[HorizontalFlip,VerticalFlip]", "train.layer_decay=0.8"]
    found = planned(
        tiny_config, *settings, encoders=["sam-vit_b", "resnet34"], methods=["frozen", "lora", "free"], budget="30m",
        fractions=[0.1, 1], repeats=2,
    )  # fmt: skip
    configs = {trial.folder.name: trial.config for trial in found.trials}
    assert "model.weights=null: what is frozen is random, and says nothing of an encoder" in found.notes
    assert len(configs) == 5 * 2 * 2 and "left out: lora, as resnet34 takes no adapter" in found.notes
    frozen, free, lora = (configs[f"sam-vit_b-{method}-0.1-2"] for method in ("frozen", "free", "lora"))
    assert (
        {config.seed for config in (frozen, free, lora)} == {1} == {config.data.fraction_seed for config in (frozen,)}
    )
    assert all(config.data.views == 4 and config.data.augment == [] for config in configs.values())
    assert frozen.train.cache_features and not free.train.cache_features
    assert not configs["resnet34-frozen"].train.cache_features
    assert lora.model.adapter["name"] == "lora" and lora.model.freeze_encoder and not free.model.freeze_encoder
    assert (free.train.layer_decay, lora.train.layer_decay, configs["resnet34-free"].train.layer_decay) == (0.8, 1, 1)
    assert {config.train.max_minutes for config in configs.values()} == {30} and free.train.patience is None
    assert (frozen.data.fraction, configs["resnet34-free"].data.fraction) == (0.1, 1)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"encoders": ["resnet35"]}, "unknown encoder 'resnet35'; did you mean 'resnet"),
        ({"encoders": ["vit_base_patch16_siglip"]}, "did you mean 'vit_base_patch16_siglip_"),
        ({"encoders": ["train.lr=1"]}, "train.lr=1 is a setting: settings stand before the options"),
        ({"methods": ["lorra"]}, "no such method: lorra; did you mean 'lora'"),
        ({"methods": ["free", "lora"]}, "nothing is left to train with lora: tu-resnet18 takes no adapter"),
        ({"budget": "5 hours"}, "--budget is minutes or epochs of each run, as in 30m or 5e; got 5 hours"),
        ({"budget": "0m"}, "--budget is minutes or epochs"),
        ({"fractions": [0.0]}, "data.fraction must be above 0 and at most 1"),
        ({"repeats": 0}, "--repeats must be at least 1"),
    ],
)
def test_what_cannot_be_compared_is_one_line_before_anything_is_trained(
    tiny_config, tmp_path, monkeypatch, asked, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        planned(tiny_config, **asked)
    assert not (tmp_path / "out").exists()


def test_without_a_validation_split_nothing_begins(tiny_config, scenes, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(scenes / "train")
    line = ["--encoders", "tu-resnet18", "--methods", "free", "--budget", "1e"]
    code, _, error = command("compare", tiny_config, "data.root=data", *line)
    assert code == 2 and error.startswith("error: ") and "val" in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def result(name: str, score: float, spread: float, predict: float, train: float) -> Result:
    """One whose draws lie evenly around its score, all in step with each other's but for a part of their own."""
    own = np.random.default_rng(zlib.crc32(name.encode())).normal(size=RESAMPLES)
    common = np.linspace(-0.1, 0.1, RESAMPLES)
    return Result(
        Candidate(*name.split()),
        [Path(name)],
        score,
        score + common + spread * own,
        Costs(9, 5, train, 1, 1e6, predict),
    )


def test_the_verdict_weighs_sureness_against_cost():
    best = result("large free", 0.80, 0.01, predict=2.0, train=10)
    cheap = result("small free", 0.79, 0.01, predict=0.5, train=10)
    frozen = result("large frozen", 0.79, 0.01, predict=2.0, train=1)
    worse = result("tiny free", 0.60, 0.01, predict=0.1, train=1)
    say = lambda *results: verdict(results, SemanticTask)  # noqa: E731
    assert say(best, worse).endswith("The other is clearly worse.")
    assert "small, free, which takes 25 % of its time in prediction" in say(best, cheap, frozen, worse)
    assert "large, frozen, which takes 10 % of its seconds an epoch" in say(best, frozen, worse)
    assert say(cheap, best).endswith("Not clearly worse, but no cheaper: large, free.")
    low, high = best.interval()
    assert low < 0.72 and high > 0.88, "each alone is unsure; the difference is not"


def test_without_counts_by_image_a_difference_is_shown_and_no_interval_spoken_of():
    known = [result("large free", 0.80, 0.01, 2.0, 10), result("small free", 0.79, 0.01, 0.5, 10)]
    shown = table(known, SemanticTask)
    assert shown.rows[1][2].startswith("-0.010 [") and "Brackets" in shown.note
    shown = table([replace(one, draws=None) for one in known], SemanticTask)
    assert [row[2] for row in shown.rows] == ["best", "-0.010"] and "Brackets" not in shown.note
