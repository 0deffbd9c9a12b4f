"""The files of a run for its report: facts about it, and for each split the counts by image and some examples."""

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from samseg.common.errors import InputError
from samseg.common.files import write_json, written_whole
from samseg.runs.folder import FACTS, details_file
from samseg.tasks.sections import Gallery, Picture, Table, Text
from samseg.tasks.task import Details, Figures

KINDS = {kind.__name__: kind for kind in (Table, Text)}
FIGURES, GALLERY = "figures", "gallery"  # beside the arrays of the details, as JSON text
EVALUATED = "evaluated"  # among the figures kept for the report: the options of the command


def save_facts(folder: Path, facts: dict[str, Any], data: Table | Text) -> None:
    """Write ``facts`` about a run (names -> text or numbers) and what its training ``data`` hold."""
    write_json({**facts, "data": {"kind": type(data).__name__, **asdict(data)}}, folder / FACTS)


def load_facts(folder: Path) -> tuple[dict[str, Any], Table | Text | None]:
    """What `save_facts` wrote; nothing for a run of an older version."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        data = facts.pop("data")
        return facts, KINDS[data.pop("kind")](**data)
    except FileNotFoundError:
        return {}, None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / FACTS} cannot be read ({error}); delete it to go on without it") from None


def save_split(folder: Path, split: str, figures: Figures, details: Details, gallery: Gallery | None) -> None:
    """Write everything that a report needs about a split."""
    texts = {FIGURES: json.dumps(figures), GALLERY: json.dumps(_packed(gallery))}
    with written_whole(details_file(folder, split)) as temporary:
        np.savez_compressed(temporary, **details, **{name: np.array(text) for name, text in texts.items()})


def load_split(folder: Path, split: str) -> tuple[Figures, Details, Gallery | None]:
    """What `save_split` wrote; InputError when there is nothing, or it is damaged."""
    file = details_file(folder, split)
    if not file.is_file():
        raise InputError(f"{folder} has not been evaluated on {split}: samseg evaluate {folder} {split}")
    try:
        with np.load(file) as content:
            arrays = {name: content[name] for name in content.files}
        figures, gallery = (json.loads(str(arrays.pop(name))) for name in (FIGURES, GALLERY))
    except Exception as error:  # numpy and zlib raise errors of many kinds
        raise InputError(f"{file} is damaged ({error}): samseg evaluate {folder} {split} writes it anew") from None
    return figures, arrays, _unpacked(gallery)


def splits_of(folder: Path) -> list[str]:
    """The splits that the run was evaluated on: val, of its best epoch, first."""
    before, after = details_file(folder, "*").name.split("*")
    found = [file.name.removeprefix(before).removesuffix(after) for file in folder.glob(f"{before}*{after}")]
    return sorted(found, key=lambda split: (split != "val", split))


def _packed(gallery: Gallery | None) -> dict | None:
    if gallery is None:
        return None
    rows = [[line, [[p.title, base64.b64encode(p.data).decode()] for p in row]] for line, row in gallery.rows]
    return {**vars(gallery), "rows": rows}


def _unpacked(content: dict | None) -> Gallery | None:
    if content is None:
        return None
    rows = [(line, [Picture(title, base64.b64decode(data)) for title, data in row]) for line, row in content["rows"]]
    return Gallery(**{**content, "rows": rows})
