import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peers
from benchmarks.encoder import as_table, compare
from benchmarks.table import encoder_table, gflop
from samseg.common.errors import InputError
from samseg.encoders.registry import ROWS
from tests.encoders.reference import segment_anything_encoder


@pytest.mark.parametrize("name", ["sam-vit_b", "sam-vit_l", "sam-vit_h"])
def test_counts_what_segment_anything_computes_where_no_window_is_padded(name):
    with torch.device("meta"):
        reference = segment_anything_encoder(**ROWS[name].arguments, image_size=28 * 16, randomised=False)
        with FlopCounterMode(display=False) as counter:
            reference(torch.empty(1, 3, 28 * 16, 28 * 16))
    assert gflop(name, 28 * 16) * 1e9 == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_table_has_every_encoder():
    lines = encoder_table().splitlines()
    assert [line.split()[0] for line in lines] == list(ROWS)
    assert "89.7 M" in lines[0]  # as published: 91 M with the decoder


@pytest.mark.slow  # whole encoders, each also in a process of its own
def test_compares_with_the_same_weights():
    found = compare("sam-vit_b", 1, 64, "float32", True, ["timm", "segment-anything", "openvino"], repeats=1)
    assert list(found["implementations"]) == ["samseg", "timm"]
    assert found["implementations"]["timm"]["error"] < 1e-5
    assert "1024 pixels only" in found["missing"]["segment-anything"]
    assert "inference alone" in found["missing"]["openvino"]
    assert found["implementations"]["samseg"]["peak_gib"] > 0
    assert "timm" in as_table(found)


@pytest.mark.slow
def test_compares_mobile_sam_with_the_same_weights():
    found = compare("sam-vit_t", 1, 1024, "float32", False, ["MobileSAM", "timm"], repeats=1)
    assert found["implementations"]["MobileSAM"]["error"] < 1e-5
    assert found["missing"] == {"timm": "it has no sam-vit_t"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant, peers",
    [
        ("sam2-hiera_t", ["sam2", "timm", "transformers"]),
        ("sam3-vit_l", ["transformers"]),
        ("dinov2-vit_s", ["timm", "transformers"]),
        ("dinov3-vit_s", ["timm", "transformers"]),
    ],
)
def test_compares_sams_successors_with_the_same_weights(variant, peers):
    found = compare(variant, 1, 224, "float32", False, peers, repeats=1)
    there = set(peers) - set(found["missing"])
    assert there >= set(peers) - {"sam2"} and all(found["implementations"][name]["error"] < 1e-5 for name in there)


def test_other_numbers_are_not_timed(monkeypatch):
    class Another(nn.Module):
        def forward(self, x):
            return torch.zeros(1, 256, 4, 4)

    monkeypatch.setitem(peers.OF_VIT, "timm", lambda arguments, size, ours, dtype: Another())
    with pytest.raises(InputError, match="timm disagrees"):
        compare("sam-vit_b", 1, 64, "float32", False, ["timm"], repeats=1)
