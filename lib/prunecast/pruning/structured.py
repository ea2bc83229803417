"""Parts of a network physically removed: attention heads, neurons or channels, and whole transformer layers.

Which weights must be removed together is computed by the dependency graph of Torch-Pruning (Fang et al., CVPR 2023,
"DepGraph: Towards Any Structural Pruning").
"""

import gc
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch_pruning
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from prunecast.errors import UserError
from prunecast.loading import folders
from prunecast.models.transformer_blocks import find_blocks, keep_blocks
from prunecast.networks.vision import ImageClassifier, is_vision_architecture

Importance = Literal["magnitude", "taylor"]
FAMILIES = ("bert", "distilbert", "electra", "mpnet", "roberta")
ATTENTION = (".query", ".key", ".value", ".q_lin", ".k_lin", ".v_lin")
FEED_FORWARD = (".intermediate.dense", ".ffn.lin1")
WEIGHTED = (nn.Linear, nn.Conv2d)
Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Removal:
    """What to remove: shares of the heads and of the neurons of every layer, and a number of whole layers.

    Shares are rounded to the nearest number of heads or neurons, and one always stays; the neurons of a
    convolution are its channels, and layers joined by a shortcut lose the same ones. Matrix products are fastest where
    widths are multiples of 8 or 16: the neurons that stay are then as many as the next multiple.

    Attributes:
        heads: Share of the attention heads of every layer, from 0 to below 1.
        neurons: Share of the feed-forward neurons or channels of every layer, from 0 to below 1.
        layers: Number of transformer layers.
        importance: Which heads and neurons are removed: those whose weights have the smallest sum of squares
            (`magnitude`), or the smallest sum of first-order changes of the loss, `|w · g|` (`taylor`).
        multiple: Number of which the neurons or channels that stay are a multiple, rounded up, but never more than
            there are; heads are not affected.

    Raises:
        UserError: A share is outside 0 to 1, the number of layers is negative, the multiple is below 1, or the
            importance is unknown.

    Example:
        `Removal(0.0, 0.3, 0, "magnitude", multiple=16)` removes 32 of 128 neurons, and leaves 96, since 90 is no
        multiple of 16.

    Source: taylor: Molchanov et al. (2019), "Importance Estimation for Neural Network Pruning", the first-order
    criterion, with the absolute value in place of the square.
    """

    heads: float
    neurons: float
    layers: int
    importance: Importance
    multiple: int = 1

    def __post_init__(self) -> None:
        for name, share in (("heads", self.heads), ("neurons", self.neurons)):
            if not 0 <= share < 1:
                raise UserError(f"{name} is {share}, but the share to remove is at least 0 and below 1")
        if self.layers < 0:
            raise UserError(f"layers is {self.layers}, but the number of layers to remove is at least 0")
        if self.multiple < 1:
            raise UserError(f"multiple is {self.multiple}, but widths are multiples of 1 or more, such as 8 or 16")
        if self.importance not in get_args(Importance):
            raise UserError(f"there is no importance {self.importance!r}; there are {', '.join(get_args(Importance))}")

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is removed."""
        return not (self.heads or self.neurons or self.layers)

    def __str__(self) -> str:
        if self.is_nothing:
            return "nothing"
        rounded = "" if self.multiple == 1 else f", in multiples of {self.multiple}"
        return f"heads {self.heads:g}, neurons {self.neurons:g}, layers {self.layers}, by {self.importance}{rounded}"


NOTHING = Removal(0.0, 0.0, 0, "magnitude")


@torch.enable_grad()
def remove(
    model: nn.Module, removal: Removal, inputs: Inputs, labels: Tensor | None, kept: Sequence[int] | None = None
) -> nn.Module:
    """A smaller copy of a model: whole layers are removed first, then heads and neurons.

    The residual stream, the embeddings and the classifier of a transformer stay.

    Args:
        model: A transformer of `FAMILIES`, or an image classifier; it is left unchanged.
        removal: What to remove.
        inputs: One batch (n, …), by the names of the model's arguments.
        labels: Classes (n,) of the batch; only the importance taylor needs them.
        kept: What `layers_to_keep` chose, where it is known; else it is chosen anew.

    Returns:
        The smaller model, in evaluation mode.

    Raises:
        UserError: Such parts, or so many, cannot be removed from this model, or the labels are absent.

    Source: Fang et al. (2023), "DepGraph: Towards Any Structural Pruning", for the weights that belong together.
    """
    smaller = deepcopy(model).eval().requires_grad_(True)
    if removal.is_nothing:
        return smaller
    _refuse(model, removal)
    if removal.layers:
        keep_blocks(smaller, layers_to_keep(smaller, removal, inputs) if kept is None else kept)
    if removal.heads or removal.neurons:
        _remove_units(smaller, removal, inputs, labels)
        gc.collect()  # the dependency graph holds activations, in cycles
    return smaller


def layers_to_keep(model: nn.Module, removal: Removal, inputs: Inputs) -> list[int]:
    """The layers of a transformer that a removal keeps, in their order.

    Layers are removed one by one, each time the one without which the probabilities of the batch change least, by
    their Kullback-Leibler divergence from the dense model's.

    Args:
        model: A transformer of `FAMILIES`; it is left unchanged.
        removal: Of which the number of layers counts.
        inputs: One batch (n, …), by the names of the model's arguments.

    Raises:
        UserError: So many layers cannot be removed from this model.
    """
    _refuse(model, removal)
    parent, name, layers = find_blocks(model)
    kept = list(range(len(layers)))
    dense = _log_probabilities(model, inputs)
    try:
        for _ in range(removal.layers):
            changes = []
            for place in range(len(kept)):
                setattr(parent, name, nn.ModuleList(layers[each] for each in kept[:place] + kept[place + 1 :]))
                shallower = _log_probabilities(model, inputs)
                changes.append(float(functional.kl_div(shallower, dense, reduction="batchmean", log_target=True)))
            del kept[changes.index(min(changes))]
    finally:
        setattr(parent, name, layers)
    return kept


def load_removed(folder: Path) -> nn.Module:
    """Read a smaller model that `storage.save` wrote; its layers have the shapes of the stored weights.

    Args:
        folder: The folder with `model.safetensors` and `config.json`.

    Returns:
        The model, in evaluation mode.

    Raises:
        UserError: The folder has no safetensors or no configuration, or the weights do not belong to it.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folders.refuse_pickles(folder)
    path = folder / "config.json"
    if not path.exists():
        raise UserError(f"checkpoint {folder.name} has no config.json, which names its architecture")
    config = json.loads(path.read_text(encoding="utf-8"))
    if is_vision_architecture(config.get("architecture")):
        model: nn.Module = ImageClassifier(**config)
    else:
        factory: Any = AutoModelForSequenceClassification
        model = factory.from_config(AutoConfig.from_pretrained(folder))
    stored = load_file(folder / "model.safetensors")
    try:
        for name, module in model.named_modules():
            if isinstance(module, (*WEIGHTED, nn.BatchNorm2d)):
                _take_shape(module, name, stored)
        model.load_state_dict(stored)
    except (KeyError, RuntimeError):
        raise UserError(f"checkpoint {folder.name}: its weights are not those that its config.json describes") from None
    return model.eval()


def _refuse(model: Any, removal: Removal) -> None:
    if isinstance(model, ImageClassifier):
        if not any(isinstance(module, WEIGHTED) for module in model.modules()):
            raise UserError(
                f"{model.architecture} has neither linear nor convolution layers: nothing can be removed from it"
            )
        if removal.heads or removal.layers:
            raise UserError(f"{model.architecture} has no attention: neither heads nor layers can be removed from it")
        return
    if model.config.model_type not in FAMILIES:
        raise UserError(f"no parts can be removed from a {model.config.model_type}, only from {', '.join(FAMILIES)}")
    if removal.heads and model.config.model_type == "mpnet":
        raise UserError("no heads can be removed from an mpnet, whose layers share one position bias for all heads")
    if removal.layers >= model.config.num_hidden_layers:
        raise UserError(
            f"{removal.layers} layers cannot be removed from {model.config.num_hidden_layers}, of which one must stay"
        )


@torch.no_grad()
def _log_probabilities(model: nn.Module, inputs: Inputs) -> Tensor:
    logits: Tensor = model(**inputs)["logits"]
    return logits.double().log_softmax(-1)


def _remove_units(model: Any, removal: Removal, inputs: Inputs, labels: Tensor | None) -> None:
    layers = {name: module for name, module in model.named_modules() if isinstance(module, WEIGHTED)}
    text = not isinstance(model, ImageClassifier)
    feed_forward = [module for name, module in layers.items() if not text or name.endswith(FEED_FORWARD)]
    roots = feed_forward if text else feed_forward[:-1]  # an image network ends in a layer of class scores
    head_sizes = {
        module: model.get_submodule(name.rpartition(".")[0]).attention_head_size
        for name, module in layers.items()
        if text and name.endswith(ATTENTION)
    }
    score = _scores(model, removal.importance, inputs, labels)
    graph = torch_pruning.DependencyGraph().build_dependency(model, dict(inputs))
    untouched = [module for module in layers.values() if module not in roots and module not in head_sizes]
    for group in list(graph.get_all_groups(untouched, WEIGHTED)):
        root = group[0].dep.target.module
        share, size = (removal.heads, head_sizes[root]) if root in head_sizes else (removal.neurons, 1)
        units = score(group).view(-1, size).mean(1)
        count = _count(len(units), share, 1 if root in head_sizes else removal.multiple)
        removed = units.argsort(stable=True)[:count]
        if count:
            group.prune((removed[:, None] * size + torch.arange(size, device=removed.device)).flatten().tolist())
    model.zero_grad()
    if text and removal.neurons:
        size_name = "hidden_dim" if model.config.model_type == "distilbert" else "intermediate_size"
        setattr(model.config, size_name, roots[0].out_features)


def _count(units: int, share: float, multiple: int) -> int:
    """How many of some heads or neurons are removed: as many as leave a multiple, and at least one."""
    left = max(units - round(share * units), 1)
    return max(units - -(-left // multiple) * multiple, 0)


def _scores(model: nn.Module, importance: Importance, inputs: Inputs, labels: Tensor | None) -> Any:
    if importance == "magnitude":
        return torch_pruning.importance.GroupMagnitudeImportance(normalizer=None)
    if labels is None:
        raise UserError("the importance taylor needs the labels of the batch")
    torch.autograd.backward(functional.cross_entropy(model(**inputs)["logits"], labels))
    return torch_pruning.importance.GroupTaylorImportance(normalizer=None)


def _take_shape(module: Any, name: str, stored: dict[str, Tensor]) -> None:
    shape = stored[f"{name}.weight"].shape
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = shape
    elif isinstance(module, nn.Conv2d):
        module.out_channels, module.in_channels = shape[:2]
    else:
        module.num_features = shape[0]
    for part, tensor in (*module.named_parameters(), *module.named_buffers()):
        tensor.data = torch.empty_like(stored[f"{name}.{part}"])
