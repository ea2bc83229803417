"""What the effective number is tried on: weights of classifiers, rows and heads of language models, nodes, pixels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import log
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from prunecast import paths, tables
from prunecast.cache import file_hash
from prunecast.errors import UserError
from prunecast.experiments import image_pruning
from prunecast.experiments.effective_number import Case, Granularity, Masks, compared
from prunecast.models import language, zoo
from prunecast.models.checkpoints import TrainedModel, trained_classifier
from prunecast.models.evaluation import batch_of, evaluate, prepare
from prunecast.pruning import criteria, gates
from prunecast.sweeps import curve_metrics

CALIBRATION_EXAMPLES = 256  # training examples that informed criteria look at
BATCH = 64  # of them at a time
BLOCKS = 256  # of the validation text that perplexity is taken over


def of_study(models: Sequence[str], study: str, names: Sequence[str], epsilon: float, seed: int) -> pd.DataFrame:
    """Rows of `emp` at beta 1 for models of a study, all of them if none is named.

    All weights are compared under the criteria `names`, and those of each layer under magnitude. Optima are read off
    the study's measured curves.
    """
    sweeps = tables.read("sweeps", paths.tables(study))
    safe: dict[str, Any] = {name: curve_metrics.safe_sparsities(sweeps, epsilon, name) for name in criteria.CRITERIA}
    scoped: tuple[tuple[Granularity, Sequence[str]], ...] = (("global", names), ("layer", ["magnitude"]))
    if unswept := sorted(set(models) - set(sweeps["model"])):
        raise UserError(
            f"study {study!r} has no curve of {unswept[0]!r}; it has those of {', '.join(sweeps['model'].unique())}"
        )
    found = []
    for model in models or tables.read("models", paths.tables(study))["model"]:
        subject = trained_classifier(model, study, seed)
        for scope, scored in scoped:
            optima = {name: float(of.loc[model, scope]) for name, of in safe.items() if scope in of}
            found.append(of_classifier(subject, scored, scope, [1.0], epsilon, optima=optima))
    return pd.concat(found, ignore_index=True)


def of_networks(
    models: Sequence[str], run: str, betas: Sequence[float], seeds: Sequence[int], epsilon: float
) -> pd.DataFrame:
    """Rows of `emp` for fully connected networks pruned as Wang et al. do, trained anew for each seed."""
    found = []
    for model in models:
        for seed in seeds:  # every seed in a folder of its own
            subject = trained_classifier(model, f"{run}/seed_{seed}", seed)
            found.append(of_classifier(subject, ["magnitude"], "global", betas, epsilon, whole=True))
    return pd.concat(found, ignore_index=True)


def of_classifier(
    subject: TrainedModel,
    names: Sequence[str],
    granularity: Granularity,
    betas: Sequence[float],
    epsilon: float,
    whole: bool = False,
    optima: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Rows of `emp` for the weights of a trained classifier, under the criteria `names`; the output layer's if `whole`.

    `optima` are measured optima by criterion, where they are known.
    """
    weights = every_weight(subject.model) if whole else subject.weights
    scores = weight_scores(names, subject.model, weights, lambda: batches(subject), subject.seed)
    return compared(classifier(subject, weights), scores, granularity, betas, epsilon, optima)


def of_language(
    subject: language.LanguageModel, names: Sequence[str], betas: Sequence[float], epsilon: float
) -> pd.DataFrame:
    """Rows of `emp` for a language model: the weights of each output row under the criteria `names`, and the heads."""
    model, blocks = subject.model, subject.blocks[:BLOCKS]
    weights = language.prunable(model)
    calibration = [{"input_ids": part, "labels": part} for part in subject.calibration.to(model.device).split(8)]
    scores = weight_scores(names, model, weights, lambda: calibration, subject.seed)
    by_output = {name: {layer: score.T.contiguous() for layer, score in of.items()} for name, of in scores.items()}
    heads = {
        "magnitude": gates.head_scores(subject, "weight_norm"),
        "taylor": gates.head_scores(subject, "taylor"),
    }

    def measure() -> tuple[float, float]:
        found = language.perplexity(model, blocks)
        return found, log(found)

    def target(under: Any) -> Case:
        fingerprint = file_hash(subject.folder / "model.safetensors")
        return Case(
            subject.name, subject.spec.corpus, "perplexity", under, measure, subject.folder, fingerprint, subject.seed
        )

    rows = target(lambda kept: only(weights, {layer: mask.T for layer, mask in kept.items()}))
    off = target(partial(gates.heads_off, model))
    return pd.concat(
        [compared(rows, by_output, "row", betas, epsilon), compared(off, heads, "head", betas, epsilon)],
        ignore_index=True,
    )


def of_kan(subject: TrainedModel, betas: Sequence[float], epsilon: float) -> pd.DataFrame:
    """Rows of `emp` for the hidden nodes of a Kolmogorov-Arnold network, layer by layer.

    attribution: `kan.node_scores`; magnitude: the norm of all coefficients on the edges into a node.
    """
    network: Any = subject.model.network
    images = torch.cat([batch["pixel_values"] for batch in batches(subject)])
    attribution = gates.node_scores(network, images)
    norms = {
        name: (layer.base_weight.detach() ** 2 + (layer.spline_weight.detach() ** 2).sum(-1)).sum(1).sqrt()
        for name, layer in zip(attribution, network.layers, strict=False)
    }
    target = classifier(subject, {}, partial(gates.nodes_off, network))
    return compared(target, {"attribution": attribution, "magnitude": norms}, "node", betas, epsilon)


def of_photograph(betas: Sequence[float], seed: int) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Rows of `emp` for a photograph by its pixels, in decibels, and the pruned images at the first beta, by name."""
    image = image_pruning.photograph()
    rows, images = [], {"photograph": image}
    for granularity, prune in (("channel", image_pruning.by_channel), ("patch", image_pruning.by_patch)):
        for beta in betas:
            found, chance = prune(image, beta, seed=seed), prune(image, beta, order="random", seed=seed)
            images.setdefault(granularity, found.image)
            images.setdefault(f"{granularity}, at random", chance.image)
            rows.append(
                {"model": "photograph", "dataset": "china.jpg", "criterion": "intensity", "granularity": granularity}
                | {"beta": beta, "entries": found.entries, "n_eff": found.n_eff, "kept": found.kept}
                | {"sparsity": 1 - found.kept / found.entries, "metric": "psnr", "pruned": found.psnr}
                | {"preserved": float(found.image.sum() / image.sum())}
                | {"random_at_same_sparsity": chance.psnr, "magnitude_at_same_sparsity": found.psnr, "seed": seed}
                | dict.fromkeys(("dense", "dense_loss", "pruned_loss", "epsilon", "optimum"), float("nan"))
            )
    return pd.DataFrame(rows), images


def classifier(subject: TrainedModel, weights: Mapping[str, Tensor], under: Any = None) -> Case:
    """A trained classifier as a target: pruned in these of its weights, or by `under`, a context given masks."""

    def measure() -> tuple[float, float]:
        outcome = evaluate(subject.model, subject.examples)
        return outcome.accuracy, outcome.mean_loss

    fingerprint = file_hash(subject.folder / "model.safetensors") + subject.task.fingerprint
    under = under or partial(only, weights)
    return Case(subject.name, subject.task.name, "accuracy", under, measure, subject.folder, fingerprint, subject.seed)


def every_weight(model: nn.Module) -> dict[str, Tensor]:
    """The weights of every linear and convolution layer, the output layer included, as Wang et al. prune them."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return {f"{name}.weight": module.weight for name, module in model.named_modules() if isinstance(module, kinds)}


@contextmanager
def only(weights: Mapping[str, Tensor], kept: Masks) -> Iterator[None]:
    """Inside the context all weights but the kept ones are zero."""
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    with torch.no_grad():
        try:
            for name, mask in kept.items():
                weights[name].mul_(mask.to(weights[name].device))
            yield
        finally:
            for name, weight in weights.items():
                weight.copy_(before[name])


def batches(subject: TrainedModel) -> list[dict[str, Tensor]]:
    """Calibration batches of a classifier: its first training examples, with labels."""
    tokenizer = zoo.load(subject.folder)[1]
    examples = prepare(subject.task.train.first(CALIBRATION_EXAMPLES), tokenizer, subject.spec.max_length)
    device = next(subject.model.parameters()).device
    found = [
        batch_of(examples, part) | {"labels": examples.labels[part]}
        for part in torch.arange(len(examples)).split(BATCH)
    ]
    return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in found]


def weight_scores(
    names: Sequence[str],
    model: nn.Module,
    weights: Mapping[str, Tensor],
    batches: Callable[[], criteria.Batches],
    seed: int,
) -> dict[str, dict[str, Tensor]]:
    """Scores of the weights by criterion and layer; raises UserError for a criterion there is not."""
    found: dict[str, dict[str, Tensor]] = {}
    for name in names:
        if name in criteria.DATA_DEPENDENT:
            found[name] = criteria.data_dependent_scores(name, model, weights, batches())
        elif name in criteria.CRITERIA:
            score = criteria.criterion_called(name, seed)
            found[name] = {layer: score(layer, weight) for layer, weight in weights.items()}
        else:
            there = ", ".join((*criteria.CRITERIA, *criteria.DATA_DEPENDENT))
            raise UserError(f"there is no criterion {name!r}; there are {there}")
    return found
