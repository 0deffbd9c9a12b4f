"""Published weights on this machine: samseg's folder of them, and how a file comes into it.

    ~/.cache/samseg/weights/sam-vit_b/encoder.safetensors    SAM's image encoder alone
    ~/.cache/samseg/weights/sam-vit_b/model.pth              with the prompt encoder and the mask decoder

The folder holds nothing else, and may be copied to a machine without a network as it is.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import build_hf_headers

from samseg.common.download import DownloadError, download, file_digest
from samseg.common.errors import WeightsError, suggestion
from samseg.common.files import written_whole
from samseg.common.hub import refusal
from samseg.encoders.encoder import TrunkEncoder
from samseg.encoders.registry import ROWS, WeightsFile
from samseg.encoders.weights import Contents, contents, read_checkpoint, trunk_state

PUBLISHED = ("sa-1b", "imagenet")  # "imagenet" is what SMP and its users ask for by default
HUB_FILE = "model.safetensors"
WAYS_OUT = (
    "give a checkpoint file instead (model.weights=/path/to/checkpoint.pth), start from random weights "
    "(model.weights=null), or take another encoder (model.encoder=resnet34 model.weights=imagenet)"
)


def load_sam_weights(encoder: TrunkEncoder, source: str | Path) -> None:
    """Load what SAM learned into `encoder.trunk`; the pyramid stays as it is.

    Args:
        encoder: one of SAM's encoders, such as `smp.Unet("sam-vit_b", encoder_weights=None).encoder`.
        source: "sa-1b" for the published weights, which are downloaded where they are not here yet, or a file:
            segment-anything's or MobileSAM's `.pth`, timm's or transformers' `.safetensors`, or a fine-tune in one of
            these layouts (MedSAM, micro-sam).

    Raises:
        WeightsError: the file is missing, truncated, no checkpoint, of another variant, or lacks tensors of the
            encoder or has some too many. Nothing is loaded then.
    """
    state = read_checkpoint(fetch(encoder.variant) if str(source) in PUBLISHED else Path(source))
    try:
        encoder.trunk.load_state_dict(trunk_state(state, encoder.variant, encoder.trunk))
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None


@dataclass(frozen=True)
class Placed:
    """A file that was put into the folder, and what it is; ``source``: who published it, None if that is not known."""

    file: Path
    contents: Contents
    source: WeightsFile | None

    def __str__(self) -> str:
        """One line for people."""
        held = "all of SAM" if self.contents.whole else "SAM's image encoder alone"
        origin = (
            f"the file published at {self.source}"
            if self.source
            else "a file whose digest is not known here: see to it that it is SAM's own and no fine-tune, which is "
            "given by its path (model.weights=FILE)"
        )
        return (
            f"{self.file}: {self.contents.variant} in {self.contents.layout}'s layout, {held}; {origin}. It is found "
            "there from now on"
        )


def weights_folder() -> Path:
    """Where published weights lie: samseg's part of the user's cache folder (XDG_CACHE_HOME, or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "samseg" / "weights"


def find(variant: str, whole: bool = False) -> Path | None:
    """A variant's published weights if they are on this machine: in samseg's folder, or in the hub's cache.

    ``whole``: only a file that holds SAM's prompt encoder and mask decoder will do.
    """
    folder = weights_folder() / variant
    names = ("model",) if whole else ("encoder", "model")
    for file in (folder / f"{name}{suffix}" for name in names for suffix in (".safetensors", ".pth")):
        if file.is_file():
            return file
    for source in _sources(variant, whole):
        if source.on_hub:
            try:
                return Path(hf_hub_download(source.place, HUB_FILE, local_files_only=True))
            except LocalEntryNotFoundError:
                continue
    return None


def fetch(variant: str, whole: bool = False, way_out: str = WAYS_OUT) -> Path:
    """Find a variant's published weights, or download them from the first source that gives them.

    ``whole``: with SAM's prompt encoder and mask decoder. Raises WeightsError when none does, with what is wrong with
    each and the ``way_out``, and InputError when the disk is full: then the next call goes on where this one stopped.
    """
    found = find(variant, whole)
    if found is not None:
        return found
    failures = []
    for source in _sources(variant, whole):
        name = ("model" if source.whole else "encoder") + (".safetensors" if source.on_hub else ".pth")
        file = weights_folder() / variant / name
        try:
            url, sha256, headers = _address(source)
            download(url, file, sha256, headers)
            return file
        except DownloadError as error:
            failures.append(f"{source}: {error}")
    raise WeightsError(
        f"the SA-1B weights of {variant} cannot be fetched ({'; '.join(failures)}); bring a file by other means and "
        f"put it in place (samseg weights {variant} --from FILE), {way_out}"
    )


def put(file: Path, variant: str | None = None) -> Placed:
    """Put a downloaded ``file`` where `find` looks for it, and say what it is.

    Raises WeightsError when it holds no SAM encoder that is known, or another than ``variant``.
    """
    state = read_checkpoint(file)
    try:
        found = contents(state)
        trunk_state(state, found.variant, ROWS[found.variant].outline)  # which refuses what is not complete
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from None
    if variant is not None and found.variant != variant:
        raise WeightsError(f"{file} holds weights of {found.variant}, not of {variant}; samseg weights {found.variant}")
    digest = file_digest(file)
    known = {source.sha256: source for source in ROWS[found.variant].sources if source.sha256}
    suffix = ".safetensors" if file.suffix == ".safetensors" else ".pth"
    target = weights_folder() / found.variant / (("model" if found.whole else "encoder") + suffix)
    if not (target.exists() and target.samefile(file)):
        with written_whole(target) as temporary:
            shutil.copyfile(file, temporary)
        for other in {".safetensors", ".pth"} - {suffix}:
            target.with_suffix(other).unlink(missing_ok=True)
    return Placed(target, found, known.get(digest))


def listed() -> str:
    """A table for people: every variant, the file that is here, and who publishes it, in the order of asking."""
    rows = [("encoder", "source", "size", "holds", "license")]
    for name, variant in ROWS.items():
        for number, source in enumerate(variant.sources):
            held = "all of SAM" if source.whole else "encoder"
            rows.append((name if number == 0 else "", str(source), f"{source.megabytes} MB", held, variant.license))
        file = find(name)
        rows.append(("", f"here: {file}" if file else "not here", "", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, f"folder: {weights_folder()}"])


def known_variant(name: str) -> str:
    """``name``, if it is one of a variant; else WeightsError."""
    if name not in ROWS:
        raise WeightsError(f"no encoder {name!r}{suggestion(name, ROWS)}")
    return name


def _sources(variant: str, whole: bool) -> list[WeightsFile]:
    return [source for source in ROWS[variant].sources if source.whole or not whole]


def _address(source: WeightsFile) -> tuple[str, str, dict[str, str]]:
    """Where a source's file is, its SHA-256, which the hub is asked for, and headers: on the hub the user's token."""
    if constants.HF_HUB_OFFLINE:
        raise DownloadError("not asked, as HF_HUB_OFFLINE is set")
    if not source.on_hub:
        return source.place, source.sha256, {}
    url = f"{constants.ENDPOINT}/{source.place}/resolve/main/{HUB_FILE}"
    try:
        digest = get_hf_file_metadata(url).etag or ""
    except Exception as error:  # the hub's versions stand on different HTTP libraries, which raise errors of their own
        raise DownloadError(refusal(error) or f"cannot be reached ({type(error).__name__})") from error
    if len(digest) != 64:
        raise DownloadError("it gives no SHA-256 of the file")
    return url, digest, build_hf_headers()
