"""Units: weights of a model that are pruned together, because parts of the network belong to all of them.

The q, k, v and output projections of one attention are a unit, and so are the matrices of one feed-forward network.
Of a convolutional network, layers are a unit whose output channels can only be removed together, as layers joined by a
shortcut; which ones is computed by the dependency graph of Torch-Pruning (Fang et al., CVPR 2023, "DepGraph: Towards
Any Structural Pruning"). A weight that several layers share is one weight.
"""

import gc
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning
from torch import Tensor, nn

from prunecast.networks.vision import ImageClassifier
from prunecast.pruning.criteria import Weights
from prunecast.pruning.structured import ATTENTION, FAMILIES, FEED_FORWARD, WEIGHTED, Inputs

ATTENTION_NAME = re.compile(r"att(n|ention|end)", re.IGNORECASE)  # in the name of a module
CONVOLUTIONAL = (  # networks of the transformers library whose shortcuts Torch-Pruning follows, in seconds
    "bit",
    "convnext",
    "convnextv2",
    "efficientnet",
    "hgnet_v2",
    "mobilenet_v1",
    "mobilenet_v2",
    "pp_lcnet",
    "regnet",
    "resnet",
)
Kind = Literal["attention", "feed-forward", "block", "layers", "layer"]


@dataclass(frozen=True)
class Unit:
    """Weights that are pruned together.

    Attributes:
        name: Path of the module that holds them, or of the first layer where several are joined.
        kind: What they are: an attention, a feed-forward network, all of a block without attention, layers joined by
            their channels, or one layer.
        weights: Names of the weights, in the model's order.
        parameters: Number of weights.
        parts: Number of heads, neurons or channels that can be removed as wholes; 0 where none can.
        shrinking: Numbers of weights of the layers that a removal of such parts makes smaller; the layers after a
            convolution lose inputs, so these are more than `parameters`.
        twice: Numbers of weights of the layers that it makes smaller in inputs and outputs.
    """

    name: str
    kind: Kind
    weights: tuple[str, ...]
    parameters: int
    parts: int = 0
    shrinking: int = 0
    twice: int = 0

    def parts_removed(self, ratio: float) -> int:
        """Number of parts whose removal takes about as many weights away as a ratio sets to zero.

        Args:
            ratio: Share of the weights of the unit that is set to zero, as a fraction.

        Returns:
            The number of parts for which the numbers of weights differ least; the smaller one of two.
        """

        def difference(count: int) -> float:
            kept = 1 - count / self.parts
            return abs(self.shrinking * (1 - kept) + self.twice * (1 - kept**2) - ratio * self.parameters)

        return min(range(self.parts), key=difference, default=0)


def units_of(model: nn.Module, weights: Weights, inputs: Inputs) -> list[Unit]:
    """Divide the prunable weights of a model into units.

    In a transformer modules are recognised by the names that the transformers library gives them: within an element of
    a list of blocks, what lies in a module whose name says attention is one unit, and the rest is another, which is the
    feed-forward network; units that share a weight are one. Other weights are units by themselves.

    Args:
        model: A classifier; it is left unchanged.
        weights: Its prunable weights, by name.
        inputs: One batch (n, …), by the names of the model's arguments.

    Returns:
        The units, in the order of their first weights; each weight is in one.

    Source: Fang et al. (2023), "DepGraph: Towards Any Structural Pruning", for joined channels.
    """
    if isinstance(model, ImageClassifier) or _type_of(model) in CONVOLUTIONAL:
        return _joined_by_channels(model, weights, inputs)
    return _by_module(model, weights)


def _type_of(model: Any) -> str:
    return str(getattr(getattr(model, "config", None), "model_type", ""))


def _by_module(model: nn.Module, weights: Weights) -> list[Unit]:
    names_of: dict[int, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(weight), []).append(name)
    places = {name: {_place(model, each) for each in names_of[id(weights[name])]} for name in weights}
    found: dict[str, list[str]] = {}
    for name in weights:
        tied = [first for first, names in found.items() if any(places[name] & places[each] for each in names)]
        for other in tied[1:]:  # a weight with a place in two units joins them
            found[tied[0]] += found.pop(other)
        found.setdefault(tied[0] if tied else _place(model, name), []).append(name)
    attends = any(ATTENTION_NAME.search(place) for place in found)
    units = []
    for place, names in found.items():
        parameters = sum(weights[name].numel() for name in names)
        parts = _parts(model, weights, names) if _type_of(model) in FAMILIES else 0
        if len(names) == 1:
            kind: Kind = "layer"
        elif ATTENTION_NAME.search(place.rpartition(".")[2]) and not any(
            each.startswith(f"{place}.") for each in found
        ):
            kind = "attention"
        else:
            kind = "feed-forward" if attends and all(weights[name].ndim < 4 for name in names) else "block"
        own = tuple(name for name in weights if name in names)
        units.append(Unit(place, kind, own, parameters, parts, parameters if parts else 0))
    return units


def _place(model: nn.Module, name: str) -> str:
    """Path of the module whose weights are a unit with a weight."""
    *path, _ = name.split(".")
    lists = [
        place
        for place in range(1, len(path))
        if path[place].isdigit() and isinstance(model.get_submodule(".".join(path[:place])), nn.ModuleList)
    ]
    block = lists[-1] + 1 if lists else 0
    attentions = [place + 1 for place in range(block, len(path)) if ATTENTION_NAME.search(path[place])]
    if not (lists or attentions):
        return ".".join(path)
    end = block if not attentions else attentions[0] if lists else attentions[-1]
    return ".".join(path[:end])


def _parts(model: nn.Module, weights: Weights, names: list[str]) -> int:
    """Number of heads or neurons of a unit of one of `FAMILIES`, that `structured.remove` can remove."""
    for name in names:
        layer = name.removesuffix(".weight")
        if layer.endswith(FEED_FORWARD):
            return len(weights[name])
        if layer.endswith(ATTENTION):
            size: Any = model.get_submodule(layer.rpartition(".")[0]).attention_head_size
            return len(weights[name]) // int(size)
    return 0


@torch.enable_grad()
def _joined_by_channels(model: nn.Module, weights: Weights, inputs: Inputs) -> list[Unit]:
    copy = deepcopy(model).eval().requires_grad_(True)
    own = {id(weight): name for name, weight in copy.named_parameters() if name in weights}
    names = {module: own[id(module.weight)] for module in copy.modules() if id(getattr(module, "weight", None)) in own}
    graph = torch_pruning.DependencyGraph().build_dependency(copy, dict(inputs))
    outputs = [module for module in copy.modules() if isinstance(module, WEIGHTED) and module not in names]
    units: dict[str, Unit] = {}
    for group in list(graph.get_all_groups(outputs, WEIGHTED)):
        into: set[Any] = set()
        out: set[Any] = set()
        for dependency, _ in group:
            module = dependency.target.module
            if isinstance(module, WEIGHTED):
                (out if graph.is_out_channel_pruning_fn(dependency.handler) else into).add(module)
        together = tuple(name for name in weights if name in {names[module] for module in out if module in names})
        if together and not any(name in unit.weights for name in together for unit in units.values()):
            units[together[0]] = _joined(weights, together, len(next(iter(out)).weight), into, out)
    known = {name for unit in units.values() for name in unit.weights}
    for name in weights:
        if name not in known:
            units[name] = Unit(name.removesuffix(".weight"), "layer", (name,), weights[name].numel())
    gc.collect()  # the dependency graph holds activations, in cycles
    return [units[name] for name in weights if name in units]


def _joined(weights: Weights, names: tuple[str, ...], channels: int, into: set[Any], out: set[Any]) -> Unit:
    sizes: Mapping[Any, int] = {module: module.weight.numel() for module in into | out}
    twice = sum(size for module, size in sizes.items() if module in into & out and _is_square(module))
    return Unit(
        names[0].removesuffix(".weight"),
        "layers" if len(names) > 1 else "layer",
        names,
        sum(weights[name].numel() for name in names),
        channels,
        sum(sizes.values()) - twice,
        twice,
    )


def _is_square(module: Any) -> bool:
    """Whether a layer that loses inputs and outputs loses weights by both, as a depthwise convolution does not."""
    weight: Tensor = module.weight
    return weight.shape[1] > 1
