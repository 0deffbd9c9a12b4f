"""Tasks: what is learnt and how it is scored. One more is one file and one row."""

from samseg.common.errors import ConfigError, did_you_mean
from samseg.tasks.promptable.task import PromptableTask
from samseg.tasks.semantic.task import SemanticTask
from samseg.tasks.task import Task

TASKS: dict[str, type[Task]] = {"semantic": SemanticTask, "promptable": PromptableTask}


def task_class(name: str) -> type[Task]:
    """The task called ``name``; ConfigError for one that there is not."""
    if name not in TASKS:
        raise ConfigError(f"task must be one of {', '.join(TASKS)}, got {name!r}{did_you_mean(name, TASKS)}")
    return TASKS[name]
