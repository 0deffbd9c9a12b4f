"""What follows from a method's declaration: its arguments, and what is written about it."""

import inspect
import re
from pathlib import Path
from typing import Annotated

import pytest
import torch

import samseg
from samseg.common.errors import ConfigError
from samseg.encoders.adapters.adapter import Adapter, Limit
from samseg.encoders.adapters.methods import METHODS, arguments_of, complete_adapter, described
from tests.encoders.adapters.conftest import small_model

TABLE = Path(__file__).parents[3] / "docs" / "methods.md"


class Bias(Adapter):
    """A method that a file of its own might declare."""

    sites = {"mlp": {}}
    tokenwise = True

    def __init__(self, width: int, *, gain: Annotated[float, Limit("below 3", lambda value: value < 3)] = 1.0):
        super().__init__()
        self.gain = gain
        self.bias = torch.nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return self.gain * self.bias


def test_a_new_method_needs_its_row_and_nothing_else(monkeypatch):
    monkeypatch.setitem(METHODS, "bias", Bias)
    assert complete_adapter({"name": "bias"}) == {"name": "bias", "blocks": None, "gain": 1.0}
    assert complete_adapter({"name": "bias", "gain": 2}) == {"name": "bias", "blocks": None, "gain": 2.0}
    with pytest.raises(ConfigError, match="model.adapter.gain must be below 3, got 4"):
        complete_adapter({"name": "bias", "gain": 4})
    model = samseg.add_adapter(small_model(), "bias", gain=2, blocks=[3])
    assert model.encoder.trunk.blocks[3].mlp.adapter.gain == 2.0
    assert model.encoder.trunk.blocks[2].mlp.adapter is None


def test_each_is_described_with_its_paper(method):
    [line] = [line for line in described().splitlines() if line.startswith(f"{{name: {method}, ")]
    assert all(f"{key}: " in line for key in arguments_of(method)) and "https://arxiv.org/abs/" in line


def test_the_documents_have_a_row_for_each_method_with_its_defaults_and_its_paper():
    rows = dict(re.findall(r"^\| `{name: (\w+), (.*)$", TABLE.read_text(encoding="utf-8"), re.MULTILINE))
    assert list(rows) == list(METHODS)
    for name, row in rows.items():
        arguments = {key: one.default for key, one in arguments_of(name).items() if key != "blocks"}
        assert row.startswith(", ".join(f"{key}: {'null' if v is None else v}" for key, v in arguments.items()) + "}`")
        paper = re.search(r"https://arxiv.org/abs/[\d.]+", inspect.getdoc(inspect.getmodule(METHODS[name])))[0]
        assert paper.rstrip(".") in row
