"""`samseg weights`: what is published, what is here, and a file put in place by hand."""

import segmentation_models_pytorch as smp
import torch

from samseg.encoders.fetch import weights_folder
from samseg.encoders.registry import ROWS

OF_TIMM = "vit_tiny_patch16_224.augreg_in21k"


def test_every_encoder_is_listed_and_what_is_here(command, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _, before, _ = command("weights")
    assert all(name in before for name in ROWS) and "here: " not in before.replace("not here", "")
    assert "dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth" in before and "Apache-2.0" in before
    file = weights_folder() / "sam-vit_t" / "model.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert f"here: {file}" in command("weights")[1]


def test_a_file_is_put_in_place_and_described(command, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    torch.save(ROWS["sam-vit_t"].build().state_dict(), tmp_path / "download.pt")
    code, out, _ = command("weights", "--from", tmp_path / "download.pt")
    assert code == 0 and "sam-vit_t in MobileSAM's layout, the encoder alone" in out
    assert "digest is not known" in out
    code, out, _ = command("weights", "sam-vit_t")  # it is here: nothing is asked of the net
    assert code == 0 and str(weights_folder() / "sam-vit_t" / "encoder.pth") in out


def test_what_cannot_be_is_one_line(command, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, _, error = command("weights", "sam-vit_bb")
    assert code == 2 and "no encoder 'sam-vit_bb'; did you mean 'sam-vit_b'?" in error
    code, _, error = command("weights", "sam-vit_b")  # the tests set HF_HUB_OFFLINE
    assert code == 2 and "HF_HUB_OFFLINE is set" in error and error.count("\n") == 1
    code, _, error = command("weights", OF_TIMM)
    ROWS.pop(OF_TIMM), smp.encoders.encoders.pop(OF_TIMM)  # it has become a row
    assert code == 2 and f"huggingface.co/timm/{OF_TIMM}: not asked" in error
    code, _, error = command("weights", "--from", tmp_path / "none.pth")
    assert code == 2 and "no such file" in error
