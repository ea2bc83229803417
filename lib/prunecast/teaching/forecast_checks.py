"""Checks of the exercises on forecasts, from the page protocols to the pages your_model and layer_sensitivity."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from prunecast.errors import UserError
from prunecast.teaching.answers import Check, check_number, errors_by_curve, function, number, rows_of, safe_by_hand

HARD = "leave_one_architecture_out"


def _ratio_of_protocols(answer: Any) -> str:
    hard, points = errors_by_curve(HARD, "lstm"), errors_by_curve("points", "lstm")
    mistakes = {"that is one error, not a ratio of two": hard, "the ratio is upside down": points / hard}
    check_number(answer, "the ratio of the two errors", hard / points, mistakes)
    return "the same surrogate looks several times better where the neighbours of a point are known."


def _folds(answer: Any) -> str:
    folds = function(answer, "folds(families)")
    for families in (["bert", "vgg", "bert", "gpt2"], list("abcabcaab"), ["one", "two"]):
        try:
            found = [(list(training), list(test)) for training, test in folds(list(families))]
        except (TypeError, ValueError):
            raise UserError("folds is to return a list of pairs (training, test) of lists of indices") from None
        if sorted(place for _, test in found for place in test) != list(range(len(families))):
            raise UserError("not every model is tested exactly once")
        for training, test in found:
            if {families[place] for place in training} & {families[place] for place in test}:
                raise UserError("a fold tests a model whose relative is in the training set")
            tested = {families[place] for place in test}
            rest = [place for place, family in enumerate(families) if family not in tested]
            if sorted(training) != rest:
                raise UserError("a fold leaves models out of training that are no relatives of the tested ones")
    return "no relative of a tested model is trained on, and nothing else is withheld."


def _mean_curve(answer: Any) -> str:
    mean, lstm = errors_by_curve(HARD, "mean_curve"), errors_by_curve(HARD, "lstm")
    check_number(answer, "the difference of the two errors", mean - lstm, {"that is one of the errors": mean})
    return "see the interval of this difference on the page before you call one of them better."


def _own_surrogate(answer: Any) -> str:
    forecast = function(answer, "forecast(others, dense, majority)")
    models = rows_of("measured/campaign/models.csv").set_index("model")
    sweeps = rows_of("measured/campaign/sweeps.csv")
    wanted = (sweeps["criterion"] == "magnitude") & (sweeps["axis"] == "percentile") & (sweeps["scope"] == "layer")
    curves = sweeps[wanted].pivot(index="model", columns="threshold", values="accuracy").loc[models.index]
    accuracy = curves.to_numpy()
    dense, majority = (models[f"{name}_accuracy"].to_numpy()[:, None] for name in ("dense", "majority"))
    shares = (accuracy - majority) / (dense - majority)
    straight = dense + (majority - dense) * np.linspace(0, 1, accuracy.shape[1])
    own, line = [], []
    for place, family in enumerate(models["family"]):
        others = shares[(models["family"] != family).to_numpy()].copy()
        found = np.asarray(forecast(others, float(dense[place, 0]), float(majority[place, 0])), dtype=float)
        if found.shape != (accuracy.shape[1],) or not np.isfinite(found).all():
            raise UserError(f"forecast returned an array of shape {found.shape}; 101 finite accuracies are needed")
        own.append(np.abs(found - accuracy[place]).mean())
        line.append(np.abs(straight[place] - accuracy[place]).mean())
    if np.mean(own) >= np.mean(line):
        raise UserError(
            f"your mean error is {np.mean(own):.3f}, the straight line's {np.mean(line):.3f}; "
            "do you turn shares into accuracies?"
        )
    return f"your mean error is {np.mean(own):.3f} on families left out, the straight line's {np.mean(line):.3f}."


def _whole_curves(answer: Any) -> str:
    rows = rows_of("measured/campaign/predictions.csv.gz")
    rows = rows[(rows["protocol"] == HARD) & (rows["surrogate"] == "lstm")]
    inside, everything = (_inside_by_curve(part) for part in (rows[rows["measured"]], rows))
    points = float(np.mean(np.concatenate([np.array(each) for each in inside.values()])))
    truth = float(np.mean([all(each) for each in inside.values()]))
    mistakes = {
        "that counts points": points,
        "that counts interpolated points, too": float(np.mean([all(each) for each in everything.values()])),
    }
    check_number(answer, "the share of whole curves", truth, mistakes)
    return "an interval for points does not hold for whole curves."


def _inside_by_curve(rows: Any) -> dict[tuple[str, str], list[bool]]:
    inside: dict[tuple[str, str], list[bool]] = {}
    for row in rows.to_dict("records"):
        held = row["lower"] <= row["accuracy"] <= row["upper"]
        inside.setdefault((row["model"], row["scope"]), []).append(held)
    return inside


def _conformal_quantile(answer: Any) -> str:
    quantile = function(answer, "quantile(scores, level)")
    draws = np.random.default_rng(4)
    for size, level in ((9, 0.9), (19, 0.9), (30, 0.8), (99, 0.95)):
        scores = draws.exponential(size=size)
        found = number(quantile(list(scores), level), "a score")
        if found not in scores:
            raise UserError("quantile returned a number that is none of the scores; it is to be one of them")
        places = (scores <= found).sum()  # a new score is at most this with a probability of places / (size + 1)
        if places / (size + 1) < level - 1e-9:
            raise UserError("the quantile is too small: the new score takes one of n + 1 places, not of n")
        if (places - 1) / (size + 1) >= level - 1e-9:
            raise UserError("the quantile is too large: a smaller score reaches the level as well")
    if quantile([1.0] * 8, 0.9) != np.inf:
        raise UserError("eight scores cannot hold nine tenths; what is to be returned then?")
    return "a new score exceeds it with a probability of at most one minus the level."


def _largest_gain(answer: Any) -> str:
    rows = rows_of("measured/campaign/recalibration.csv")
    best = {}
    for scope in ("global", "layer"):
        curve = rows[(rows["model"] == "cifar10_vgg16") & (rows["scope"] == scope)].to_dict("records")
        best[scope] = max((row["recalibrated"] - row["accuracy"], row["sparsity"]) for row in curve)
    mistakes = {"that is global scope": best["global"][1], "that is the gain itself": best["layer"][0]}
    check_number(answer, "the sparsity of the largest gain", best["layer"][1], mistakes)
    return "there the statistics are wrong, but the weights that are left still suffice."


def _recalibrate(answer: Any) -> str:
    recalibrate = function(answer, "recalibrate(network, images)")
    draws = torch.Generator().manual_seed(5)
    network = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws))
        network(3 * torch.randn(64, 6, generator=draws) + 2)  # statistics of other images than those below
    before = [parameter.clone() for parameter in network.parameters()]
    images = torch.randn(500, 6, generator=draws)
    recalibrate(network, images)
    if any((old != new).any() for old, new in zip(before, network.parameters(), strict=True)):
        raise UserError("recalibrate has changed a weight; only statistics may change")
    if network.training:
        raise UserError("the network is left in training mode, where a batch norm uses the statistics of the batch")
    hidden = images
    for layer in network:  # each layer on all images, its batch norms by their own mean and variance
        if isinstance(layer, nn.BatchNorm1d):
            mean, variance = hidden.mean(0), hidden.var(0, correction=0)
            right = torch.allclose(_state(layer, "mean"), mean, atol=1e-3)
            if not right or not torch.allclose(_state(layer, "var"), variance, rtol=0.01):
                raise UserError("the running statistics are not those of the images; do old ones still count?")
            scaled = (hidden - mean) / torch.sqrt(variance + layer.eps)
            hidden = scaled * layer.weight.detach() + layer.bias.detach()
        else:
            hidden = layer(hidden).detach()
    return "the statistics are those of the images, and no weight has changed."


def _state(norm: nn.BatchNorm1d, name: str) -> torch.Tensor:
    state: dict[str, torch.Tensor] = norm.state_dict()
    return state[f"running_{name}"]


def _rise_by_a_tenth(answer: Any) -> str:
    rises = {}
    for scope in ("layer", "global"):
        strict, mild = (safe_by_hand("after_freeze", scope, epsilon) for epsilon in (0.01, 0.1))
        rises[scope] = float(np.mean([mild[model] - strict[model] for model in strict]))
    check_number(answer, "the mean rise", rises["layer"], {"that is global scope": rises["global"]})
    return "ten times the loss does not buy ten times the sparsity."


def _recommend(answer: Any) -> str:
    recommend = function(answer, "recommend(sparsity, accuracy, epsilon, margin)")
    sparsity = np.linspace(0, 1, 11)
    curves = {
        "a curve that falls once": ([0.9] * 6 + [0.8, 0.5, 0.2, 0.1, 0.1], 0.5),
        "a curve that dips and recovers": ([0.9] * 3 + [0.7] + [0.9] * 4 + [0.1] * 3, 0.2),
        "a curve that never falls": ([0.9] * 11, 1.0),
        "a curve that falls at once": ([0.9] + [0.1] * 10, 0.0),
    }
    for name, (accuracy, safe) in curves.items():
        for margin in (0.0, 0.15):
            found = number(recommend(sparsity.copy(), np.array(accuracy), 0.02, margin), "a ratio")
            if abs(found - max(0.0, safe - margin)) > 1e-6:
                raise UserError(f"recommend is wrong for {name}, with {'a' if margin else 'no'} margin")
    return "it stops at the first unsafe point, subtracts the margin, and never recommends less than zero."


def _smaller_budget(answer: Any) -> str:
    unused: dict[float, list[float]] = {0.25: [], 1.0: []}
    for row in rows_of("measured/campaign_seed_1/safe_searches.csv").to_dict("records"):
        if row["method"] == "search" and np.isnan(row["confidence"]) and row["budget"] in unused:
            unused[row["budget"]].append(row["optimum"] - row["recommended"])
    quarter, one = (float(np.mean(each)) for each in unused.values())
    mistakes = {"that is what a quarter leaves unused": quarter, "that is what one leaves unused": one}
    check_number(answer, "the difference of the two means", quarter - one, mistakes)
    return "with less to spend the search has to keep a larger margin."


def _margin(answer: Any) -> str:
    margin = function(answer, "margin(forecast, measured, share)")
    draws = np.random.default_rng(6)
    measured = draws.uniform(0.3, 0.9, 20)
    for shift in (-0.5, 0.0, 0.1):
        forecast = measured + shift + draws.normal(0, 0.05, 20)
        for share in (0.5, 0.9, 1.0):
            found = number(margin(forecast.copy(), measured.copy(), share), "a margin")
            if found < 0:
                raise UserError("the margin is negative: that would prune more than was forecast")
            if (forecast - found <= measured + 1e-12).mean() < share - 1e-9:
                raise UserError("with this margin fewer models are safe than was asked for")
            if found > 0 and (forecast - (found - 1e-6) <= measured).mean() >= share:
                raise UserError("a smaller margin would do as well")
    return "it is the smallest margin that keeps the promise."


def _channel_ratio(answer: Any) -> str:
    mistakes = {
        "the layer after it loses weights too": 0.5,
        "what a channel takes away includes weights of the first layer": 0.125,
    }
    check_number(answer, "the share of the channels", 0.1, mistakes)
    return "a channel takes weights of two layers away, so far fewer than half of them are as many weights."


def _expected_loss(answer: Any) -> str:
    forecast = function(answer, "forecast(dense, pruned)")
    draws = np.random.default_rng(7)
    for change in (0.0, 0.5, 3.0):
        dense = draws.normal(0, 2, (40, 4))
        pruned = dense + change * draws.normal(0, 1, (40, 4))
        found = number(forecast(dense.copy(), pruned.copy()), "a loss of accuracy")
        weights = [[math.exp(logit) for logit in row] for row in dense]
        lost = [(max(row) - row[there]) / sum(row) for row, there in zip(weights, pruned.argmax(1), strict=True)]
        if abs(found - (dense.argmax(1) != pruned.argmax(1)).mean()) < 1e-9 and change:
            raise UserError("that counts each changed example as lost; the dense model was not sure of its class")
        if abs(found - sum(lost) / len(lost)) > 1e-6:
            raise UserError("forecast is not the mean difference of the two probabilities of the dense model")
    return "it reads no label, and is 0 where both models agree on every example."


CHECKS: dict[tuple[str, int], Check] = {
    ("protocols", 2): _ratio_of_protocols,
    ("protocols", 3): _folds,
    ("surrogate", 2): _mean_curve,
    ("surrogate", 3): _own_surrogate,
    ("coverage", 2): _whole_curves,
    ("coverage", 3): _conformal_quantile,
    ("vgg16_transfer", 2): _largest_gain,
    ("vgg16_transfer", 3): _recalibrate,
    ("explorer", 2): _rise_by_a_tenth,
    ("explorer", 3): _recommend,
    ("your_model", 2): _smaller_budget,
    ("your_model", 3): _margin,
    ("layer_sensitivity", 2): _channel_ratio,
    ("layer_sensitivity", 3): _expected_loss,
}
