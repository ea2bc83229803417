"""Transformer blocks, or their attention heads, as the edges of a chain of residual streams."""

from collections.abc import Collection
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from prunecast.errors import UserError
from prunecast.graph.structure import Graph, Masks, Numbers
from prunecast.models.evaluation import fast_linear
from prunecast.models.inputs import Examples, batch_of, batches, device_of
from prunecast.models.transformer_blocks import BlockGates, Rule, find_blocks, heads_of, keep_blocks, projections_of
from prunecast.progress import track

Part = Literal["blocks", "heads"]
TOKENS = 512  # of a batch, padding included


@dataclass(frozen=True)
class ResidualChain(Graph):
    """A chain of residual streams, each joined to the next by edges that can be removed, and by one that always stays.

    The edge that stays carries the stream past a block. It is not listed, has the coefficient 1 in a flow, and joins
    the input to the output whatever is removed.

    Attributes:
        labels: Names of the edges.
    """

    labels: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the edges."""
        return self.labels

    def flow(self, masks: ArrayLike, coefficients: ArrayLike | None = None) -> Numbers:
        """As of `Graph`: the product over the steps of 1 and the coefficients of the kept edges of the step."""
        weights = np.ones(len(self.edges)) if coefficients is None else np.asarray(coefficients, float)
        carried = np.ones((len(self.vertices) - 1, len(kept := self.checked(masks))))
        np.add.at(carried, [source for source, _ in self.edges], (weights * kept).T)
        return np.asarray(carried.prod(0), float)

    def reached(self, masks: ArrayLike) -> Masks:
        """As of `Graph`: all vertices, always."""
        return np.ones((len(self.checked(masks)), len(self.vertices)), bool)

    def needed(self, masks: ArrayLike) -> Masks:
        """As of `Graph`: all vertices, always."""
        return self.reached(masks)


@dataclass(frozen=True)
class BlockEvaluation:
    """What a transformer answers under some masks, by example.

    Attributes:
        loss: Cross-entropy (m, n) in nats of each example; of a block of tokens, the mean over the predicted ones.
        correct: Share (m, n) of the answers that are correct: 0 or 1 for an example of a classifier, the share of the
            predicted tokens for a block of tokens.
    """

    loss: Numbers
    correct: Numbers


class TransformerBlocks:
    """A transformer whose blocks, or attention heads, have gates: a `MaskedNetwork`.

    A gate g makes the output of a block `x + g · (block(x) - x)`, so that a removed block is left out as a whole,
    whether it normalises before or after its residual; the gate of a head multiplies its input to the output
    projection. The forward pass under a mask starts from the stored state before the first block in which it differs
    from the mask before it.

    Args:
        model: A classifier or causal language model of the transformers library, in evaluation mode.
        data: Examples of the classifier, or token ids (n, context), of which all but the first are predicted.
        part: Whether blocks or heads have gates.
        tokens: Number of tokens that are evaluated at once, at most, but one example at least. The stored states take
            one residual stream a block for these; memory does not depend on the number of masks.

    Raises:
        UserError: The blocks, or the layers that join the heads, are not found, or they do not form a chain.

    Source: heads: Michel et al. (2019), "Are Sixteen Heads Really Better than One?", section 2.3.
    """

    def __init__(self, model: nn.Module, data: Examples | Tensor, part: Part = "blocks", tokens: int = TOKENS):
        self.model, self.data, self._part, self._tokens = model, data, part, tokens
        self._count = len(data)
        blocks = list(find_blocks(model)[2])
        self._gates = BlockGates(blocks, projections_of(model, blocks) if part == "heads" else [])
        heads = heads_of(model) if part == "heads" else 1
        labels = [f"block {place}" for place in range(len(blocks))]
        self._graph = ResidualChain(
            vertices=tuple(f"h{place}" for place in range(len(blocks) + 1)),
            edges=tuple((place, place + 1) for place in range(len(blocks)) for _ in range(heads)),
            labels=tuple(f"{block}, head {head}" for block in labels for head in range(heads))
            if part == "heads"
            else tuple(labels),
        )
        with torch.inference_mode(), self._gates.recorded():
            model(**self.example())

    @property
    def graph(self) -> ResidualChain:
        """The chain, with one edge a block or head, in their order."""
        return self._graph

    @property
    def examples(self) -> int:
        """Number of examples, or of blocks of tokens."""
        return self._count

    def on(self, count: int) -> Self:
        """The same network on its first `count` examples."""
        smaller = copy(self)
        smaller._count = min(count, self._count)
        return smaller

    def without(self, blocks: Collection[int]) -> "TransformerBlocks":
        """The network with some blocks physically removed, with gates for the others, on all its examples."""
        return TransformerBlocks(removed(self.model, blocks), self.data, self._part, self._tokens)

    def example(self) -> dict[str, Any]:
        """Arguments of the model's forward pass for the first example."""
        return self._inputs(torch.arange(1))

    def losses(self, masks: ArrayLike) -> Numbers:
        """Mean loss over the examples for each mask.

        Args:
            masks: Booleans (m, edges), true for a block or head that stays.

        Returns:
            The losses (m,) in nats.

        Raises:
            UserError: They are not one boolean a block or head.
        """
        return np.asarray(self.evaluate(masks).loss.mean(1), float)

    def evaluate(self, masks: ArrayLike, label: str = "") -> BlockEvaluation:
        """Evaluate the network under many masks.

        Args:
            masks: Booleans (m, edges), true for a block or head that stays.
            label: Of the progress bar; there is none without.

        Returns:
            Losses and correct answers (m, n).

        Raises:
            UserError: They are not one boolean a block or head.
        """
        unique, place = np.unique(self._graph.checked(masks), axis=0, return_inverse=True)
        depth = len(self._graph.vertices) - 1
        by_block = unique.reshape(len(unique), depth, unique.shape[1] // depth)
        same = (by_block[1:] == by_block[:-1]).all(2)
        shared = [0, *np.where(same.all(1), same.shape[1], same.argmin(1)).tolist()]
        rules = [[_rule(block, self._part) for block in mask] for mask in by_block]
        loss, correct = np.zeros((2, len(unique), self._count))
        steps = [(rows, number) for rows in self._batches() for number in range(len(rules))]
        with torch.inference_mode(), fast_linear(self.model), self._gates.active():
            for rows, number in track(steps, label) if label else steps:
                if number == 0:
                    inputs = self._inputs(rows)
                self._gates.follow(rules[number], shared[number])
                for kept, found in zip((loss, correct), self._scores(self.model(**inputs), rows), strict=True):
                    kept[number, rows] = found.cpu()
        return BlockEvaluation(loss[place.reshape(-1)], correct[place.reshape(-1)])

    def gated_losses(self, gates: Tensor) -> Tensor:
        """Mean loss over the examples, twice differentiable in the gates; batches are computed again when it is.

        Args:
            gates: Factors (m, edges); 1 keeps a block or head, 0 removes it.

        Returns:
            The losses (m,) in nats.

        Raises:
            UserError: They are not one gate a block or head.
        """
        if gates.ndim != 2 or gates.shape[1] != len(self._graph.edges):
            raise UserError(
                f"there are {len(self._graph.edges)} {self._part}, but the gates have the shape {tuple(gates.shape)}"
            )
        parts = self._batches()
        sums = [
            torch.stack([checkpoint(self._gated_sum, row, rows, use_reentrant=False) for rows in parts]).sum()
            for row in gates
        ]
        return torch.stack(sums) / self._count

    def _gated_sum(self, gates: Tensor, rows: Tensor) -> Tensor:
        rules = list(gates.to(device_of(self.model)).view(len(self._graph.vertices) - 1, -1))
        with self._gates.active(), sdpa_kernel(SDPBackend.MATH):  # others cannot be differentiated twice
            self._gates.follow(rules, 0)
            return self._scores(self.model(**self._inputs(rows)), rows)[0].sum()

    def _batches(self) -> list[Tensor]:
        rows = torch.arange(self._count)
        if isinstance(self.data, Tensor):
            return list(torch.split(rows, max(1, self._tokens // self.data.shape[1])))
        found = list(batches(self.data, rows))
        if (lengths := self.data.lengths) is None:
            return found
        return [part for each in found for part in torch.split(each, max(1, self._tokens // int(lengths[each].max())))]

    def _inputs(self, rows: Tensor) -> dict[str, Any]:
        device = device_of(self.model)
        if isinstance(self.data, Tensor):
            return {"input_ids": self.data[rows, :-1].to(device), "use_cache": False}
        return dict(batch_of(self.data, rows, device))

    def _scores(self, outputs: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and share of correct answers of each example."""
        tokens = isinstance(self.data, Tensor)
        targets = self.data[rows, 1:] if isinstance(self.data, Tensor) else self.data.labels[rows, None]
        logits = outputs["logits"].float() if tokens else outputs["logits"].double()
        logits = logits.view(targets.numel(), -1)
        flat = targets.to(logits.device).flatten()
        loss = functional.cross_entropy(logits, flat, reduction="none")
        return loss.view_as(targets).mean(1), (logits.detach().argmax(-1) == flat).view_as(targets).double().mean(1)


def removed(model: nn.Module, blocks: Collection[int]) -> nn.Module:
    """A transformer without some of its blocks.

    Args:
        model: A model of the transformers library, which is left unchanged.
        blocks: Places of the blocks to remove.

    Returns:
        A smaller copy.

    Raises:
        UserError: The blocks are not found, a place has no block, or none would stay.
    """
    depth = len(find_blocks(model)[2])
    if wrong := [place for place in blocks if not 0 <= place < depth]:
        raise UserError(f"there is no block {wrong[0]}; there are blocks 0 to {depth - 1}")
    kept = [place for place in range(depth) if place not in blocks]
    if not kept:
        raise UserError(f"{depth} blocks cannot be removed from {depth}, of which one must stay")
    smaller = deepcopy(model)
    keep_blocks(smaller, kept)
    return smaller


def _rule(kept: Masks, part: Part) -> Rule:
    """The rule for one block under a mask of its gates (1,) or (heads,)."""
    if kept.all():
        return True
    return torch.from_numpy(kept.astype(np.float32)) if part == "heads" else False
