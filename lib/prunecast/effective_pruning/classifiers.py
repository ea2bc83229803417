"""Cases of effective model pruning: weights of classifiers, nodes, pixels."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from prunecast import paths, tables
from prunecast.cache import file_hash
from prunecast.effective_pruning import image_pruning
from prunecast.effective_pruning.comparison import Case, Granularity, Masks, compare
from prunecast.effective_pruning.weight_scores import calibration_batches, every_weight, only, weight_scores
from prunecast.errors import UserError
from prunecast.models.checkpoints import TrainedModel, trained_classifier
from prunecast.models.evaluation import evaluate
from prunecast.pruning import criteria, gates
from prunecast.sweeps import curve_metrics

Masked = Callable[[Masks], AbstractContextManager[None]]


def of_study(models: Sequence[str], study: str, names: Sequence[str], epsilon: float, seed: int) -> pd.DataFrame:
    """Prune the classifiers of a study at beta 1: all weights compared, and by magnitude in each layer too.

    Args:
        models: Names of models of the study; all of them if empty.
        study: Name of the study, from whose measured curves the optima are read.
        names: Criteria under which all weights are compared.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        seed: Seed of the study and of the random control.

    Returns:
        Rows of the table `emp`.

    Raises:
        UserError: If the study has no curve of a model, or a criterion is unknown.
    """
    sweeps = tables.read("sweeps", paths.tables(study))
    safe = {name: curve_metrics.safe_sparsities(sweeps, epsilon, name) for name in criteria.CRITERIA}
    scoped: tuple[tuple[Granularity, Sequence[str]], ...] = (("global", names), ("layer", ["magnitude"]))
    if unswept := sorted(set(models) - set(sweeps["model"])):
        raise UserError(
            f"study {study!r} has no curve of {unswept[0]!r}; it has those of {', '.join(sweeps['model'].unique())}"
        )
    parts = []
    for model in models or tables.read("models", paths.tables(study))["model"]:
        subject = trained_classifier(model, study, seed)
        for scope, scored in scoped:
            optima = {str(name): float(of[scope].loc[model]) for name, of in safe.items() if scope in of}
            parts.append(of_classifier(subject, scored, scope, [1.0], epsilon, optima=optima))
    return pd.concat(parts, ignore_index=True)


def of_networks(
    models: Sequence[str], run: str, betas: Sequence[float], seeds: Sequence[int], epsilon: float
) -> pd.DataFrame:
    """Prune fully connected networks by magnitude, the output layer included, each trained once for every seed.

    Args:
        models: Names of models of the registry.
        run: Name of the run in which they are trained.
        betas: Factors of the effective number.
        seeds: Seeds of training and random control.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        Rows of the table `emp`.

    Source: Wang et al. (2026), whose protocol this is.
    """
    parts = []
    for model in models:
        for seed in seeds:  # every seed in a folder of its own
            subject = trained_classifier(model, f"{run}/seed_{seed}", seed)
            parts.append(of_classifier(subject, ["magnitude"], "global", betas, epsilon, whole=True))
    return pd.concat(parts, ignore_index=True)


def of_classifier(
    subject: TrainedModel,
    names: Sequence[str],
    granularity: Granularity,
    betas: Sequence[float],
    epsilon: float,
    whole: bool = False,
    optima: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Prune the weights of a trained classifier.

    Args:
        subject: The classifier.
        names: Criteria, magnitude among them.
        granularity: Groups of weights whose scores are compared with each other.
        betas: Factors of the effective number.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        whole: Whether the weights of the output layer are pruned too.
        optima: Measured optima by criterion, as sparsities, if they are known.

    Returns:
        Rows of the table `emp`.

    Raises:
        UserError: If a criterion is unknown, or magnitude is missing.
    """
    weights = every_weight(subject.model) if whole else subject.weights
    scores = weight_scores(names, subject.model, weights, lambda: calibration_batches(subject), subject.seed)
    return compare(classifier(subject, partial(only, weights)), scores, granularity, betas, epsilon, optima)


def of_kan(subject: TrainedModel, betas: Sequence[float], epsilon: float) -> pd.DataFrame:
    """Prune the hidden nodes of a Kolmogorov-Arnold network, layer by layer.

    The criteria are attribution, by `gates.node_scores`, and magnitude, the norm of all coefficients on the edges into
    a node.

    Args:
        subject: The network.
        betas: Factors of the effective number.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        Rows of the table `emp`.
    """
    network: Any = subject.model.network
    images = torch.cat([batch["pixel_values"] for batch in calibration_batches(subject)])
    attribution = gates.node_scores(network, images)
    norms = {
        name: (layer.base_weight.detach() ** 2 + (layer.spline_weight.detach() ** 2).sum(-1)).sum(1).sqrt()
        for name, layer in zip(attribution, network.layers, strict=False)
    }
    case = classifier(subject, partial(gates.nodes_off, network))
    return compare(case, {"attribution": attribution, "magnitude": norms}, "node", betas, epsilon)


def of_photograph(betas: Sequence[float], seed: int) -> tuple[pd.DataFrame, dict[str, NDArray[np.float64]]]:
    """Prune a photograph by its pixels, in each colour channel and in each patch.

    Args:
        betas: Factors of the effective number.
        seed: Seed of the random control.

    Returns:
        Rows of the table `emp`, the metric being the peak signal-to-noise ratio in decibels; and by name the
        photograph and its pruned images at the first beta (height, width, 3), with values from 0 to 1.
    """
    image = image_pruning.photograph()
    rows, images = [], {"photograph": image}
    for granularity, prune in (("channel", image_pruning.by_channel), ("patch", image_pruning.by_patch)):
        for beta in betas:
            pruned, chance = prune(image, beta, seed=seed), prune(image, beta, order="random", seed=seed)
            images.setdefault(granularity, pruned.image)
            images.setdefault(f"{granularity}, at random", chance.image)
            rows.append(
                {"model": "photograph", "dataset": "china.jpg", "criterion": "intensity", "granularity": granularity}
                | {"beta": beta, "entries": pruned.entries, "n_eff": pruned.n_eff, "kept": pruned.kept}
                | {"sparsity": 1 - pruned.kept / pruned.entries, "metric": "psnr", "pruned": pruned.psnr}
                | {"preserved": float(pruned.image.sum() / image.sum())}
                | {"random_at_same_sparsity": chance.psnr, "magnitude_at_same_sparsity": pruned.psnr, "seed": seed}
                | dict.fromkeys(("dense", "dense_loss", "pruned_loss", "epsilon", "optimum"), float("nan"))
            )
    return pd.DataFrame(rows), images


def classifier(subject: TrainedModel, masked: Masked) -> Case:
    """A trained classifier as a case, judged by accuracy and cross-entropy in nats.

    Args:
        subject: The classifier.
        masked: Context in which only the entries that boolean masks mark are left.

    Returns:
        The case; measurements are cached in the classifier's folder.
    """

    def measure() -> tuple[float, float]:
        outcome = evaluate(subject.model, subject.examples)
        return outcome.accuracy, outcome.mean_loss

    return Case(
        model=subject.name,
        dataset=subject.task.name,
        metric="accuracy",
        masked=masked,
        measure=measure,
        folder=subject.folder,
        fingerprint=file_hash(subject.folder / "model.safetensors") + subject.task.fingerprint,
        seed=subject.seed,
    )
