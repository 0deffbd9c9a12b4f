"""The runs of a comparison on a Ray cluster, each in a process of its own; what dies is begun again and goes on."""

import os
from collections.abc import Callable, Iterable, Iterator

from samseg.compare.plan import Trial
from samseg.compare.trial import train_and_measure
from samseg.maps.engine_ray import RETRIES, connect, ray
from samseg.runs.config.schema import RunConfig


def on_ray(address: str | None, gpus: float) -> Callable[[Iterable[Trial]], Iterator[tuple[Trial, str | None]]]:
    """An engine of `compare` on the cluster at ``address``, or on one that is started here; ``gpus`` for each run.

    All machines see the same folders, at the paths of this one.
    """

    def train(trials: Iterable[Trial]) -> Iterator[tuple[Trial, str | None]]:
        connect(address)
        once = ray.remote(num_cpus=1, num_gpus=gpus, max_calls=1, max_retries=RETRIES)(_train)
        running = {once.remote(trial.config, os.getcwd()): trial for trial in trials}
        while running:
            [done], _ = ray.wait(list(running))
            trial = running.pop(done)
            try:
                yield trial, ray.get(done)
            except ray.exceptions.RayError as error:
                yield trial, f"its worker died {RETRIES + 1} times ({str(error).splitlines()[0]})"

    return train


def _train(config: RunConfig, folder: str) -> str | None:
    os.chdir(folder)
    return train_and_measure(config)
