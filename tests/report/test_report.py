"""The report of a trained run, and of two side by side: what stands in them, and that they ask for nothing."""

import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from samseg.common.errors import InputError
from samseg.evaluation.evaluate_run import evaluate_run
from samseg.report.compare import write_comparison
from samseg.report.run import write_report
from samseg.runs.config.load import load_config
from samseg.runs.facts import load_split, save_split, splits_of
from samseg.training.run import train
from tests.conftest import TINY


class Reader(HTMLParser):
    """The text of the cells of each table by its section's title, and every address that the page names."""

    def __init__(self, text: str):
        super().__init__()
        self.tables, self.addresses, self.title, self.tag = {}, [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tag = tag
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag == "tr":
            self.tables.setdefault(self.title, []).append([])
        if tag in ("td", "th"):
            self.tables[self.title][-1].append("")

    def handle_data(self, data):
        if self.tag == "h3" and data.strip():
            self.title = data
        if self.tag in ("td", "th") and data.strip():
            self.tables[self.title][-1][-1] += data.strip()


@pytest.fixture(scope="module")
def runs(scenes, tmp_path_factory):
    """Two runs that differ in their seed."""
    root = tmp_path_factory.mktemp("reported")
    content = TINY | {"data": TINY["data"] | {"root": str(scenes)}}
    (root / "tiny.yaml").write_text(json.dumps(content))
    return [
        train(load_config(root / "tiny.yaml", [f"seed={seed}", f"run_dir={root / f'run{seed}'}"]), "tiny")
        for seed in (0, 1)
    ]


def test_training_writes_a_report_that_asks_for_nothing(runs):
    text = (runs[0] / "report.html").read_text()
    page = Reader(text)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.search(r"https?://(?!www\.w3\.org)", text), "an address outside"
    assert text.count("<img") == 4 * 3  # three validation images, each with truth, prediction and errors


def test_the_figures_are_those_of_the_run(runs):
    page = Reader((runs[0] / "report.html").read_text())
    figures = json.loads((runs[0] / "metrics.json").read_text())["val"]
    rows = {row[0]: row for row in page.tables["Classes"]}
    for name, iou in figures["iou"].items():
        value, low, high = map(float, re.findall(r"[\d.]+", rows[name][2]))
        assert value == pytest.approx(iou, abs=6e-4) and low <= value <= high
    assert rows["mean"][2].startswith(f"{figures['miou']:.3f}")
    assert ["seed" in row for row in page.tables["Settings other than the defaults"]].count(True) == 0
    shares = {row[0]: row[1] for row in page.tables["Data"]}
    assert re.fullmatch(r"[\d.]+ % \(\d\)", shares["green"])
    assert "time an epoch" in dict(page.tables["What ran"])


def test_evaluation_adds_its_split(runs):
    report = evaluate_run(runs[0], "test").write()[-1]
    assert splits_of(runs[0]) == ["val", "test"] and report == runs[0] / "report.html"
    text = report.read_text()
    assert "Results: val" in text and "Results: test" in text


def test_two_runs_are_compared_on_the_same_draws(runs, tmp_path):
    page = Reader(write_comparison(runs, tmp_path / "both.html").read_text())
    figures = [json.loads((run / "metrics.json").read_text())["val"] for run in runs]
    rows = {row[0]: row for row in page.tables["run1 against run0"]}
    change = figures[1]["iou"]["green"] - figures[0]["iou"]["green"]
    assert float(rows["green"][1].split()[0]) == pytest.approx(change, abs=6e-4)
    assert ["seed", "0", "1"] in page.tables["Settings"]


def test_a_run_against_itself_differs_by_nothing(runs, tmp_path):
    with pytest.raises(InputError, match="named twice"):
        write_comparison([runs[0], runs[0]], tmp_path / "same.html")
    copy = tmp_path / "twin"
    copy.mkdir()
    for file in runs[0].iterdir():
        (copy / file.name).symlink_to(file)
    page = Reader(write_comparison([runs[0], copy], tmp_path / "same.html").read_text())
    for row in page.tables["twin against run0"][1:]:
        assert set(re.findall(r"\d\.\d+", row[1])) <= {"0.000"}


def test_names_of_images_and_runs_are_text_and_not_html(runs, tmp_path):
    folder = tmp_path / "<script>alert(1)</script>".replace("/", "_")
    folder.mkdir()
    for file in runs[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    text = write_report(folder).read_text()
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text


def test_what_cannot_be_reported_is_one_line(runs, tmp_path):
    with pytest.raises(InputError, match="no such run folder"):
        write_report(tmp_path / "none")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.yaml").write_text((runs[0] / "config.yaml").read_text())
    with pytest.raises(InputError, match="evaluated on no common split: samseg evaluate RUN"):
        write_comparison([runs[0], other], tmp_path / "out.html")
    (other / "details_val.npz").write_bytes((runs[0] / "details_val.npz").read_bytes()[:5000])
    with pytest.raises(InputError, match="details_val.npz is damaged .* samseg evaluate .* val writes it anew"):
        write_report(other)
    config = (other / "config.yaml").read_text().replace("blue", "azure")
    (other / "config.yaml").write_text(config)
    with pytest.raises(InputError, match="its data.classes is ground, green, azure, not ground, green, blue"):
        write_comparison([runs[0], other], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_what_is_kept_of_a_split_comes_back_as_it_was(runs, tmp_path):
    figures, details, gallery = load_split(runs[0], "val")
    save_split(tmp_path, "val", figures, details, gallery)
    again = load_split(tmp_path, "val")
    assert again[0] == figures and again[2] == gallery
    assert all(np.array_equal(again[1][name], details[name]) for name in details)


def test_the_commands_repeat_how_it_was_evaluated(runs, scenes, tmp_path):
    folder = tmp_path / "again"
    folder.mkdir()
    for file in runs[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    elsewhere = tmp_path / "my data"
    elsewhere.symlink_to(scenes)
    evaluate_run(folder, "test", tta="flips", root=str(elsewhere)).write()
    text = html.unescape((folder / "report.html").read_text())
    assert f"samseg evaluate {folder} test --data '{elsewhere}' --tta flips\n" in text
    assert str(elsewhere) not in (folder / "metrics_test.json").read_text()  # which push publishes
