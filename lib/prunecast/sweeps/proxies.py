"""Signals: what can be known of a pruned model before it is measured, and what each costs in forward passes.

Every signal is a function of the mask at a percentile threshold, so that a surrogate can walk along it:
    lost_*       share of a layer's sum of squares that is pruned: nothing but the weights is looked at,
    curvature    increase of the loss to second order, from a few gradients on unlabelled examples,
    agreement    share of a few unlabelled examples that are classified as before pruning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from prunecast import tables
from prunecast.cache import alone, file_hash, kept_folder, key_of
from prunecast.cost.samples import AGREEMENT_EXAMPLES, AGREEMENT_STRIDE, GRADIENT_EXAMPLES
from prunecast.models.checkpoints import TrainedModel, trained_classifier
from prunecast.models.evaluation import Examples, evaluate
from prunecast.progress import note, track
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import SCOPES, Pruner, Scope, cut, pruned_counts, rank
from prunecast.seeding import seed_everything
from prunecast.sweeps.sweeper import grid

TABLES = ("signals", "probes")
Weights = Mapping[str, Tensor]


def weight_proxies(weights: Weights, thresholds: Sequence[float]) -> pd.DataFrame:
    """Signals that cost no forward pass, a row for each scope and percentile threshold.

    Columns: scope, threshold, sparsity; `lost_max`, `lost_mean`, `lost_first`, `lost_last`, the share of the sum of
    squares pruned in the layer that loses most, in the mean layer, in the first and in the last one; and, the same in
    all rows, `n_eff`, `n_eff_lowest` and `n_eff_highest`, the mean, lowest and highest over layers of (sum |w|)² /
    sum w² as a share of the layer's weights (Wang et al., 2026), and `kurtosis`, the mean over layers.
    """
    layers = [_Cumulated(weight, weight.detach().double() ** 2) for weight in weights.values()]
    pruned = {scope: _pruned_by_layer(layers, scope, thresholds) for scope in SCOPES}
    sizes = np.array([len(layer) for layer in layers])
    n_eff = [_n_eff(weight) for weight in weights.values()]
    constants = {
        "n_eff": float(np.mean(n_eff)),
        "n_eff_lowest": min(n_eff),
        "n_eff_highest": max(n_eff),
        "kurtosis": float(np.mean([_kurtosis(weight) for weight in weights.values()])),
    }
    rows = []
    for scope, counts in pruned.items():
        lost = np.stack(
            [layer.upto(counts[:, index]) / layer.upto(len(layer)) for index, layer in enumerate(layers)], 1
        )
        rows.append(
            pd.DataFrame(
                {
                    "scope": scope,
                    "threshold": thresholds,
                    "sparsity": counts.sum(1) / sizes.sum(),
                    "lost_max": lost.max(1),
                    "lost_mean": lost.mean(1),
                    "lost_first": lost[:, 0],
                    "lost_last": lost[:, -1],
                }
            ).assign(**constants)
        )
    return pd.concat(rows, ignore_index=True)


def curvature(
    model: nn.Module, weights: Weights, examples: Examples, rows: np.ndarray, thresholds: Sequence[float]
) -> pd.DataFrame:
    """Half of sum F w² over the pruned weights, in nats: the columns scope, threshold, curvature.

    F is the diagonal of the Fisher information, the mean square of the gradient of the cross-entropy over the examples
    `rows` (n,), with the class that the model itself gives as label (LeCun et al., 1990, with the Fisher information
    for the second derivative, as Theis et al., 2018). Costs n forward and backward passes.
    """
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for row in rows:
        logits = model(**_single(examples, row))["logits"]
        gradients = torch.autograd.grad(functional.cross_entropy(logits, logits.argmax(-1)), list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            squares[name] += gradient**2 / len(rows)
    layers = [
        _Cumulated(weight, squares[name].double() * weight.detach().double() ** 2 / 2)
        for name, weight in weights.items()
    ]
    found = []
    for scope in SCOPES:
        counts = _pruned_by_layer(layers, scope, thresholds)
        total = sum(layer.upto(counts[:, index]) for index, layer in enumerate(layers))
        found.append(pd.DataFrame({"scope": scope, "threshold": thresholds, "curvature": total}))
    return pd.concat(found, ignore_index=True)


def dense_classes(model: nn.Module, examples: Examples, rows: np.ndarray) -> Tensor:
    """Class (n,) that the model gives to each of the examples `rows` (n,)."""
    with torch.inference_mode():
        return torch.cat([model(**_single(examples, row))["logits"].argmax(-1) for row in rows]).cpu()


def agreement(
    model: nn.Module, weights: Weights, examples: Examples, rows: np.ndarray, scope: Scope, thresholds: Sequence[float]
) -> np.ndarray:
    """Whether each of the examples `rows` (n,) is classified as before pruning, at each threshold: booleans (T, n)."""
    labels = examples.labels.clone()
    labels[rows] = dense_classes(model, examples, rows)
    return _correct(model, weights, replace(examples, labels=labels), rows, scope, thresholds)


def probe(
    model: nn.Module, weights: Weights, examples: Examples, rows: np.ndarray, scope: Scope, thresholds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Agreement, and whether each example is classified correctly; booleans (T, n) both."""
    agrees = agreement(model, weights, examples, rows, scope, thresholds)
    right = (dense_classes(model, examples, rows) == examples.labels[rows]).numpy()
    correct = agrees.copy()  # where the dense model is right, to agree is to be right
    if not right.all():
        correct[:, ~right] = _correct(model, weights, examples, rows[~right], scope, thresholds)
    return agrees, correct


def sample(examples: Examples, count: int, seed: int) -> np.ndarray:
    """`count` examples at random, or all of them in random order where there are fewer."""
    return seed_everything(seed, "probes").permutation(len(examples))[:count]


class _Cumulated:
    """A layer's weights in the order in which magnitude prunes them, and sums of some `values` over the first n."""

    def __init__(self, weight: Tensor, values: Tensor):
        scores, order = weight.detach().abs().flatten().sort(stable=True)
        self.scores = scores.cpu().numpy()
        self.sums = np.concatenate([[0.0], values.flatten()[order].cumsum(0).cpu().numpy()])

    def __len__(self) -> int:
        return len(self.scores)

    def upto(self, count: np.ndarray | int) -> np.ndarray:
        return self.sums[count]


def _pruned_by_layer(layers: list[_Cumulated], scope: Scope, thresholds: Sequence[float]) -> np.ndarray:
    """Weights pruned (T, layers); in global scope weights equal to the one at the cut count as pruned."""
    if scope == "layer":
        return np.array([[round(threshold * len(layer) / 10) for layer in layers] for threshold in thresholds])
    every = np.sort(np.concatenate([layer.scores for layer in layers]))
    counts = [round(threshold * len(every) / 10) for threshold in thresholds]
    return np.array(
        [[np.searchsorted(layer.scores, every[n - 1], "right") if n else 0 for layer in layers] for n in counts]
    )


def _correct(
    model: nn.Module, weights: Weights, examples: Examples, rows: np.ndarray, scope: Scope, thresholds: Sequence[float]
) -> np.ndarray:
    ranking = rank(weights, magnitude, scope)
    cuts = [cut(ranking, pruned_counts(ranking, "percentile", threshold)) for threshold in thresholds]
    with Pruner(weights, magnitude, ranking.groups) as pruner:
        found = []
        for place in track(cuts, f"probing, {scope} scope"):
            pruner.prune(place)
            found.append(evaluate(model, examples, torch.from_numpy(rows)).correct.numpy())
    return np.stack(found)


def _single(examples: Examples, row: int) -> dict[str, Tensor]:
    if examples.lengths is None:
        return {"pixel_values": examples.inputs[row][None]}
    return {"input_ids": examples.inputs[row][None, : examples.lengths[row]]}


def _n_eff(weight: Tensor) -> float:
    values = weight.detach().double()
    return float(values.abs().sum() ** 2 / (values**2).sum() / values.numel())


def _kurtosis(weight: Tensor) -> float:
    values = weight.detach().double()
    centred = values - values.mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2)


def probed(models: Sequence[str], run: str, points: int, examples: int, seed: int) -> dict[str, pd.DataFrame]:
    """The tables `signals` and `probes` of some models of a run, at `points` thresholds, with `examples` probed."""
    found = [_kept(trained_classifier(name, run, seed), points, examples) for name in track(models, "models")]
    return {table: pd.concat([part[table] for part in found], ignore_index=True) for table in TABLES}


def measure(subject: TrainedModel, points: int, examples: int) -> dict[str, pd.DataFrame]:
    """The rows of one trained model in both tables."""
    thresholds = grid(points)
    rows = sample(subject.examples, examples, subject.seed)
    sparse = thresholds[::AGREEMENT_STRIDE]
    parts, outcomes = [], []
    for scope in SCOPES:
        agrees, correct = probe(subject.model, subject.weights, subject.examples, rows, scope, thresholds)
        looked = agrees[::AGREEMENT_STRIDE, :AGREEMENT_EXAMPLES].mean(1)
        parts.append(pd.DataFrame({"scope": scope, "agreement": np.interp(thresholds, sparse, looked)}))
        outcomes.append(_runs(agrees, correct, rows, thresholds).assign(scope=scope))
    free = weight_proxies(subject.weights, thresholds)
    curved = curvature(subject.model, subject.weights, subject.examples, rows[:GRADIENT_EXAMPLES], thresholds)
    together = free.assign(curvature=curved["curvature"], agreement=pd.concat(parts)["agreement"].to_numpy())
    return {
        "signals": together.round(6).assign(model=subject.name),
        "probes": pd.concat(outcomes).assign(model=subject.name),
    }


def _runs(agrees: np.ndarray, correct: np.ndarray, rows: np.ndarray, thresholds: Sequence[float]) -> pd.DataFrame:
    """A row for each example and each threshold from which on its outcome is another one."""
    state = 2 * agrees + correct
    changed = np.vstack([np.ones((1, len(rows)), bool), state[1:] != state[:-1]])
    draw, step = np.nonzero(changed.T)
    columns = {"draw": draw, "example": rows[draw], "from_threshold": np.array(thresholds)[step]}
    return pd.DataFrame(columns | {"agrees": agrees[step, draw], "correct": correct[step, draw]})


def _kept(subject: TrainedModel, points: int, examples: int) -> dict[str, pd.DataFrame]:
    folder = subject.folder / "signals"
    weights = file_hash(subject.folder / "model.safetensors")
    key = key_of(["evaluation", "proxies"], weights, subject.task.fingerprint, points, examples, subject.seed)

    def fill(new: Path) -> None:
        for table, frame in measure(subject, points, examples).items():
            tables.write(table, frame, new)
        note(f"{subject.name}: signals measured")

    with alone(subject.folder):
        kept_folder(folder, key, fill)
        return {table: tables.read(table, folder) for table in TABLES}
