"""The card of a published run: its classes, data, figures and use."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment

from samseg.encoders.registry import ROWS
from samseg.models.pretrained import DIGEST, WEIGHTS
from samseg.runs.config.load import task_of
from samseg.runs.config.schema import RunConfig
from samseg.runs.facts import load_facts
from samseg.tasks import Task
from samseg.tasks.sections import Table, Text
from samseg.tasks.task import Figures

# Of an absolute path, also of one on Windows.
FOLDERS = re.compile(r"(?<![\w.:/~-])/(?:[^\s/'\"]+/)+|(?<!\w)[A-Za-z]:[\\/](?:[^\s\\/'\"]+[\\/])+")
TEMPLATE = """\
---
library_name: samseg
pipeline_tag: image-segmentation
{% if licence %}license: {{ licence }}
{% endif -%}
tags: [samseg, {{ task }}-segmentation]
---

# {{ name }}

A {{ task }} segmentation model: {{ arch }} with the encoder {{ encoder }}, trained with samseg at {{ size }} pixels.

```python
from samseg import {{ entry }}
{{ call }}
```

From the command line: `samseg infer hub:{{ repository }} photo.jpg`.
{% if classes %}
## Classes

| index | class |
| ---: | --- |
{% for class in classes -%}
| {{ loop.index0 }} | {{ class | cell }} |
{% endfor %}{% endif %}{% if data %}
## Data

{{ data }}
{% endif %}
## Metrics
{% for split, table in metrics.items() %}
On {{ split }}:

{{ table }}
{% endfor %}
## Weights

{% if base -%}
`best.safetensors` holds what was trained. The rest are the {{ base }} weights of {{ encoder }}{{ base_licence }}, which
samseg fetches from their publisher and checks: the SHA-256 of their tensors is `{{ digest }}`.
{%- else -%}
`best.safetensors` holds all weights{{ origin }}.
{%- endif %}

Licence: {{ licence or "not named by whoever published this" }}.
"""


def card(
    run: Path, config: RunConfig, figures: dict[str, Any], base: dict[str, str], repository: str, licence: str | None
) -> str:
    """The card as Markdown with the hub's head.

    Args:
        figures: by split; what is no split's is passed over.
        base: what the weights say of the base that they need (`samseg.models.pretrained`); {}: they need none.
        repository: USER/NAME.
        licence: an identifier of the hub's.
    """
    environment = Environment(trim_blocks=False, keep_trailing_newline=True)
    environment.filters["cell"] = _cell
    task, encoder = task_of(config), ROWS.get(config.model.encoder)
    semantic = config.task == "semantic"
    started = config.model.weights and f"; training began from {Path(config.model.weights).name}"
    return environment.from_string(TEMPLATE).render(
        name=repository.rpartition("/")[2],
        repository=repository,
        licence=licence,
        task=config.task,
        arch=config.model.arch,
        encoder=config.model.encoder,
        size=config.data.image_size,
        classes=list(config.data.classes),
        entry="Predictor" if semantic else "load_run",
        call=(
            f'classes = Predictor.from_run("hub:{repository}")("photo.jpg")  # (H, W) class indices'
            if semantic
            else f'model, config = load_run("hub:{repository}")'
        ),
        data=_markdown(load_facts(run)[1]),
        metrics={split: _results(task, found) for split, found in figures.items() if isinstance(found, dict)},
        base=base.get(WEIGHTS),
        base_licence=f" ({encoder.license})" if encoder else "",
        digest=base.get(DIGEST),
        origin=started or "",
    )


def _results(task: Task, figures: Figures) -> str:
    """A split's figures, and those of its objects where evaluation scored them."""
    objects = task.reporter().objects(figures)
    parts = [Text("", task.table(figures)), *(part for one in objects for part in (f"{one.title}:", one, one.note))]
    return "\n\n".join(part if isinstance(part, str) else _markdown(part) for part in parts)


def _markdown(section: Table | Text | None) -> str:
    """A section's text or table, without the folders of the maker's machine."""
    if section is None:
        return ""
    if isinstance(section, Text):
        return f"```text\n{FOLDERS.sub('', section.text)}\n```"
    rule = ["---", *["---:"] * (len(section.head) - 1)]
    rows = [section.head, rule, *section.rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows)


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
