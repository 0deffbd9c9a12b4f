"""Merge the parts of all shards into one map."""

from pathlib import Path

from samseg.maps.disk import writing
from samseg.maps.options import MapOptions
from samseg.maps.parts.store import PartStore
from samseg.maps.products import Products


def merge(folder: Path, cog: bool = False, overwrite: bool = False) -> None:
    """Make what the shards in ``folder`` (STEM.parts) were asked for, beside it, and remove the parts.

    InputError for a folder that holds no parts or not all of them, and for a map of another result that is there.
    """
    store = PartStore.opened(folder)
    products = Products(store, folder.parent, MapOptions.from_outputs(store.outputs, cog=cog, overwrite=overwrite))
    with products.lock(), writing(folder.parent):
        if overwrite or not products.finished():
            products.write()
        store.remove()
