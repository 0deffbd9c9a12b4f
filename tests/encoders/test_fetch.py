"""Published weights: asked of one source after another, found again, put in place by hand."""

import hashlib
from dataclasses import replace

import pytest
import segmentation_models_pytorch as smp
import torch
from huggingface_hub import constants
from safetensors.torch import save, save_file

import samseg
from samseg.common.errors import WeightsError
from samseg.encoders import fetch as fetching
from samseg.encoders.fetch import fetch, find, put, weights_folder
from samseg.encoders.registry import ROWS, WeightsFile
from tests.encoders.conftest import SMALL, SMALL_ARGUMENTS
from tests.encoders.reference import relative_error, segment_anything_encoder
from tests.file_server import serving
from tests.hub_server import TOKEN, hub

HUB, MIRROR = "/someone/sam/resolve/main/model.safetensors", "/sam_vit_small.pth"


@pytest.fixture(scope="module")
def reference():
    return segment_anything_encoder(**SMALL_ARGUMENTS)


@pytest.fixture(scope="module")
def files(reference, tmp_path_factory) -> dict[str, bytes]:
    """The encoder alone as the hub has it, and all of SAM as segment-anything has it."""
    state = {name: value.contiguous() for name, value in reference.state_dict().items()}
    timm = {name.replace("mlp.lin", "mlp.fc"): value for name, value in state.items()}
    whole = tmp_path_factory.mktemp("whole") / "sam.pth"
    prefixed = {f"image_encoder.{name}": value for name, value in state.items()}
    torch.save(prefixed | {"mask_decoder.iou_token.weight": torch.zeros(1, 256)}, whole)
    return {HUB: save(timm), MIRROR: whole.read_bytes()}


@pytest.fixture
def server(files, tmp_path, monkeypatch):
    """A hub and another server, whose files are the small variant's; every cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving(dict(files)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        sha256 = hashlib.sha256(files[MIRROR]).hexdigest()
        sources = (WeightsFile("someone/sam", 1, whole=False), WeightsFile(server.url + MIRROR, 1, sha256=sha256))
        monkeypatch.setitem(ROWS, SMALL, replace(ROWS[SMALL], files=sources))
        yield server


def test_training_finds_what_was_fetched(server, reference):
    encoder = smp.encoders.get_encoder(SMALL, weights=None).eval()
    for _ in range(2):
        samseg.load_sam_weights(encoder, "sa-1b")
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        assert relative_error(encoder.image_embedding(x), reference(x)) < 1e-5
    assert server.ranges_asked(HUB) == [None]  # the second time it was here
    assert find(SMALL) == weights_folder() / SMALL / "encoder.safetensors"


def test_the_next_source_is_asked(server):
    del server.files[HUB]
    assert fetch(SMALL).name == "model.pth"
    assert find(SMALL) == find(SMALL, whole=True) == weights_folder() / SMALL / "model.pth"


@pytest.mark.parametrize("trouble", ["lies", "gives no digest"])
def test_a_source_that_cannot_be_trusted_is_passed_over(trouble, server):
    if trouble == "lies":
        server.lies[HUB] = server.files[HUB][:-1] + b"\0"
    else:
        server.without_digest.add(HUB)
    assert fetch(SMALL).name == "model.pth"


def test_all_of_sam_is_fetched_where_only_the_encoder_is(server):
    fetch(SMALL)
    assert find(SMALL, whole=True) is None
    assert fetch(SMALL, whole=True).name == "model.pth"


def test_no_source_names_each_reason_and_the_ways_out(server):
    server.files.clear()
    with pytest.raises(WeightsError) as caught:
        fetch(SMALL)
    message = str(caught.value)
    for part in ("huggingface.co/someone/sam: ", "it answers 404", f"samseg weights {SMALL} --from", "model.weights="):
        assert part in message
    assert "\n" not in message


def test_offline_asks_nobody(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        fetch(SMALL)
    assert not server.requests


def test_a_copied_folder_serves_an_offline_machine(server, tmp_path, monkeypatch):
    fetch(SMALL)
    weights_folder().parent.rename(tmp_path / "stick")
    (tmp_path / "other").mkdir()
    (tmp_path / "stick").rename(tmp_path / "other" / "samseg")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    samseg.load_sam_weights(smp.encoders.get_encoder(SMALL, weights=None), "sa-1b")


def test_a_file_is_put_in_place_and_named(server, files, tmp_path):
    (tmp_path / "downloaded.pth").write_bytes(files[MIRROR])
    placed = put(tmp_path / "downloaded.pth", SMALL)
    assert (placed.contents.variant, placed.contents.layout, placed.contents.whole) == (SMALL, "segment-anything", True)
    assert placed.published.place.endswith(MIRROR)
    assert find(SMALL, whole=True) == placed.file
    (tmp_path / "encoder.safetensors").write_bytes(files[HUB])
    placed = put(tmp_path / "encoder.safetensors")
    assert (placed.contents.layout, placed.contents.whole, placed.published) == ("timm", False, None)
    assert not server.requests


def test_what_is_no_known_encoder_is_not_put_in_place(server, files, tmp_path):
    (tmp_path / "sam.pth").write_bytes(files[MIRROR])
    with pytest.raises(WeightsError, match=f"holds weights of {SMALL}, not of sam-vit_b"):
        put(tmp_path / "sam.pth", "sam-vit_b")
    other = segment_anything_encoder(**SMALL_ARGUMENTS | dict(depth=6)).state_dict()
    save_file({name: value.contiguous() for name, value in other.items()}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="other.safetensors: its image encoder is none of"):
        put(tmp_path / "other.safetensors")
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(WeightsError, match="page.pth"):
        put(tmp_path / "page.pth")
    assert not weights_folder().exists()


@pytest.mark.parametrize("begun", [False, True], ids=["at once", "going on"])
def test_the_token_goes_to_the_hub_and_to_no_other_host(begun, server, files, monkeypatch):
    """The hub sends one on: within itself where a repository was renamed, then to where its files lie."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    renamed = HUB.replace("someone", "another")
    server.files[renamed] = files[HUB]
    with serving({"/blob": files[HUB]}) as storage:
        server.redirects |= {HUB: renamed, renamed: f"{storage.url}/blob"}
        if begun:
            storage.breaks_after = [1000]
        assert fetch(SMALL).read_bytes() == files[HUB]
        assert set(server.tokens[HUB] + server.tokens[renamed]) == {f"Bearer {TOKEN}"}
        assert (
            len(server.tokens[HUB]) == len(server.tokens[renamed]) == 2 + begun
        )  # asked for the digest, then the file
        assert storage.tokens == {"/blob": [None] * (1 + begun)}
    fetch(SMALL, whole=True)
    assert server.tokens[MIRROR] == [None]


def test_a_repository_with_a_licence_says_where_that_is_accepted(files, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(ROWS, SMALL, replace(ROWS[SMALL], files=(WeightsFile("someone/sam", 1, whole=False),)))
    with hub(tmp_path / "hub") as server:
        server.put("someone/sam", {"model.safetensors": files[HUB]})
        server.gated.add("someone/sam")
        for token in (None, "hf_of_a_stranger"):
            if token:
                monkeypatch.setenv("HF_TOKEN", token)
            with pytest.raises(WeightsError) as caught:
                fetch(SMALL)
            login = "and a login (hf auth login, or set HF_TOKEN)"
            assert f"wants its licence accepted at {server.url}/someone/sam, {login}" in str(caught.value)
            assert "\n" not in str(caught.value)
        monkeypatch.delenv("HF_TOKEN")
        (tmp_path / "hub").mkdir(exist_ok=True)
        (tmp_path / "hub" / "token").write_text(TOKEN)  # what `hf auth login` leaves
        assert fetch(SMALL).read_bytes() == files[HUB]


def test_another_set_of_weights_has_a_name_and_a_place(server, files, tmp_path, monkeypatch):
    other = WeightsFile("someone/other", 1, whole=False, tag="satellite", gated=True)
    monkeypatch.setitem(ROWS, SMALL, replace(ROWS[SMALL], files=(*ROWS[SMALL].files, other)))
    server.files["/someone/other/resolve/main/model.safetensors"] = files[HUB]
    assert fetch(SMALL, weights="satellite") == weights_folder() / SMALL / "satellite" / "encoder.safetensors"
    assert find(SMALL) is None
    (tmp_path / "it.safetensors").write_bytes(files[HUB])
    assert put(tmp_path / "it.safetensors", SMALL, "satellite").file == find(SMALL, weights="satellite")
    lines = [line.split() for line in fetching.weights_table().splitlines()]
    [line] = [line for line in lines if "huggingface.co/someone/other" in line]
    assert line[0] == "satellite" and line[-2:] == ["Apache-2.0", "needed"]
    for weights in ("sattelite", "lvd-1689m"):
        with pytest.raises(WeightsError, match=f"{SMALL} has no weights '{weights}'; it has pretrained, sa-1b, sat"):
            fetch(SMALL, weights=weights)


@pytest.mark.parametrize("name", ["sam-vit_b", "sam-vit_l", "sam-vit_h", "sam-vit_t"])
def test_rows_name_sources_that_can_be_checked(name):
    """The first is SMP's; one has all of SAM; those that are not on the hub have a digest of their own."""
    row = ROWS[name]
    assert row.files[0].on_hub
    assert any(source.whole for source in row.files)
    assert all(source.on_hub or len(source.sha256) == 64 for source in row.files)
    with torch.device("meta"):
        size = sum(value.numel() for value in row.build().state_dict().values()) * 4 / 1e6
    decoder = 16.2  # megabytes of SAM's prompt encoder and mask decoder
    for source in row.files:
        assert source.megabytes == pytest.approx(size + decoder * source.whole, rel=0.05)
    assert fetching.known_variant(name) == name
