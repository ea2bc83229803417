"""The architectures of the transformers library in plain torch and in this package: do both give the same numbers?

A small classifier with random weights stands for each architecture. Its own answers to each text or image alone, given
to the model without this package, are the labels; so its accuracy is 1 if the package loads it, pads its texts and
evaluates it as it should.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunecast.datasets.tasks import Split, Task
from prunecast.errors import UserError
from prunecast.experiments.products import multiplied
from prunecast.experiments.small_models import CLASS_NAMES, CLASSES, Kind, image_processor, small_model, tokenizer
from prunecast.loading import storage
from prunecast.models.evaluation import logits
from prunecast.models.inputs import batch_of
from prunecast.pruning import structured
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import MAXIMUM, SCOPES, Pruner, Scope, cut, pruned_counts, rank

TEXTS, IMAGES = 12, 6
LETTERS = 20  # of a text, at most
RATIO = 0.5  # of the weights, pruned
TOLERANCE = 1e-4  # of the range of the logits
REMOVAL = structured.Removal(heads=0.5, neurons=0.5, layers=1, importance="magnitude")

Open = Callable[[str, Task], Any]  # from a checkpoint and a task to its `Subject`


@dataclass(frozen=True)
class Reference:
    """A model in plain torch.

    Attributes:
        model: The model, in evaluation mode.
        inputs: The arguments of its forward pass, by example.
    """

    model: nn.Module
    inputs: list[dict[str, Tensor]]

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Logits (n, classes) of each example alone."""
        return torch.cat([self.model(**given)["logits"].double() for given in self.inputs])

    def outputs(self) -> list[Any]:
        """The output layers: no other layer of a small model has as many outputs as there are classes."""
        return [layer for layer in self.model.modules() if getattr(layer, "out_features", None) == CLASSES]

    def matrices(self) -> set[str]:
        """Names of the weights that enter matrix products or convolutions, or could, but for the output layers'."""
        kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
        layers = {f"{name}.weight" for name, module in self.model.named_modules() if isinstance(module, kinds)}
        tables = [module.weight for module in self.model.modules() if isinstance(module, nn.Embedding)]
        kept = {id(weight) for weight in (*tables, *(layer.weight for layer in self.outputs()))}
        used = {name for name in multiplied(self.model, self.inputs[0]) if "embed" not in name.rpartition(".")[2]}
        named = self.model.named_parameters()  # a shared weight once
        return {name for name, weight in named if name in layers | used and id(weight) not in kept}

    def pruned(self, names: Sequence[str], scope: Scope) -> "Reference":
        """A copy with the smallest `RATIO` of some weights set to zero, of all together or of each by itself."""
        copy = Reference(deepcopy(self.model), self.inputs)
        weights = [weight.detach() for name, weight in copy.model.named_parameters() if name in names]
        for group in [weights] if scope == "global" else [[weight] for weight in weights]:
            flat = torch.cat([weight.abs().flatten() for weight in group])
            stays = torch.ones(len(flat), dtype=torch.bool)
            stays[flat.argsort(stable=True)[: round(RATIO * len(flat))]] = False
            for weight, mask in zip(group, torch.split(stays, [weight.numel() for weight in group]), strict=True):
                weight.mul_(mask.view_as(weight))
        return copy


def compared(classifier: str, model_type: str, kind: Kind, opened: Open) -> dict[str, Any]:
    """Compare one architecture in this package with plain torch.

    Args:
        classifier: Name of its class in the transformers library.
        model_type: Its model type there.
        kind: What it classifies.
        opened: What loads a checkpoint for a task, that is `open_subject`.

    Returns:
        A row of the table `architectures`.
    """
    row: dict[str, Any] = {"architecture": model_type, "classifier": classifier, "kind": kind}
    try:
        model: Any = small_model(classifier, model_type)
    except ImportError as error:
        return row | {"outcome": "not built", "sentence": " ".join(str(error).split()).partition(". ")[0]}
    processor = tokenizer() if kind == "text" else image_processor(model)
    examples = _texts() if kind == "text" else _images()
    reference: Reference | None
    try:
        reference = Reference(model, list(_alone(examples, processor, kind)))
        labels = _spread(reference)
    except (ValueError, RuntimeError, LookupError):  # it does not take texts or images alone, or gives no logits
        reference, labels = None, torch.arange(len(examples)) % CLASSES
    if reference and bool((labels == labels[0]).all()):
        return row | {"outcome": "not built", "sentence": f"without a GPU, {classifier} answers all examples alike"}
    split = Split(examples, labels.numpy())
    task = Task("own answers", kind, "folder", CLASS_NAMES, split, split)
    with TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / model_type)
        processor.save_pretrained(Path(folder) / model_type)
        try:
            found = _comparison(reference, Path(folder), model_type, task, opened)
        except UserError as error:
            return row | {"outcome": "refused", "sentence": str(error)}
    return row | {"outcome": "differs" if "differs" in found.values() else "agrees"} | found


def _comparison(reference: Reference | None, folder: Path, name: str, task: Task, opened: Open) -> dict[str, Any]:
    subject = opened(str(folder / name), task)
    if reference is None:
        return {"dense": "differs", "sentence": "it was loaded, although plain torch cannot evaluate it"}
    model, weights, examples = subject.model.model, subject.model.weights, subject.model.examples
    matrices, answers = reference.matrices(), logits(model, examples)
    in_products = sum(weight.numel() for name, weight in reference.model.named_parameters() if name in matrices)
    prunable = sum(weight.numel() for weight in weights.values())
    accuracy = float((answers.argmax(1) == examples.labels).double().mean())
    said = [note for note in subject.notes[1:] if "by name" not in note]
    whole = prunable == in_products or any("are never pruned" in note for note in said)
    pruned, read_back = True, True
    for scope in SCOPES:
        ranking = rank(weights, magnitude, scope)
        with Pruner(weights, magnitude, ranking.groups) as pruner:
            pruner.prune(cut(ranking, pruned_counts(ranking, "percentile", RATIO * MAXIMUM)))
            ours = logits(model, examples)
            storage.save(model, subject.processor, folder / scope)
        pruned &= _same(ours, reference.pruned(list(weights), scope).logits())
        again = opened(str(folder / scope), task).model
        read_back &= _same(logits(again.model, again.examples), ours)
    return {
        "parameters": sum(weight.numel() for weight in reference.model.parameters()),
        "dense": _word(accuracy == 1 and _same(answers, reference.logits())),
        "prunable": prunable,
        "counted_share": prunable / in_products,
        "counted": _word(set(weights) <= matrices and whole),
        "pruned": _word(pruned),
        "read_back": _word(read_back),
        "removed": _removed(subject, folder / "removed"),
        "sentence": "; ".join(said) or None,
    }


def _removed(subject: Any, folder: Path) -> str | None:
    """Whether a model with parts removed is smaller and gives the same logits when it is read back."""
    model, examples = subject.model.model, subject.model.examples
    rows = torch.arange(4)
    try:
        smaller = structured.remove(model, REMOVAL, batch_of(examples, rows), None)
    except UserError:
        return None  # no parts of this architecture can be removed
    storage.save(smaller, subject.processor, folder)
    again = structured.load_removed(folder)
    sizes = [sum(weight.numel() for weight in each.parameters()) for each in (again, smaller, model)]
    return _word(sizes[0] == sizes[1] < sizes[2] and _same(logits(again, examples), logits(smaller, examples)))


def _word(agrees: bool) -> str:
    return "agrees" if agrees else "differs"


def _same(ours: Tensor, expected: Tensor) -> bool:
    return bool((ours - expected).abs().max() <= TOLERANCE * (expected.max() - expected.min()))


def _texts() -> list[str]:
    choice = np.random.default_rng(0)
    return ["".join(choice.choice(list("abcdefghijklmnopqrstuvwxyz"), n)) for n in choice.integers(3, LETTERS, TEXTS)]


def _images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (IMAGES, 8, 8, 3), dtype=np.uint8)


def _alone(examples: Any, processor: Any, kind: Kind) -> Iterator[dict[str, Tensor]]:
    for each in examples:
        if kind == "text":
            yield {"input_ids": torch.tensor([processor(each, return_token_type_ids=False)["input_ids"]])}
        else:
            yield dict(processor(each, input_data_format="channels_last", return_tensors="pt"))


@torch.no_grad()
def _spread(reference: Reference) -> Tensor:
    """Replace the output layers so that all classes are answered; the answers (n)."""
    _normalise(reference)
    outputs = reference.outputs()
    seen: dict[nn.Module, list[Tensor]] = {layer: [] for layer in outputs}

    def keep(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen[layer].append(given[0].reshape(-1, given[0].shape[-1])[-1])

    hooks = [layer.register_forward_pre_hook(keep) for layer in outputs]
    reference.logits()
    for hook in hooks:
        hook.remove()
    generator = torch.Generator().manual_seed(0)
    for layer in outputs:
        mean = torch.stack(seen[layer]).mean(0)
        layer.weight.normal_(generator=generator)
        layer.weight -= (layer.weight @ mean)[:, None] * mean / (mean @ mean)  # what all examples share
        if layer.bias is not None:
            layer.bias.zero_()
    middle = reference.logits().mean(0)
    for layer in outputs:
        if layer.bias is not None:
            layer.bias.copy_(-middle)
    return reference.logits().argmax(1)


def _normalise(reference: Reference) -> None:
    """Let batch normalisation give signals of variance 1 on the examples, without which they vanish."""
    norms = [module for module in reference.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_parameters()
        norm.momentum = None  # the mean over batches
        norm.train()
    if norms:
        together = {name: torch.cat([given[name] for given in reference.inputs]) for name in reference.inputs[0]}
        reference.model(**together)
    reference.model.eval()
