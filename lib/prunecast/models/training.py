"""Training of classifiers with the Trainer of transformers, one loop for texts and images."""

import gc
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunecast import torchvision_compat as _before_transformers  # noqa: F401
from prunecast.datasets.tasks import Split
from prunecast.models.zoo import ModelSpec
from prunecast.networks.vision import flipped_and_shifted, pixel_values
from prunecast.progress import track
from prunecast.seeding import seed_everything

from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, default_data_collator  # isort: skip

# The Trainer ends with a full collection of garbage, which need not visit what imports have made: half a second each.
gc.freeze()


def train(
    model: nn.Module,
    tokenizer: Any,
    split: Split,
    spec: ModelSpec,
    seed: int,
    name: str,
    targets: Tensor | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """Train a classifier in place with AdamW; a linear schedule of the learning rate has a warm-up of a tenth.

    Args:
        model: The classifier; afterwards it is on the processor and in evaluation mode.
        tokenizer: Its tokenizer, or None for images.
        split: n examples to train on.
        spec: Epochs, batch size, learning rate and the other settings of the training.
        seed: Seed of the order of examples, and of dropout and augmentation.
        name: Name of the model, which is part of the seed and labels the progress bar.
        targets: Probabilities (n, classes) that replace the labels.
        callbacks: Called by the Trainer at each step.
    """
    seed_everything(seed, "train", name)
    if tokenizer is None:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster in bfloat16
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=_arguments(spec, Path(folder), text=tokenizer is not None),
            train_dataset=_Examples(split, tokenizer, spec, targets),
            data_collator=_padded(tokenizer) if tokenizer else default_data_collator,
            compute_loss_func=None if targets is None else _soft_loss,
            callbacks=[_Bar(f"training {name}"), *callbacks],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def _arguments(spec: ModelSpec, folder: Path, text: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=spec.epochs,
        per_device_train_batch_size=spec.batch_size,
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        lr_scheduler_type=spec.learning_rate_schedule,
        warmup_steps=0.1,  # a constant schedule has none
        bf16=spec.bfloat16,
        use_cpu=not torch.cuda.is_available(),  # else the Trainer refuses bfloat16
        train_sampling_strategy="group_by_length" if text else "random",
        seed=torch.initial_seed(),
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _soft_loss(outputs: Any, targets: Tensor, **_: Any) -> Tensor:
    return functional.cross_entropy(outputs["logits"].float(), targets)


def _padded(tokenizer: Any) -> Any:
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(tokenizer)


class _Examples(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples in the form that the Trainer reads: token ids or pixel values, with a label each."""

    def __init__(self, split: Split, tokenizer: Any, spec: ModelSpec, targets: Tensor | None):
        self.labels, self.augment = split.labels.tolist() if targets is None else targets.tolist(), spec.augment
        self.columns: dict[str, Any]
        if tokenizer:
            ids = tokenizer(
                list(split.inputs), truncation=True, max_length=spec.max_length, return_token_type_ids=False
            )
            self.columns = dict(ids) | {"length": [len(row) for row in ids["input_ids"]]}
        else:
            self.columns = {"pixel_values": pixel_values(split.images)}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = {name: column[index] for name, column in self.columns.items()} | {"labels": self.labels[index]}
        return example | {"pixel_values": flipped_and_shifted(example["pixel_values"])} if self.augment else example


class _Bar(TrainerCallback):
    """The progress bar of this package in place of the Trainer's, which would print into a page."""

    def __init__(self, label: str):
        self.label = label

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self.bar = track(label=self.label, total=state.max_steps)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.bar.update()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.bar.close()
