"""Fill the feature cache: all processes together compute what no run has computed yet."""

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from samseg.common.errors import InputError
from samseg.common.files import READERS
from samseg.common.machine import megabytes
from samseg.data.dataset import SegmentationDataset
from samseg.data.loader import Loader
from samseg.data.preprocess import SQUASH, Preprocessing
from samseg.data.sources import Source
from samseg.features.store import FeatureStore
from samseg.models.cached import on_taps
from samseg.models.pretrained import digest

Entry = tuple[Source, str, int]  # an image of a source, and the number of its view


def with_features(
    model: nn.Module,
    training: SegmentationDataset,
    validation: SegmentationDataset,
    accelerator: Accelerator,
    *,
    root: Path,
    dtype: str,
    precision: str,
    batch_size: int,
    workers: int,
) -> nn.Module:
    """The model that is trained on stored taps, and both data sets giving them; what is missing is computed before.

    ``model`` has the weights it will have, and is not yet wrapped for several processes: they compute different images.
    InputError for a model or a disk that this cannot be done with.

    Args:
        root: the cache's folder.
        dtype: what the taps are stored in, one of `samseg.features.store.DTYPES`.
        precision: what the encoder computes in, as ``train.precision`` names it.
        batch_size: images that are read at a time.
        workers: processes that read images.
    """
    preprocessing = training.preprocessing
    tap_model = on_taps(model, preprocessing.size).to(accelerator.device)
    store = feature_store(tap_model.encoder, preprocessing, root=root, dtype=dtype, precision=precision)
    entries = [(training.source, name, view) for name in training.source.names for view in range(training.views)]
    entries += [(validation.source, name, 0) for name in validation.source.names]
    for source in (training.source, validation.source):
        store.add(source)
    entries = list({store.path(*entry): entry for entry in entries}.values())  # the same picture twice is one file
    missing = _missing(store, entries, tap_model.encoder, preprocessing.size, accelerator)
    if missing:
        views, pinned = Views(missing, preprocessing), accelerator.device.type == "cuda"
        with closing(Loader(views, workers, batch_size=batch_size, pin_memory=pinned)) as loader:
            _compute(store, missing, tap_model.encoder, loader, accelerator)
    accelerator.wait_for_everyone()
    absent = [entry for entry in entries if not store.path(*entry).is_file()]
    if absent:
        raise InputError(
            f"{len(absent)} features that other processes computed are not in {store.folder} on this machine; put "
            "train.cache_dir on a disk that all machines share"
        )
    for dataset in (training, validation):
        dataset.use_features(store)
    return tap_model


def feature_store(
    encoder: nn.Module, preprocessing: Preprocessing, *, root: Path, dtype: str, precision: str
) -> FeatureStore:
    """The store under ``root`` for an encoder and what it is shown of images."""
    recipe = {
        "encoder": encoder.variant,
        "weights": digest(encoder.trunk.state_dict()),
        "taps": [list(tap) for tap in zip(encoder.tap_channels, encoder.tap_strides, strict=True)],
        "image_size": preprocessing.size,
        "bands": preprocessing.bands,
        "scale": preprocessing.scale,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "precision": precision,
        "dtype": dtype,
    }
    if preprocessing.resize == SQUASH:
        recipe["resize"] = SQUASH
    return FeatureStore(root, f"{encoder.variant}-{preprocessing.size}", recipe)


def _missing(
    store: FeatureStore, entries: list[Entry], encoder: nn.Module, size: int, accelerator: Accelerator
) -> list[Entry]:
    """This process's share of the ``entries`` that are missing or damaged in the store.

    Says what all processes are to compute and the disk that it takes; InputError when it cannot fit there.
    """
    share = entries[accelerator.process_index :: accelerator.num_processes]
    shown = accelerator.is_main_process
    if shown:
        store.sweep()
    with ThreadPoolExecutor(READERS) as pool:
        states = pool.map(lambda entry: store.state(*entry), share)
        states = list(tqdm(states, "checking features", len(share), leave=False, disable=None if shown else True))
    missing = [entry for entry, state in zip(share, states, strict=True) if state != "sound"]
    counts = torch.tensor([len(missing), states.count("damaged")], device=accelerator.device)
    to_compute, damaged = accelerator.reduce(counts, "sum").tolist()
    if not to_compute:
        accelerator.print(f"features: all {len(entries)} read from {store.folder}")
        return missing
    taps = zip(encoder.tap_channels, encoder.tap_strides, strict=True)
    needed = to_compute * store.dtype.itemsize * sum(width * (size // stride) ** 2 for width, stride in taps)
    free = _free_bytes(store.folder)
    again = f", {damaged} of them damaged," if damaged else ""
    accelerator.print(
        f"features: computing {to_compute} of {len(entries)}{again} in {store.folder}: {megabytes(needed)} of the "
        f"{megabytes(free)} that are free"
    )
    if needed > free:
        raise InputError(
            f"the features take {megabytes(needed)}, but {store.folder} has {megabytes(free)} free: name another "
            "folder with train.cache_dir, lower data.views or data.image_size, or set train.cache_features=false"
        )
    return missing


def _compute(
    store: FeatureStore, entries: list[Entry], encoder: nn.Module, loader: Loader, accelerator: Accelerator
) -> None:
    """Run the trunk over the ``loader``'s batches of ``entries`` and write its taps.

    Images are encoded one by one, because what comes out depends, in its last bits, on what else is in a batch: an
    entry is to depend on its image alone. A batch is written while the next is run.
    """
    size, device = loader.batch_size, accelerator.device
    shown = None if accelerator.is_main_process else True
    encoder.eval()
    writes: list[Future] = []
    with (
        ThreadPoolExecutor(READERS) as pool,
        tqdm(desc="features", total=len(entries), unit="image", disable=shown) as bar,
    ):
        for number, images in enumerate(loader):
            with torch.inference_mode(), accelerator.autocast():
                images = images.to(device, non_blocking=True)
                taps = [[tap[0].cpu() for tap in encoder.taps(image[None])] for image in images]
            _finish(writes, bar)
            for entry, of_image in zip(entries[number * size :], taps):
                writes.append(pool.submit(store.write, *entry, of_image))
        _finish(writes, bar)


def _finish(writes: list[Future], bar: tqdm) -> None:
    """Wait for ``writes``, raise what one of them raised, and empty the list."""
    for write in writes:
        write.result()
    bar.update(len(writes))
    writes.clear()


class Views(Dataset):
    """Views of images as the network sees them, (C, S, S) float32: as in training without augmentation."""

    def __init__(self, entries: list[Entry], preprocessing: Preprocessing):
        self.entries, self.preprocessing = entries, preprocessing

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Tensor:
        source, name, view = self.entries[index]
        return self.preprocessing.whole_input(source.image(name), source.image_file(name), view)


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
