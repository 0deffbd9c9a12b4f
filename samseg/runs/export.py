"""A run as one self-contained file, or a folder for segmentation-models-pytorch."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from samseg.common.errors import InputError
from samseg.common.files import refusals_named, write_bytes, write_json, written_whole
from samseg.encoders.adapters.insert import adapter_name, can_be_merged, merge_adapter
from samseg.models.sam.contract import PromptableSam
from samseg.models.sam.decoder_lora import merge_attention
from samseg.runs.config.load import portable_yaml, task_of
from samseg.runs.config.schema import RunConfig
from samseg.runs.hub.pull import outputs_folder
from samseg.runs.load import load_run
from samseg.runs.sam import tuned_sam
from samseg.runs.tensors import CONFIG_ENTRY, save_weights

EXTRA = 'pip install "samseg-smp[export]"'
ONNX_BYTES = 2**31  # an ONNX file is one protobuf message
NOTES = "samseg.json"  # of a .pt2 and in an SMP folder: classes, mean, std ...


def export(run: str | Path, to: str, out: str | Path | None = None) -> Path:
    """Write the best model of ``run`` in the format ``to``, a key of `FORMATS`; returns the file or folder written.

    ``out`` defaults to ``model.<suffix>`` (for smp: ``smp/``) in the run folder, or in hub/USER/NAME for a run on the
    hub. It is written whole or not at all.
    ONNX and torch-export take normalised images (B, bands, S, S) float32, S = ``data.image_size``, any B, and give
    logits (B, classes, S, S); class names, bands, scale, mean, std (on 0..1) and size lie within.

    Raises InputError for what is no run, for an ``out`` that exists, and for a format that cannot hold the model.
    """
    name, write = FORMATS[to]
    model, config = load_run(run)
    if out is None:
        out = outputs_folder(run) / name
        out.parent.mkdir(parents=True, exist_ok=True)
    out = Path(out)
    if out.exists():
        raise InputError(f"{out} exists already: remove it, or name another with --out")
    if not out.parent.is_dir():
        raise InputError(f"{out.parent} is no folder: make it, or name another file with --out")
    write(Export(model if to in WHOLE else plain(model, config), config), out)
    return out


def plain(model: nn.Module, config: RunConfig) -> nn.Module:
    """The same network as SMP alone knows it, on the CPU in evaluation mode: nothing of ours wrapped around its layers.

    An adapter that can be is merged into the weights; the others depend on the image, so they stay.
    """
    if isinstance(model, PromptableSam):
        merge_attention(model.mask_decoder)
    if can_be_merged(model):
        merge_adapter(model)
    if adapter_name(model) is not None:
        return model
    bare = task_of(replace(config, model=replace(config.model, adapter=None))).build_model(pretrained=False).model
    bare.load_state_dict(model.state_dict())
    return bare.eval()


@dataclass(frozen=True)
class Export:
    """A run's best model, as it is or `plain`, and a method for each of `FORMATS` that writes it."""

    model: nn.Module
    config: RunConfig

    @property
    def notes(self) -> dict[str, str]:
        """Everything a user of the network needs beside its weights; values other than text are JSON."""
        shown = self.config.data.preprocessing
        return {
            # In the order of the logits' channels.
            "classes": json.dumps(list(self.config.data.classes), ensure_ascii=False),
            "bands": json.dumps(shown.bands),  # of the image, from 1; null: R, G, B
            "scale": json.dumps(shown.scale),  # the values that become 0..1; null: 0..255
            "mean": json.dumps(shown.mean),  # of each band on 0..1
            "std": json.dumps(shown.std),
            "image_size": str(shown.size),
            "resize": json.dumps(shown.resize),  # "squash": both sides; false: trained on crops, to be used on tiles
        }

    def safetensors(self, out: Path) -> None:
        # All weights are inside; where they and the data lay means nothing elsewhere, and is nobody's business there.
        model = self.config.model
        adapter = model.adapter if adapter_name(self.model) else None  # it was merged
        config = replace(self.config, model=replace(model, weights=None, adapter=adapter))
        save_weights(self.model.state_dict(), out, {CONFIG_ENTRY: portable_yaml(config), **self.notes})

    def onnx(self, out: Path) -> None:
        self._need_logits()
        try:
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise InputError(f"ONNX needs the package {error.name}: {EXTRA}") from None
        if sum(tensor.nbytes for tensor in self.model.state_dict().values()) >= ONNX_BYTES:
            raise InputError(
                "the model is larger than the 2 GB that one ONNX file holds: export it with --to torch-export"
            )
        program = torch.onnx.export(
            self.model,
            (self._images,),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
        program.model.metadata_props.update(self.notes)
        with written_whole(out) as temporary:
            program.save(temporary, external_data=False)

    def torch_export(self, out: Path) -> None:
        self._need_logits()
        program = torch.export.export(self.model, (self._images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        archive = BytesIO()  # to a file torch would write with an abort where the disk is full
        torch.export.save(program, archive, extra_files={NOTES: json.dumps(self.notes)})
        write_bytes(out, archive.getvalue())

    def smp(self, out: Path) -> None:
        if self.config.model.arch.lower() == "sam":
            raise InputError("SMP has no model.arch=sam: export it to another format")
        if adapter_name(self.model) is not None:
            raise InputError(
                f"SMP knows no {adapter_name(self.model)}, and it cannot be merged into the weights: export to "
                "safetensors, onnx or torch-export"
            )
        with _made_whole(out) as folder:
            self.model.save_pretrained(folder)
            write_json(self.notes, folder / NOTES)
            (folder / "README.md").write_text(SMP_CARD.format(name=out.name), encoding="utf-8")

    def sam(self, out: Path, generation: str = "sam") -> None:
        sam = self._whole()
        if sam.format != generation:
            encoder = self.config.model.encoder
            raise InputError(f"{generation} is for another SAM than {encoder}'s: export it with --to {sam.format}")
        sam.save(out)

    def transformers(self, out: Path) -> None:
        sam = self._whole()
        with _made_whole(out) as folder:
            sam.save_transformers(folder)

    def _whole(self) -> PromptableSam:
        sam = tuned_sam(self.model, self.config.data.preprocessing)
        if sam is None:
            raise InputError(
                "this run has no SAM with prompt encoder and mask decoder: only a run of task=promptable can be "
                f"exported to {', '.join(WHOLE)}"
            )
        return sam

    def _need_logits(self) -> None:
        if isinstance(self.model, PromptableSam) and self.model.class_tokens is None:
            raise InputError(
                "this run answers to prompts alone, and images -> logits is what this format holds: export it with "
                f"--to {self.model.format}, or train with prompts.none above 0"
            )

    @property
    def _images(self) -> Tensor:
        shown = self.config.data.preprocessing
        return torch.zeros(2, shown.channels, shown.size, shown.size)  # a batch of one would be taken for a constant


@contextmanager
def _made_whole(out: Path) -> Iterator[Path]:
    """Yield a folder beside ``out`` and rename it to ``out`` at the end, so that it is whole or absent."""
    with refusals_named(out):
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
        try:
            yield folder
            folder.chmod(0o755)
            folder.rename(out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


SMP_CARD = """\
# A segmentation model trained with samseg

```python
import samseg  # registers SAM's encoders
import segmentation_models_pytorch as smp

model = smp.from_pretrained("{name}").eval()
```

`samseg.json` holds the class names in the order of the logits' channels, and how images are normalised and sized.
"""
FORMATS: dict[str, tuple[str, Callable[[Export, Path], None]]] = {
    "safetensors": ("model.safetensors", Export.safetensors),
    "onnx": ("model.onnx", Export.onnx),
    "torch-export": ("model.pt2", Export.torch_export),
    "smp": ("smp", Export.smp),
    "sam": ("sam.pth", Export.sam),
    "sam2": ("sam2.pt", partial(Export.sam, generation="sam2")),
    "sam3": ("sam3.pt", partial(Export.sam, generation="sam3")),
    "transformers": ("transformers", Export.transformers),
}
WHOLE = ("sam", "sam2", "sam3", "transformers")  # formats of a whole SAM
