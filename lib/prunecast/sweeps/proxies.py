"""Zero-cost proxies of a pruned model's accuracy, and outcomes of a few examples, at every percentile threshold.

lost_*       share of a layer's sum of squares that is pruned: from the weights alone,
curvature    increase of the loss to second order, from a few gradients on unlabelled examples,
agreement    share of a few unlabelled examples that are classified as before pruning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from prunecast import tables
from prunecast.cache import alone, file_hash, kept_folder, key_of
from prunecast.cost.samples import AGREEMENT_EXAMPLES, AGREEMENT_STRIDE, GRADIENT_EXAMPLES
from prunecast.errors import UserError
from prunecast.models.checkpoints import TrainedModel, trained_classifier
from prunecast.models.evaluation import evaluate, logits
from prunecast.models.inputs import Examples, batch_of, device_of
from prunecast.progress import note, track
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import SCOPES, Scope, cut, pruned_by_layer, pruned_counts, rank
from prunecast.seeding import generator
from prunecast.sweeps.recalibration import ModelPruner, recalibrating
from prunecast.sweeps.sweeper import grid

TABLES = ("signals", "probes")
LOST = ("lost_max", "lost_mean", "lost_first", "lost_last")
Weights = Mapping[str, Tensor]


def weight_proxies(weights: Weights, thresholds: Sequence[float]) -> pd.DataFrame:
    """Proxies that cost no forward pass.

    Args:
        weights: Prunable weights, by name, in the order of the layers.
        thresholds: Percentile thresholds, in tenths of the weights.

    Returns:
        A row for each scope and threshold, with the columns scope, threshold, sparsity; `lost_max`, `lost_mean`,
        `lost_first`, `lost_last`, the share of the sum of squares pruned in the layer that loses most, in the mean
        layer, in the first and in the last one; and, the same in all rows, `n_eff`, `n_eff_lowest` and
        `n_eff_highest`, the mean, lowest and highest over layers of `(sum |w|)² / sum w²` as a share of the layer's
        weights, and `kurtosis`, the mean over layers. A layer of zeros loses nothing, and its `n_eff` is 0, since it is
        at most the share of weights that are not zero; the kurtosis of a layer of equal weights is 1, the least there
        is.

    Source: Wang et al. (2026) for the effective number of weights.
    """
    ordered = {name: np.sort(magnitude(name, weight).flatten().cpu().numpy()) for name, weight in weights.items()}
    sums = [_cumulated(scores.astype(np.float64) ** 2) for scores in ordered.values()]
    total = sum(map(len, ordered.values()))
    n_eff = [_n_eff(weight) for weight in weights.values()]
    constants = {
        "n_eff": float(np.mean(n_eff)),
        "n_eff_lowest": min(n_eff),
        "n_eff_highest": max(n_eff),
        "kurtosis": float(np.mean([_kurtosis(weight) for weight in weights.values()])),
    }
    rows = []
    for scope in SCOPES:
        counts = pruned_by_layer(ordered, scope, thresholds)
        lost = np.stack([upto[counts[:, layer]] / (upto[-1] or 1) for layer, upto in enumerate(sums)], 1)
        table = {"scope": scope, "threshold": thresholds, "sparsity": counts.sum(1) / total}
        shares = zip(LOST, (lost.max(1), lost.mean(1), lost[:, 0], lost[:, -1]), strict=True)
        rows.append(pd.DataFrame(table | dict(shares) | constants))
    return pd.concat(rows, ignore_index=True)


def curvature(
    model: nn.Module, weights: Weights, examples: Examples, rows: np.ndarray, thresholds: Sequence[float]
) -> pd.DataFrame:
    """Half of sum F w² over the pruned weights, in nats; costs n forward and backward passes.

    F is the diagonal of the Fisher information, the mean square of the gradient of the cross-entropy over some
    examples, with the class that the model predicts as label.

    Args:
        model: The classifier.
        weights: Its prunable weights, by name.
        examples: All examples; labels are not used.
        rows: Indices (n,) of the examples to take gradients on.
        thresholds: Percentile thresholds, in tenths of the weights.

    Returns:
        A row for each scope and threshold, with the columns scope, threshold, curvature.

    Source: LeCun et al. (1990), with the Fisher information for the second derivative, as Theis et al. (2018).
    """
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for row in rows:
        scores = model(**batch_of(examples, torch.tensor([row]), device_of(model)))["logits"]
        gradients = torch.autograd.grad(functional.cross_entropy(scores, scores.argmax(-1)), list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            squares[name] += gradient**2 / len(rows)
    ordered, sums = {}, []
    for name, weight in weights.items():
        scores, order = magnitude(name, weight).flatten().sort(stable=True)
        increases = squares[name].double() * weight.detach().double() ** 2 / 2
        ordered[name] = scores.cpu().numpy()
        sums.append(_cumulated(increases.flatten()[order].cpu().numpy()))
    parts = []
    for scope in SCOPES:
        counts = pruned_by_layer(ordered, scope, thresholds)
        total = sum(upto[counts[:, layer]] for layer, upto in enumerate(sums))
        parts.append(pd.DataFrame({"scope": scope, "threshold": thresholds, "curvature": total}))
    return pd.concat(parts, ignore_index=True)


def _dense_classes(model: nn.Module, examples: Examples, rows: np.ndarray) -> Tensor:  # (n,) of the `rows` (n,)
    return logits(model, examples, torch.from_numpy(rows)).argmax(-1)


def agreement(
    model: nn.Module,
    weights: Weights,
    examples: Examples,
    rows: np.ndarray,
    scope: Scope,
    thresholds: Sequence[float],
    recalibrate_on: Examples | None = None,
) -> np.ndarray:
    """Whether examples are classified as before pruning, by magnitude at each threshold.

    Args:
        model: The classifier.
        weights: Its prunable weights, by name; they are restored at the end.
        examples: All examples; labels are not used.
        rows: Indices (n,) of the examples to classify.
        scope: Whether weights are ranked over all layers or in each layer.
        thresholds: Percentile thresholds (T), in tenths of the weights.
        recalibrate_on: Images on which batch norms are recalibrated after each pruning, without labels; or None.

    Returns:
        Booleans (T, n).
    """
    labels = examples.labels.clone()
    labels[rows] = _dense_classes(model, examples, rows)
    return _correct(model, weights, replace(examples, labels=labels), rows, scope, thresholds, recalibrate_on)


def probe(
    model: nn.Module,
    weights: Weights,
    examples: Examples,
    rows: np.ndarray,
    scope: Scope,
    thresholds: Sequence[float],
    recalibrate_on: Examples | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Agreement with the dense model and correctness of examples, at each threshold; arguments as of `agreement`.

    Returns:
        Whether each example is classified as before pruning, and whether correctly: booleans (T, n) both.
    """
    agrees = agreement(model, weights, examples, rows, scope, thresholds, recalibrate_on)
    right = (_dense_classes(model, examples, rows) == examples.labels[rows]).numpy()
    correct = agrees.copy()  # where the dense model is correct, agreement is correctness
    if not right.all():
        correct[:, ~right] = _correct(model, weights, examples, rows[~right], scope, thresholds, recalibrate_on)
    return agrees, correct


def sample(examples: Examples, count: int, seed: int) -> np.ndarray:
    """Draw examples at random without replacement.

    Args:
        examples: All examples.
        count: How many to draw; all of them, in random order, where there are fewer.
        seed: Seed of the draw.

    Returns:
        Indices (count,), in the order of the draw.
    """
    return generator(seed, "probes").permutation(len(examples))[:count]


def _cumulated(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums (n + 1,) of the first 0 to n values."""
    return np.concatenate([np.zeros(1), np.cumsum(values)])


def _correct(
    model: nn.Module,
    weights: Weights,
    examples: Examples,
    rows: np.ndarray,
    scope: Scope,
    thresholds: Sequence[float],
    recalibrate_on: Examples | None,
) -> np.ndarray:
    ranking = rank(weights, magnitude, scope)
    cuts = [cut(ranking, pruned_counts(ranking, "percentile", threshold)) for threshold in thresholds]
    with ModelPruner(model, weights, magnitude, ranking.groups, recalibrate_on) as pruner:
        correct = []
        for at in track(cuts, f"evaluating examples, {scope} scope"):
            pruner.prune(at)
            correct.append(evaluate(model, examples, torch.from_numpy(rows)).correct.numpy())
    return np.stack(correct)


def _n_eff(weight: Tensor) -> float:
    values = weight.detach().double()
    squares = float((values**2).sum())
    return float(values.abs().sum()) ** 2 / squares / values.numel() if squares else 0.0


def _kurtosis(weight: Tensor) -> float:
    values = weight.detach().double()
    squares = (values - values.mean()) ** 2
    variance = float(squares.mean())
    return float((squares**2).mean()) / variance**2 if variance else 1.0


def probed(
    models: Sequence[str], run: str, points: int, examples: int, stride: int, seed: int, recalibrate: int = 0
) -> dict[str, pd.DataFrame]:
    """The tables `signals` and `probes` of some models, read from their folders or measured now.

    Args:
        models: Names in the registry of models.
        run: Name of the run whose folder holds the models; those that are missing are trained.
        points: Number of percentile thresholds.
        examples: Number of examples whose outcomes are recorded in `probes`.
        stride: Thresholds from one evaluation of the examples to the next.
        seed: Seed of the training and of the draw of examples.
        recalibrate: Number of training images on which batch norms are recalibrated after each pruning; 0 for none.

    Raises:
        UserError: If a model or its task does not exist.
    """
    subjects = (recalibrating(trained_classifier(name, run, seed), recalibrate) for name in track(models, "models"))
    parts = [_cached(subject, points, examples, stride) for subject in subjects]
    return {table: pd.concat([part[table] for part in parts], ignore_index=True) for table in TABLES}


def measure(subject: TrainedModel, points: int, examples: int, stride: int = 1) -> dict[str, pd.DataFrame]:
    """Measure the rows of one trained model in the tables `signals` and `probes`.

    Args:
        subject: The model and its examples, recalibrated where it has images for that.
        points: Number of percentile thresholds.
        examples: Number of examples whose outcomes are recorded in `probes`.
        stride: Thresholds from one evaluation of the examples to the next; it divides `AGREEMENT_STRIDE`.

    Raises:
        UserError: If the stride does not divide it.
    """
    if stride < 1 or AGREEMENT_STRIDE % stride:
        raise UserError(f"stride is {stride}; it must divide {AGREEMENT_STRIDE}, the stride of the agreement")
    thresholds = grid(points)
    rows = sample(subject.examples, max(examples, GRADIENT_EXAMPLES), subject.seed)
    evaluated = rows[: max(examples, AGREEMENT_EXAMPLES)]
    sparse = thresholds[::AGREEMENT_STRIDE]
    parts, outcomes, strided, images = [], [], thresholds[::stride], subject.recalibrate_on
    for scope in SCOPES:
        agrees, correct = probe(subject.model, subject.weights, subject.examples, evaluated, scope, strided, images)
        shares = agrees[:: AGREEMENT_STRIDE // stride, :AGREEMENT_EXAMPLES].mean(1)
        parts.append(pd.DataFrame({"scope": scope, "agreement": np.interp(thresholds, sparse, shares)}))
        recorded = (agrees[:, :examples], correct[:, :examples], rows[:examples])
        outcomes.append(_runs(*recorded, strided).assign(scope=scope))
    proxies = weight_proxies(subject.weights, thresholds)
    second_order = curvature(subject.model, subject.weights, subject.examples, rows[:GRADIENT_EXAMPLES], thresholds)
    proxies = proxies.assign(curvature=second_order["curvature"], agreement=pd.concat(parts)["agreement"].to_numpy())
    return {
        "signals": proxies.round(6).assign(model=subject.name),
        "probes": pd.concat(outcomes).assign(model=subject.name),
    }


def _runs(agrees: np.ndarray, correct: np.ndarray, rows: np.ndarray, thresholds: Sequence[float]) -> pd.DataFrame:
    """A row for each example and each threshold from which on its outcome is another one."""
    state = 2 * agrees + correct
    changed = np.vstack([np.ones((1, len(rows)), bool), state[1:] != state[:-1]])
    draw, step = np.nonzero(changed.T)
    columns = {"draw": draw, "example": rows[draw], "from_threshold": np.array(thresholds)[step]}
    return pd.DataFrame(columns | {"agrees": agrees[step, draw], "correct": correct[step, draw]})


def _cached(subject: TrainedModel, points: int, examples: int, stride: int) -> dict[str, pd.DataFrame]:
    folder = subject.folder / "signals"
    weights = file_hash(subject.folder / "model.safetensors")
    recalibrated = [len(subject.recalibrate_on)] if subject.recalibrate_on else []
    settings = [points, examples, stride, subject.seed, *recalibrated]
    key = key_of(["evaluation", "proxies"], weights, subject.task.fingerprint, *settings)

    def fill(new: Path) -> None:
        for table, frame in measure(subject, points, examples, stride).items():
            tables.write(table, frame, new)
        note(f"{subject.name}: zero-cost proxies measured")

    with alone(subject.folder):
        kept_folder(folder, key, fill)
        return {table: tables.read(table, folder) for table in TABLES}
