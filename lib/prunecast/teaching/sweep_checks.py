"""Checks of the exercises on measured curves: collect_sweeps, magnitude_pruning, campaign, zero_cost_proxies."""

from typing import Any

import numpy as np

from prunecast.errors import UserError
from prunecast.teaching.answers import Check, check_number, function, number, rows_of, safe_by_hand

CALLS = 8  # of `loss` at most, in a search among 101 points
PAIRS = {(axis, scope) for axis in ("sigma", "absolute", "percentile") for scope in ("global", "layer")}


def _rise_of_safe_sparsity(answer: Any) -> str:
    strict, mild = (safe_by_hand("campaign_seed_1", "layer", epsilon)["trec6_bert"] for epsilon in (0.01, 0.05))
    other = [safe_by_hand("campaign_seed_1", "global", epsilon)["trec6_bert"] for epsilon in (0.01, 0.05)]
    mistakes = {
        "it is a safe sparsity, not a difference of two": mild,
        "that is global scope": other[1] - other[0],
    }
    check_number(answer, "the rise of the safe sparsity", mild - strict, mistakes)
    return "five times the loss buys only a little more sparsity, since the curve is steep where it falls."


def _search(answer: Any) -> str:
    search = function(answer, "search(loss, points)")
    for last in [*range(0, 101, 7), 99, 100]:
        calls: list[int] = []

        def loss(point: int, last: int = last, calls: list[int] = calls) -> float:
            calls.append(point)
            if not 0 <= point <= 100:
                raise UserError(f"search measured point {point}; there are points 0 to 100")
            return 0.0 if point <= last else 0.02 + 0.001 * (point - last)

        found = number(search(loss, 101), "a point")
        if found != last:
            side = "an unsafe point" if found > last else "a point with a safe one above it"
            raise UserError(f"search returned {side} on a curve that falls once; test both ends of the bracket")
        if len(calls) > CALLS:
            raise UserError(f"search measured {len(calls)} points on one curve; at most {CALLS} are allowed")
    return "the bracket is halved with every measurement, so eight suffice for 101 points."


def _scaled_layer(answer: Any) -> str:
    if not isinstance(answer, set | frozenset | list | tuple) or not {tuple(pair) for pair in answer} <= PAIRS:
        raise UserError('the answer is to be a set of pairs of an axis and a scope, such as {("sigma", "layer")}')
    draws = np.random.default_rng(1)
    before = draws.normal(size=(2, 5000))
    after = before * [[10.0], [1.0]]
    truth = {pair for pair in PAIRS if (_kept(before, *pair) != _kept(after, *pair)).any()}
    given = {tuple(pair) for pair in answer}
    if given - truth:
        raise UserError("one of your pairs prunes the same weights as before: what scales together with the weights?")
    if truth - given:
        raise UserError("a pair is missing: with what is each weight compared there, and does that scale with it?")
    return "only what is computed within the scaled layer alone scales with it."


def _kept(weights: Any, axis: str, scope: str) -> Any:
    """Which of the weights (layers, n) stay at a threshold of 1, by the definitions of the axes."""
    within: Any = 1 if scope == "layer" else None
    sizes = np.abs(weights)
    if axis == "absolute":
        return sizes >= 0.01
    if axis == "sigma":
        return sizes >= weights.std(axis=within, keepdims=True)
    return sizes >= np.quantile(sizes, 0.1, axis=within, keepdims=True)


def _global_mask(answer: Any) -> str:
    keep = function(answer, "keep(layers, sparsity)")
    draws = np.random.default_rng(2)
    cases = [{"a": draws.normal(size=(10, 20)), "b": 3 * draws.normal(size=(30, 10))}]
    cases.append({name: np.round(layer) for name, layer in cases[0].items()})  # many equal magnitudes
    for layers in cases:
        for sparsity in (0.0, 0.1, 0.5, 0.9, 1.0):
            found = keep(dict(layers), sparsity)
            if not isinstance(found, dict) or set(found) != set(layers):
                raise UserError("keep is to return a dictionary with the names of the layers")
            masks = {name: np.asarray(found[name]) for name in layers}
            if any(mask.shape != layers[name].shape or mask.dtype != bool for name, mask in masks.items()):
                raise UserError("keep is to return for each layer an array of booleans in its shape")
            stays = np.concatenate([masks[name].ravel() for name in layers])
            sizes = np.concatenate([np.abs(layers[name]).ravel() for name in layers])
            if (~stays).sum() != round(sparsity * stays.size):
                raise UserError(
                    "keep prunes another number of weights than it is asked to; what if magnitudes are equal?"
                )
            if stays.any() and not stays.all() and sizes[~stays].max() > sizes[stays].min():
                raise UserError("keep prunes a weight that is larger than one it keeps; compare over the whole model")
    return "exactly as many weights go as were asked for, and none that is larger than one that stays."


def _layer_at_least(answer: Any) -> str:
    shares = {}
    for epsilon in (0.01, 0.05):
        layer, overall = (safe_by_hand("campaign", scope, epsilon) for scope in ("layer", "global"))
        shares[epsilon] = float(np.mean([layer[model] >= overall[model] for model in layer]))
        strict = float(np.mean([layer[model] > overall[model] for model in layer]))
    mistakes = {"that is for an epsilon of one hundredth": shares[0.01], "*at least* counts equal ones": strict}
    check_number(answer, "the share of models", shares[0.05], mistakes)
    return "neither scope is the better one for all models."


def _seed_noise(answer: Any) -> str:
    first, second = (safe_by_hand(study, "layer", 0.01) for study in ("campaign", "campaign_seed_1"))
    differences = [first[model] - second[model] for model in second]
    mistakes = {"take the absolute value before the mean": float(np.mean(differences))}
    check_number(answer, "the mean absolute difference", float(np.mean(np.abs(differences))), mistakes)
    return "a difference between two models that is smaller than this may be due to the seed."


def _depleted_last(answer: Any) -> str:
    models = rows_of("measured/campaign/models.csv").set_index("model")
    signals = rows_of("measured/campaign/signals.csv.gz")
    shares = {}
    for initialisation in ("scratch", "pretrained"):
        later = []
        for row in signals[(signals["scope"] == "global") & (signals["threshold"] == 5.0)].to_dict("records"):
            model = models.loc[row["model"]]
            if model["kind"] == "text" and model["initialisation"] == initialisation:
                later.append(row["lost_last"] > row["lost_first"])
        shares[initialisation] = float(np.mean(later))
    mistakes = {"these are the pretrained models": shares["pretrained"]}
    check_number(answer, "the share of text models from scratch", shares["scratch"], mistakes)
    return "which layer is emptied first depends on how the layers were initialised beside each other."


def _lost_squares(answer: Any) -> str:
    lost = function(answer, "lost(layers, sparsity)")
    draws = np.random.default_rng(3)
    layers = {"small": draws.normal(size=(20, 10)) / 10, "large": draws.normal(size=(10, 30))}
    entries = sorted((abs(value), name) for name, layer in layers.items() for value in layer.ravel())
    for sparsity in (0.0, 0.2, 0.5, 1.0):
        found = lost({name: layer.copy() for name, layer in layers.items()}, sparsity)
        if not isinstance(found, dict) or set(found) != set(layers):
            raise UserError("lost is to return a dictionary with the names of the layers")
        pruned = entries[: round(sparsity * len(entries))]
        for name, layer in layers.items():
            truth = sum(size**2 for size, owner in pruned if owner == name) / (layer**2).sum()
            if abs(number(found[name], "a share") - truth) > 1e-6:
                raise UserError(
                    f"lost is wrong at sparsity {sparsity:g}: prune over the whole model, then sum squares by layer"
                )
    return "the layer of small weights is emptied first, whatever it does in the network."


CHECKS: dict[tuple[str, int], Check] = {
    ("collect_sweeps", 2): _rise_of_safe_sparsity,
    ("collect_sweeps", 3): _search,
    ("magnitude_pruning", 2): _scaled_layer,
    ("magnitude_pruning", 3): _global_mask,
    ("campaign", 2): _layer_at_least,
    ("campaign", 3): _seed_noise,
    ("zero_cost_proxies", 2): _depleted_last,
    ("zero_cost_proxies", 3): _lost_squares,
}
