"""Effective model pruning of language models, by rows of weights and by heads, judged by perplexity."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from math import log
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from prunecast import tables
from prunecast.cache import kept_row, key_of
from prunecast.effective_pruning.comparison import Case, Masks, compare
from prunecast.effective_pruning.weight_scores import only, weight_scores
from prunecast.models.language import LanguageModel, perplexity, prunable
from prunecast.progress import track
from prunecast.pruning import criteria, effective_number, gates

Masked = Callable[[Masks], AbstractContextManager[None]]
BATCH = 8  # calibration blocks at a time
CRITERIA = {"row": ("magnitude", "wanda"), "head": ("magnitude", "taylor")}  # of the comparison at the same sparsity
HALF = "half"  # of the entries of each group
LARGE = 1_000_000  # perplexity from which a table says no more than that it is larger


def of_language(
    subject: LanguageModel, names: Sequence[str], betas: Sequence[float], epsilon: float, blocks: int = 256
) -> pd.DataFrame:
    """Prune a language model: the weights of each output under some criteria, and the attention heads.

    Args:
        subject: The language model.
        names: Criteria of the weights, magnitude among them.
        betas: Factors of the effective number.
        epsilon: Increase of the perplexity that is accepted, relative to the dense one.
        blocks: Blocks of the validation text, at most, on which the perplexity is measured.

    Returns:
        Rows of the table `emp`, of granularity `row` and `head`.

    Raises:
        UserError: If a criterion is unknown, or magnitude is missing.
    """
    text = subject.blocks[:blocks]

    def measure() -> tuple[float, float]:
        measured = perplexity(subject.model, text)
        return measured, log(measured)

    def case(masked: Masked) -> Case:
        return Case(
            model=subject.name,
            dataset=subject.spec.corpus,
            metric="perplexity",
            masked=masked,
            measure=measure,
            folder=subject.folder,
            fingerprint=f"{subject.fingerprint} {len(text)}",
            seed=subject.seed,
        )

    rows, heads = _by_output(subject, names), _of_heads(subject)
    return pd.concat(
        [
            compare(case(partial(_rows_only, subject)), rows, "row", betas, epsilon),
            compare(case(partial(gates.heads_off, subject.model)), heads, "head", betas, epsilon),
        ],
        ignore_index=True,
    )


def at_same_sparsity(subjects: Sequence[LanguageModel], blocks: int) -> pd.DataFrame:
    """Prune language models by the numbers of several rules, each with the entries chosen by several criteria.

    The numbers are the effective numbers of the scores of each criterion, at beta 1, and one half of each group; the
    groups are the weights of each output, and all attention heads. Each perplexity is kept as it is measured.

    Args:
        subjects: The language models.
        blocks: Blocks of the validation text, at most, on which the perplexity is measured.

    Returns:
        Rows of the table `emp_language`.

    Source: Wang et al. (2026), section 5.4, whose table of LLaMA has no criteria at the same sparsity.
    """
    rows = [row for subject in subjects for row in _rows_of(subject, blocks)]
    return pd.DataFrame(rows, columns=list(tables.contracts()["emp_language"]["columns"]))


def highest(scores: Tensor, kept: Tensor) -> Tensor:
    """Mark the highest scores of each row; of equal ones at the cut the first are left out.

    Args:
        scores: Scores (rows, entries).
        kept: How many of each row are marked (rows,).

    Returns:
        Booleans in the shape of the scores.
    """
    order = scores.argsort(dim=1, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, places)
    return ranks >= scores.shape[1] - kept[:, None]


def overview(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table `emp_language` with labels for readers.

    Args:
        rows: Rows of one model.

    Returns:
        Sparsity, and perplexity by the criterion that chose the entries, as text, by what was pruned and what set the
        number.
    """
    what = rows["granularity"].map({"row": "weights of each output", "head": "heads"})
    number = rows["counted"].map({HALF: "one half"}).fillna("effective number of " + rows["counted"])
    chosen = rows["chosen"].map({"magnitude": "by magnitude", "random": "at random"}).fillna("by Wanda or Taylor")
    shown = rows["pruned"].map(lambda value: f"{value:,.0f}" if value < LARGE else f"over {LARGE:,}")
    keys = ["what", "number", "sparsity"]
    labelled = rows.assign(what=what, number=number, chosen=chosen, shown=shown)
    wide = labelled.pivot_table("shown", keys, "chosen", aggfunc="first", sort=False)
    ordered = wide.loc[pd.MultiIndex.from_frame(labelled[keys].drop_duplicates())]
    ordered.insert(0, "pruned", [f"{sparsity:.0%}" for sparsity in ordered.index.get_level_values("sparsity")])
    return ordered[["pruned", "by magnitude", "by Wanda or Taylor", "at random"]].droplevel("sparsity")


def _rows_of(subject: LanguageModel, blocks: int) -> Iterator[dict[str, Any]]:
    text = subject.blocks[:blocks]
    found: dict[str, tuple[dict[str, dict[str, Tensor]], Masked]] = {
        "row": (_by_output(subject, CRITERIA["row"]), partial(_rows_only, subject)),
        "head": (_joined(_of_heads(subject)), lambda kept: gates.heads_off(subject.model, _by_layer(subject, kept))),
    }
    dense = _perplexity(subject, text, "dense", lambda: perplexity(subject.model, text))
    for granularity, (scores, masked) in found.items():
        chance = {name: criteria.random(name, score, subject.seed) for name, score in scores["magnitude"].items()}
        for counted in track([*scores, HALF], f"the same sparsity, {subject.name}, {granularity}"):
            kept = _kept(scores.get(counted, scores["magnitude"]), half=counted == HALF)
            entries, left = sum(score.numel() for score in chance.values()), sum(int(n.sum()) for n in kept.values())
            for chosen, by in (scores | {"random": chance}).items():
                measure = partial(_pruned, subject, text, masked, by, kept)
                yield (
                    {"model": subject.name, "dataset": subject.spec.corpus, "granularity": granularity}
                    | {"counted": counted, "chosen": chosen, "entries": entries, "kept": left}
                    | {"sparsity": 1 - left / entries, "dense": dense, "blocks": len(text), "seed": subject.seed}
                    | {"pruned": _perplexity(subject, text, f"{granularity}_{counted}_{chosen}", measure)}
                )


def _perplexity(subject: LanguageModel, text: Tensor, name: str, measure: Callable[[], float]) -> float:
    key = key_of(["effective_number"], subject.fingerprint, len(text), subject.seed, name)
    path = subject.folder / "same_sparsity" / f"{name}.json"
    return float(kept_row(path, key, lambda: {"perplexity": measure()})["perplexity"])


def _pruned(
    subject: LanguageModel, text: Tensor, masked: Masked, scores: Mapping[str, Tensor], kept: Mapping[str, Tensor]
) -> float:
    with masked({name: highest(score, kept[name]) for name, score in scores.items()}):
        return perplexity(subject.model, text)


def _kept(scores: Mapping[str, Tensor], half: bool) -> dict[str, Tensor]:
    """How many entries of each row are kept (rows,), by layer."""
    if half:
        return {name: torch.full((len(score),), score.shape[1] - score.shape[1] // 2) for name, score in scores.items()}
    return {name: torch.tensor([_effective(row) for row in score]) for name, score in scores.items()}


def _effective(scores: Tensor) -> int:
    return effective_number.effective(lambda: [scores]).kept


def _by_output(subject: LanguageModel, names: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """Scores (outputs, inputs) of the weights, by criterion and layer."""
    weights = prunable(subject.model)
    parts = torch.split(subject.calibration.to(subject.model.device), BATCH)
    batches = [{"input_ids": part, "labels": part} for part in parts]
    scores = weight_scores(names, subject.model, weights, lambda: batches, subject.seed)
    return {
        name: {layer: _turned(subject.model, layer, score).contiguous() for layer, score in of.items()}
        for name, of in scores.items()
    }


def _rows_only(subject: LanguageModel, retained: Masks) -> AbstractContextManager[None]:
    turned = {layer: _turned(subject.model, layer, mask) for layer, mask in retained.items()}
    return only(prunable(subject.model), turned)


def _turned(model: nn.Module, name: str, matrix: Tensor) -> Tensor:
    """A matrix in the shape of a weight as (outputs, inputs), or back: GPT-2's own layers store them turned round."""
    linear = isinstance(model.get_submodule(name.removesuffix(".weight")), nn.Linear)
    return matrix if linear else matrix.T


def _of_heads(subject: LanguageModel) -> dict[str, dict[str, Tensor]]:
    return {
        "magnitude": gates.head_scores(subject, "weight_norm"),
        "taylor": gates.head_scores(subject, "taylor"),
    }


def _joined(scores: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """The heads of all layers as one group."""
    return {name: {"heads": torch.cat([*of.values()])[None]} for name, of in scores.items()}


def _by_layer(subject: LanguageModel, kept: Masks) -> dict[str, Tensor]:
    layers = gates.head_scores(subject, "weight_norm")
    parts = torch.split(kept["heads"][0], [len(score) for score in layers.values()])
    return dict(zip(layers, parts, strict=True))
