"""Maps and photos on a Ray cluster: the model is loaded once an actor, and what fails is tried again by Ray."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from samseg.common.errors import InputError, first_line
from samseg.common.machine import keep_freed_memory
from samseg.inference.each import check_names
from samseg.inference.photos import predict_images
from samseg.inference.predictor import Predictor
from samseg.maps.checks import check_inputs
from samseg.maps.disk import disk_errors_named
from samseg.maps.options import MapOptions
from samseg.maps.parts.store import PartStore
from samseg.maps.products import Products
from samseg.maps.run import MapRun, locked_products

try:
    import ray
    from ray.exceptions import RayActorError, RayTaskError
    from ray.util import ActorPool
except ImportError as error:
    raise InputError(f"--engine ray needs ray ({error}): pip install 'samseg-smp[ray]'") from None

RETRIES = 5  # of a share of the work whose worker died, and restarts of a worker
SHARES = 4  # of each raster for a worker, so that none waits long for the last
TOGETHER = 8  # photos


class Share(NamedTuple):
    """Parts of one map, or some photos (then there are no parts)."""

    paths: list[Path]
    parts: range | None = None


class Done(NamedTuple):
    """A share that has been done: how many of its photos could not be read, or what is wrong with its map."""

    share: Share
    failed: int = 0
    error: str | None = None


class Worker:
    """An actor: a trained run, loaded once, with its first share: Ray would try a worker that cannot begin again."""

    def __init__(self, run: Path, out: Path, options: MapOptions, device: str | None, settings: dict[str, Any]):
        self.path, self.device, self.settings = run, device, settings
        self.out, self.options = out, options

    @cached_property
    def run(self) -> MapRun:
        keep_freed_memory()
        return MapRun(Predictor.from_run(self.path, self.device, **self.settings), self.path)

    def do(self, share: Share) -> Done:
        run, path = self.run, share.paths[0]
        try:
            if share.parts is None:
                written = self.options.probabilities is not None
                return Done(share, predict_images(run.predictor, share.paths, self.out, written))
            with disk_errors_named(self.out):
                run.compute(run.store(path, self.out, self.options), path, self.options, share.parts)
        except InputError as error:
            return Done(share, error=str(error))
        return Done(share)


def connect(address: str | None) -> None:
    """Join the cluster at ``address``, or start one here; InputError if none answers there."""
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError) as error:
        raise InputError(f"no Ray cluster at {address} ({first_line(error)}); name another --address") from None


def start_workers(
    run: Path,
    out: Path,
    options: MapOptions,
    *,
    address: str | None = None,
    workers: int | None = None,
    gpus: float = 0,
    device: str | None = None,
    **settings: Any,
) -> list[Any]:
    """Actors on the cluster at ``address``, or on one that is started here; at most as many as it has room for.

    A worker that dies is started again and given its share again. ``settings``: of its `Predictor`.
    """
    connect(address)
    there = ray.cluster_resources()
    room = max(1, int(there.get("GPU", 0) / gpus if gpus else there.get("CPU", 1)))
    if workers is not None and workers > room:  # one without a place would keep its share for ever
        tqdm.write(f"the cluster has room for {room} workers, not {workers}: {room} work", file=sys.stderr)
    workers = min(workers or room, room)
    actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=RETRIES, max_task_retries=RETRIES)(Worker)
    return [actor.remote(run.resolve(), out.resolve(), options, device, settings) for _ in range(workers)]


def spread(workers: list[Any], shares: Iterable[Share]) -> Iterator[Done]:
    """Do all shares, whichever worker is free; yield each when done.

    InputError for a run that a worker cannot have, and when workers die again and again.
    """
    try:  # waits as long as the cluster is busy with others
        yield from ActorPool(workers).map_unordered(lambda worker, share: worker.do.remote(share), list(shares))
    except RayActorError as error:
        raise InputError(
            f"a worker died {RETRIES + 1} times over one share ({first_line(error)}): is it short of memory? "
            "Fewer --workers need less; the same command goes on where it stopped"
        ) from error
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(f"a worker cannot begin: {error.cause}") from None
        raise


def infer_on_ray(
    run: MapRun,
    maps: list[Path],
    photos: list[Path],
    out: Path,
    options: MapOptions,
    device: str | None,
    **cluster: Any,
) -> int:
    """`infer_maps` and `predict_images`, with parts and photos spread over a cluster that sees the same folders.

    Returns how many maps and photos could not be done. ``cluster``: see `start_workers`.
    """
    check_inputs(maps, out, options)
    check_names(photos, out)
    with ExitStack() as held:  # the maps, until the end
        failed: set[Path] = set()
        todo: dict[Path, tuple[PartStore, Products]] = {}
        for path in maps:
            try:
                if found := held.enter_context(locked_products(run, path, out, options)):
                    found[0].prepare()
                    todo[path.resolve()] = found
            except InputError as error:
                _tell(path, str(error), failed)
        if not todo and not photos:
            return len(failed)
        settings = {name: getattr(run.predictor, name) for name in ("tile", "overlap", "tta", "precision")}
        workers = start_workers(run.path, out, options, device=device, **settings, **cluster)
        files = [path.resolve() for path in photos]
        shares = [Share(files[at : at + TOGETHER]) for at in range(0, len(files), TOGETHER)]
        for path, (store, _) in todo.items():
            count = min(SHARES * len(workers), store.plan.parts)
            shares += [Share([path], store.plan.shard(index, count)) for index in range(1, count + 1)]
        unread = 0
        total = sum(len(share.parts or share.paths) for share in shares)
        with tqdm(total=total, unit="part", disable=None) as bar:
            for done in spread(workers, shares):
                bar.update(len(done.share.parts or done.share.paths))
                unread += done.failed
                if done.error is not None and done.share.paths[0] not in failed:
                    _tell(done.share.paths[0], done.error, failed)
        for path, (store, products) in todo.items():
            if path not in failed:
                with disk_errors_named(out):
                    products.write()
                store.remove()
        return len(failed) + unread


def _tell(path: Path, error: str, failed: set[Path]) -> None:
    failed.add(path)
    tqdm.write(f"skipped: {error}", file=sys.stderr)
