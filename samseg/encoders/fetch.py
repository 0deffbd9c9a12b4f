"""Published weights on this machine: samseg's folder of them, and how a file comes into it.

    ~/.cache/samseg/weights/sam-vit_b/encoder.safetensors    SAM's image encoder alone
    ~/.cache/samseg/weights/sam-vit_b/model.pth              with the prompt encoder and the mask decoder
    ~/.cache/samseg/weights/VARIANT/TAG/encoder.safetensors  another set of weights than the variant's first

The folder holds nothing else, and may be copied to a machine without a network as it is.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import build_hf_headers

from samseg.common.download import DownloadError, download
from samseg.common.errors import WeightsError, suggestion
from samseg.common.files import file_digest, written_whole
from samseg.common.hub import refusal
from samseg.encoders import find_row
from samseg.encoders.encoder import TrunkEncoder
from samseg.encoders.registry import PUBLISHED, ROWS, WeightsFile
from samseg.encoders.weights import Contents, contents, read_checkpoint, trunk_state

HUB_FILE = "model.safetensors"
WAYS_OUT = (
    "give a checkpoint file instead (model.weights=/path/to/checkpoint.pth), start from random weights "
    "(model.weights=null), or take another encoder (model.encoder=resnet34 model.weights=imagenet)"
)


def load_sam_weights(encoder: TrunkEncoder, source: str | Path) -> None:
    """Load published or other weights into `encoder.trunk`; the pyramid stays as it is.

    Args:
        encoder: one of samseg's, such as `smp.Unet("sam-vit_b", encoder_weights=None).encoder`.
        source: "pretrained" or a tag such as "sa-1b" for published weights, which are downloaded where they are not
            here yet, or a file:
            segment-anything's or MobileSAM's `.pth`, timm's or transformers' `.safetensors`, or a fine-tune in one of
            these layouts (MedSAM, micro-sam).

    Raises:
        WeightsError: the file is missing, truncated, no checkpoint, of another variant, or lacks tensors of the
            encoder or has some too many. Nothing is loaded then.
    """
    file = fetch(encoder.variant, weights=str(source)) if is_published(source) else Path(source)
    if not file.suffix and not file.exists():  # a misspelt tag rather than a misplaced file
        names = [PUBLISHED[0], *ROWS[encoder.variant].tags]
        raise WeightsError(f"{source}: no such file, nor weights of {encoder.variant}{suggestion(str(source), names)}")
    state = read_checkpoint(file)
    try:
        encoder.trunk.load_state_dict(trunk_state(state, encoder.variant, encoder.trunk))
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None


@dataclass(frozen=True)
class Placed:
    """A file that was put into the folder, what it holds, and which published one it is, if that is known."""

    file: Path
    contents: Contents
    published: WeightsFile | None

    def __str__(self) -> str:
        """One line for people."""
        held = "all of SAM" if self.contents.whole else "the encoder alone"
        origin = (
            f"the file published at {self.published}"
            if self.published
            else "a file whose digest is not known here: see to it that it is a published one; a fine-tune is given by "
            "its path (model.weights=FILE)"
        )
        return (
            f"{self.file}: {self.contents.variant} in {self.contents.layout}'s layout, {held}; {origin}. It is found "
            "there from now on"
        )


def weights_folder() -> Path:
    """Where published weights lie: samseg's part of the user's cache folder (XDG_CACHE_HOME, or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "samseg" / "weights"


def is_published(weights: str | Path) -> bool:
    """Whether this names published weights, of whichever encoder, and no file."""
    return str(weights) in PUBLISHED or any(str(weights) in row.tags for row in ROWS.values())


def find(variant: str, whole: bool = False, weights: str = "pretrained") -> Path | None:
    """A variant's published weights if they are on this machine: in samseg's folder, or in the hub's cache.

    ``whole``: only a file that holds SAM's prompt encoder and mask decoder will do. ``weights``: which, by their tag.
    """
    folder = _folder(variant, weights)
    names = ("model",) if whole else ("encoder", "model")
    for file in (folder / f"{name}{suffix}" for name in names for suffix in (".safetensors", ".pth")):
        if file.is_file():
            return file
    for source in _sources(variant, whole, weights):
        if source.on_hub:
            try:
                return Path(hf_hub_download(source.place, HUB_FILE, local_files_only=True))
            except LocalEntryNotFoundError:
                continue
    return None


def fetch(variant: str, whole: bool = False, way_out: str = WAYS_OUT, weights: str = "pretrained") -> Path:
    """Find a variant's published weights, or download them from the first source that gives them.

    ``whole``: with SAM's prompt encoder and mask decoder. ``weights``: which, by their tag. Raises WeightsError when
    there are none of that tag, and when none of its sources gives them, with what is wrong with each and the
    ``way_out``; InputError when the disk is full: then the next call goes on where this one stopped.
    """
    found = find(variant, whole, weights)
    if found is not None:
        return found
    failures = []
    for source in _sources(variant, whole, weights):
        name = ("model" if source.whole else "encoder") + (".safetensors" if source.on_hub else ".pth")
        file = _folder(variant, weights) / name
        try:
            url, sha256, headers = _address(source)
            download(url, file, sha256, headers)
            return file
        except DownloadError as error:
            failures.append(f"{source}: {error}")
    raise WeightsError(
        f"the {ROWS[variant].tag(weights)} weights of {variant} cannot be fetched ({'; '.join(failures)}); bring a "
        f"file by other means and put it in place (samseg weights {variant} --from FILE), {way_out}"
    )


def put(file: Path, variant: str | None = None, weights: str = "pretrained") -> Placed:
    """Put a downloaded ``file`` where `find` looks for it, and say what it is.

    ``weights``: the tag under which it is found. Raises WeightsError when it holds no encoder that is known, or another
    than ``variant``.
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
    known = {one.sha256: one for one in ROWS[found.variant].files if one.sha256}
    suffix = ".safetensors" if file.suffix == ".safetensors" else ".pth"
    target = _folder(found.variant, weights) / (("model" if found.whole else "encoder") + suffix)
    if not (target.exists() and target.samefile(file)):
        with written_whole(target) as temporary:
            shutil.copyfile(file, temporary)
        for other in {".safetensors", ".pth"} - {suffix}:
            target.with_suffix(other).unlink(missing_ok=True)
    return Placed(target, found, known.get(digest))


def weights_table() -> str:
    """A table for people: every variant, the files that are here, and who publishes them, in the order of asking."""
    rows = [("encoder", "weights", "source", "size", "holds", "license", "login")]
    shown: list[str] = []
    for name, row in ROWS.items():
        for tag in row.tags:
            for source in _sources(name, False, tag):
                held, login = "all of SAM" if source.whole else "encoder", "needed" if source.gated else "no"
                cells = [name, tag, str(source), f"{source.megabytes} MB", held, row.license, login]
                rows.append(["" if cell in shown else cell for cell in cells[:2]] + cells[2:])
                shown = cells[:2]
            file = find(name, weights=tag)
            rows.append(("", "", f"here: {file}" if file else "not here", "", "", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, f"folder: {weights_folder()}"])


def known_variant(name: str) -> str:
    """Return ``name``, an encoder's or timm's of a plain ViT; WeightsError where none has it, or ConfigError."""
    if find_row(name) is None:
        raise WeightsError(f"no encoder {name!r}{suggestion(name, ROWS)}")
    return name


def _sources(variant: str, whole: bool, weights: str) -> list[WeightsFile]:
    tag = _tag(variant, weights)
    return [one for one in ROWS[variant].files if one.tag == tag and (one.whole or not whole)]


def _folder(variant: str, weights: str) -> Path:
    """Where files of a tag lie: those of a variant's first one in its own folder."""
    tag, folder = _tag(variant, weights), weights_folder() / variant
    return folder if tag == ROWS[variant].tags[0] else folder / tag


def _tag(variant: str, weights: str) -> str:
    row = ROWS[variant]
    tag = row.tag(weights)
    if tag is None:
        raise WeightsError(f"{variant} has no weights {weights!r}; it has {', '.join([PUBLISHED[0], *row.tags])}")
    return tag


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
