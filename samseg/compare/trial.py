"""One run of a comparison, trained and measured in a process of its own: its memory is its own, and so is its end."""

import json
import multiprocessing
import statistics
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from samseg.common.errors import InputError, Terminated, first_line
from samseg.common.files import write_json
from samseg.compare.plan import Trial
from samseg.data.raster import Raster
from samseg.data.workers import end_with
from samseg.inference.predictor import Predictor
from samseg.report.run import read_history
from samseg.runs.config.load import task_of
from samseg.runs.config.schema import RunConfig
from samseg.runs.facts import load_facts
from samseg.tasks.pictures import spread
from samseg.training.processes import prepare_process
from samseg.training.run import train
from samseg.training.stopping import sigterm_noted

COSTS = "costs.json"  # of a run that is finished and measured
LOG = "log.txt"
TIMED = 8  # images, each twice


def is_done(trial: Trial) -> bool:
    return (trial.folder / COSTS).is_file()


def costs_of(folder: Path) -> dict[str, Any]:
    """What `measure` wrote; InputError where it is damaged."""
    try:
        return json.loads((folder / COSTS).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{folder / COSTS} is damaged ({error}); delete it to measure again") from None


def in_processes(trials: Iterable[Trial]) -> Iterator[tuple[Trial, str | None]]:
    """Train trial after trial, each in a new process; yield each with what went wrong, None if nothing did.

    SIGTERM is handed on: the run saves its state, and Terminated is raised. When this process is killed, so is that.
    """
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload([__name__])
    for trial in trials:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_train, args=(trial.config, sender))
        process.start()
        sender.close()
        with sigterm_noted(process.terminate) as asked:
            try:
                error = receiver.recv()
            except EOFError:
                process.join()
                error = f"its process ended with code {process.exitcode}, perhaps for memory; see {trial.folder / LOG}"
        process.join()
        if asked():
            raise Terminated(f"stopped by SIGTERM in {trial.folder}; the same command goes on there")
        yield trial, error


def _train(config: RunConfig, sender: Connection) -> None:
    end_with(multiprocessing.parent_process())
    prepare_process()
    sender.send(train_and_measure(config))


def train_and_measure(config: RunConfig) -> str | None:
    """Train a run, or go on with it, and measure its costs; returns what went wrong, in a line.

    What training says goes into the run folder's log.
    """
    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOG, "a", buffering=1, encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            train(config, folder.name)
            write_json(measure(folder, config), folder / COSTS)
        except InputError as error:
            print(f"error: {error}")
            return str(error)
        except (Terminated, KeyboardInterrupt) as error:
            return first_line(error)
        except Exception as error:
            traceback.print_exc()
            return f"a defect ({type(error).__name__}: {error}); see {folder / LOG}"
    return None


def measure(folder: Path, config: RunConfig) -> dict[str, Any]:
    """What a finished run took, and what its predictions take on this device, one image at a time."""
    task, history = task_of(config), read_history(folder)
    memory = str(load_facts(folder)[0].get("most memory", "")).split()
    predictor = Predictor.from_run(folder)
    validation = task.dataset("val", train=False, seed=config.seed)
    source = validation.source
    images = [source.image(source.names[index]) for index in spread(len(source.names), TIMED)]
    return {
        "images": len(task.dataset("train", train=True, seed=config.seed).source.names),
        "epochs": len(history),
        "epoch_s": statistics.median(row["seconds"] for row in history),
        "memory_gb": float(memory[0]) if "GB" in memory else None,
        "parameters": sum(p.numel() for p in predictor.model.parameters() if p.requires_grad),
        "megapixel_s": _seconds_a_megapixel(predictor, images),
    }


def _seconds_a_megapixel(predictor: Predictor, images: list[Raster]) -> float | None:
    """Of the faster of two predictions of each image; None for a model that predicts nothing without prompts."""
    try:
        predictor(images[0])  # which fills caches
    except InputError:
        return None
    seconds = sum(min(_seconds(predictor, image), _seconds(predictor, image)) for image in images)
    return seconds / sum(image.pixels[0].size for image in images) * 1e6


def _seconds(predictor: Predictor, image: Raster) -> float:
    started = time.perf_counter()
    predictor(image)
    if predictor.device.type == "cuda":
        torch.cuda.synchronize(predictor.device)
    return time.perf_counter() - started
