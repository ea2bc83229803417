"""A checkpoint of a user's, with the examples that it is evaluated on."""

from pathlib import Path
from typing import Any

from prunecast.datasets.tasks import load_task
from prunecast.errors import UserError
from prunecast.loading import storage
from prunecast.models import zoo
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.inputs import prepare

LONGEST = 128  # tokens of a text
EXAMPLES = 2000  # of the task's validation split, at most


def subject_of(checkpoint: str, task_name: str) -> tuple[TrainedModel, Any]:
    """Load a checkpoint and the validation examples of its task.

    Args:
        checkpoint: A folder, or an id of the hub.
        task_name: Name of the task.

    Returns:
        The model with at most `EXAMPLES` examples, and its tokenizer, None for images.

    Raises:
        UserError: If there is no such checkpoint or task, or the checkpoint has other inputs or classes than the task.
    """
    task = load_task(task_name)
    folder = Path(checkpoint)
    if folder.is_dir():
        model, tokenizer = storage.load(folder)
    else:
        model, tokenizer = zoo.build(zoo.ModelSpec(task=task_name, checkpoint=checkpoint, fine_tuned=True), task)
    if (tokenizer is None) != (task.kind == "image"):
        raise UserError(f"{checkpoint} does not classify {task.kind}s, which task {task_name!r} consists of")
    config: Any = getattr(model, "config", None)
    if config is not None and config.num_labels != task.classes:
        raise UserError(f"{checkpoint} has {config.num_labels} classes, task {task_name!r} has {task.classes}")
    examples = prepare(task.validation.first(EXAMPLES), tokenizer, LONGEST)
    spec = zoo.ModelSpec(task=task_name, max_length=LONGEST)
    return TrainedModel(folder.name, spec, task, model.eval(), examples, folder, 0), tokenizer
