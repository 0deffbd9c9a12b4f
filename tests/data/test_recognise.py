"""Exports as they are: recognised, checked and read as the tools mean them."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from samseg.config.load import load_config
from samseg.config.shipped import shipped_config
from samseg.data.config import DataConfig, open_source
from samseg.data.recognise import recognise
from samseg.data.target import class_target
from tests.data import exports


@pytest.mark.parametrize("export", exports.EXPORTS, ids=lambda export: export.__name__)
def test_an_export_is_recognised_and_read_by_the_command_that_check_prints(command, tmp_path, monkeypatch, export):
    monkeypatch.chdir(tmp_path)
    names = export(Path("mine"))
    code, out, _ = command("check", "mine")
    assert code == 0, out
    words = shlex.split(out.rpartition("samseg train buildings ")[2])
    data = load_config(shipped_config("buildings"), words).data
    splits = {}
    for split in ("train", "val", "test") if "test split; " not in out else ("train", "val"):
        source = open_source(data, split)
        target, called = class_target(data, source), list(data.classes)
        for name in source.names:
            stem = next(one for one in exports.STEMS if name.endswith(one))
            assert splits.setdefault(stem, split) == split
            read = target(source, name)
            expected = np.array(names)[exports.truth(stem)]
            assert (np.array(called)[read] == expected).all(), (name, called)
    assert set(splits) >= set(exports.STEMS[:5]) and set(splits.values()) >= {"train", "val"}
    assert set(called) == set(names)


def test_a_source_or_its_section_that_is_given_is_not_looked_for(tmp_path):
    exports.yolo_of_label_studio(tmp_path)
    data = DataConfig(root=str(tmp_path), source="folders")
    assert recognise(data) is None and data.source == "folders"
    data = DataConfig(root=str(tmp_path))
    data.coco.annotations = "mine.json"
    assert recognise(data) is None and data.source == "coco"
    data = DataConfig(root=str(tmp_path / "nowhere"))
    assert recognise(data) is None and data.source is None
