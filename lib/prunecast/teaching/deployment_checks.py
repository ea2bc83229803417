"""Checks of the exercises on deployment: schedules, energy, pareto, reproductions, architectures."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from prunecast.cost import flops
from prunecast.errors import UserError
from prunecast.teaching.answers import TOLERANCE, Check, booleans, check_number, function, number, rows_of

SCHEDULES = ("one_shot", "iterative", "gradual", "regrow")


def _best_schedule(answer: Any) -> str:
    accuracies: dict[str, list[float]] = {name: [] for name in SCHEDULES}
    for row in rows_of("measured/selection/schedules.csv").to_dict("records"):
        if row["task"] == "sst2" and row["schedule"] in accuracies:
            accuracies[row["schedule"]].append(row["accuracy"])
    best, second = sorted(accuracies.values(), key=np.mean, reverse=True)[:2]
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise UserError("the answer is to be a pair: the lead of the best schedule, and its spread over seeds")
    check_number(answer[0], "the lead of the best schedule", float(np.mean(best) - np.mean(second)))
    check_number(answer[1], "the spread of the best schedule", max(best) - min(best))
    return "the lead is smaller than the spread over seeds, so three seeds do not rank the two."


def _cubic(answer: Any) -> str:
    sparsity = function(answer, "sparsity(progress, last)")
    for last in (0.5, 0.9):
        values = [number(sparsity(place / 10, last), "a sparsity") for place in range(11)]
        if abs(values[0]) > 1e-9 or abs(values[-1] - last) > 1e-9:
            raise UserError("sparsity is to be 0 at the beginning and `last` at the end")
        if abs(number(sparsity(1.5, last), "a sparsity") - last) > 1e-9:
            raise UserError("after the end of pruning the sparsity is to stay at `last`")
        rates = np.diff(values, n=3) * 1000  # a cubic has a constant third difference, 6 times its first coefficient
        if (np.diff(values) <= 0).any() or not np.allclose(rates, 6 * last, atol=1e-6):
            raise UserError("the law is not the cubic one of the exercise")
    return "it prunes fast where there is much to spare, and leaves the end to training."


def _kernel_by_batch(answer: Any) -> str:
    latency: dict[tuple[str, int], float] = {}
    for row in rows_of("measured/selection/costs.csv").to_dict("records"):
        middle = row["form"] == "sparse_kernel" and abs(row["sparsity"] - 0.82) < 0.01
        if row["model"] == "sst2_minilm" and (middle or row["form"] == "dense"):
            latency[row["form"], row["batch"]] = row["latency_ms_median"]
    one, many = (latency["sparse_kernel", batch] / latency["dense", batch] for batch in (1, 32))
    mistakes = {"that is a ratio, not a difference of two": many, "that is the ratio at batch 1": one}
    check_number(answer, "the difference of the two ratios", many - one, mistakes)
    return "a sparse kernel pays most where one example comes at a time."


def _operations(answer: Any) -> str:
    operations = function(answer, "operations(widths, batch, share)")
    for widths, batch, share in (([8, 20, 5], 3, 0.0), ([8, 20, 40, 5], 1, 0.5), ([16, 40, 20, 60, 2], 4, 0.25)):
        hidden = [int(width * (1 - share)) for width in widths[1:-1]]
        kept = [widths[0], *hidden, widths[-1]]
        network = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(kept)))
        truth, _ = flops.flops(network, {"input": torch.ones(batch, widths[0])})
        found = number(operations(list(widths), batch, share), "a number of operations")
        if found != truth:
            hint = (
                "count two for a multiply-add" if 2 * found == truth else "which of its two sides does a matrix lose?"
            )
            raise UserError(
                f"for widths {widths}, batch {batch} and share {share:g} the number is not {found:g}: {hint}"
            )
    return "the counter of the package finds the same; between hidden layers both sides of a matrix shrink."


def _fastest_within(answer: Any) -> str:
    candidates = rows_of("measured/selection/candidates.csv")
    rows = candidates[candidates["model"] == "sst2_minilm"].to_dict("records")
    dense = next(row["accuracy"] for row in rows if row["form"] == "dense")
    by_name = {row["configuration"]: row for row in rows}
    if not isinstance(answer, str) or answer not in by_name:
        raise UserError("the answer is to be the name of a configuration of sst2_minilm, as in the table")
    if by_name[answer]["accuracy"] < dense - 0.05 - 1e-9:
        raise UserError("this configuration loses more than five hundredths of accuracy")
    best = min(row["latency_ratio_1"] for row in rows if row["accuracy"] >= dense - 0.05 - 1e-9)
    if by_name[answer]["latency_ratio_1"] > best:
        raise UserError("this configuration is within the loss, but another one within it is faster")
    return "no configuration within the loss is faster, and the form is not a masked one."


def _front(answer: Any) -> str:
    front = function(answer, "front(costs)")
    draws = np.random.default_rng(10)
    cases = [draws.uniform(size=(60, 3)), draws.integers(0, 4, (50, 2)).astype(float), np.ones((4, 2))]
    for costs in cases:
        on_front = booleans(front(costs.copy()), len(costs), "front(costs)")
        for place, cost in enumerate(costs):
            dominated = any((other <= cost).all() and (other < cost).any() for other in costs)
            if on_front[place] and dominated:
                raise UserError("the front holds a configuration that another one dominates")
            if not on_front[place] and not dominated:
                raise UserError("a configuration that nothing dominates is missing; how do you treat equal rows?")
    return "nothing on the front is dominated, and nothing off it is not."


def _compressions(answer: Any) -> str:
    sizes: dict[str, list[float]] = {}
    for row in rows_of("published/smarts.csv").to_dict("records"):
        if row["quantity"] == "parameters_millions" and row["row"].removesuffix(" reference") == "BERT-base":
            sizes.setdefault(row["table"], []).insert(0, row["value"])
        if row["quantity"] == "parameters_millions" and row["row"] in ("Pruned", "BERT-base pruned"):
            sizes.setdefault(row["table"], []).append(row["value"])
    if not isinstance(answer, dict) or set(answer) != set(sizes):
        raise UserError(f"the answer is to be a dictionary with the keys {', '.join(sizes)}")
    for table, (whole, pruned) in sizes.items():
        if abs(number(answer[table], f"the compression of {table}") - whole / pruned) > 10 * TOLERANCE:
            raise UserError(
                f"the compression of {table} is not {answer[table]:.4g}; divide the whole by the pruned size"
            )
    return "one method, three sizes: the figures of the tables do not agree."


def _constant_per_beta(answer: Any) -> str:
    kept: dict[str, list[float]] = {}
    for row in rows_of("published/emp.csv").to_dict("records"):
        if row["table"] == "beta sweep" and row["quantity"] == "sparsity_pct" and row["value"] > 0:
            network, beta = row["row"].split(", beta ")
            kept.setdefault(network, []).append((100 - row["value"]) / float(beta))
    truth = max(max(each) / min(each) for each in kept.values())
    spread = max(max(each) for each in kept.values()) / min(min(each) for each in kept.values())
    check_number(answer, "the largest ratio", truth, {"compare within each network, not over all": spread})
    return "the printed sparsities follow from the definition to the digits that are printed."


def _image_outcomes(answer: Any) -> str:
    rows = rows_of("measured/architectures/architectures.csv").to_dict("records")
    image, text = (Counter(row["outcome"] for row in rows if row["kind"] == kind) for kind in ("image", "text"))
    try:
        given = {str(outcome): int(count) for outcome, count in dict(answer).items()}
    except (TypeError, ValueError):
        raise UserError("the answer is to be a dictionary from outcome to number") from None
    if given == dict(text):
        raise UserError("these are the text classifiers")
    if given != dict(image):
        raise UserError("the numbers are not those of the image classifiers; does every outcome appear once?")
    return "what would give a wrong number is refused."


def _prunable(answer: Any) -> str:
    prunable = function(answer, "prunable(network, output)")
    inner = [nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6)]
    network = nn.Sequential()
    network.add_module("stem", nn.Conv2d(3, 4, 3))
    network.add_module("norm", nn.BatchNorm2d(4))
    network.add_module("inner", nn.Sequential(*inner))
    network.add_module("head", nn.Linear(6, 10))
    separate = number(prunable(network, "head"), "a number of weights")
    if separate != 3 * 4 * 9 + 4 * 6 + 2 * 36:
        wrong = "biases, norms and the output layer do not count, convolutions and nested layers do"
        raise UserError(f"a network without shared weights has another number than {separate:g}: {wrong}")
    inner[2].weight = inner[1].weight
    if prunable(network, "head") != separate - 36:
        raise UserError("a weight that two layers share is counted twice")
    return "each weight that can be pruned counts once."


CHECKS: dict[tuple[str, int], Check] = {
    ("schedules", 2): _best_schedule,
    ("schedules", 3): _cubic,
    ("energy", 2): _kernel_by_batch,
    ("energy", 3): _operations,
    ("pareto", 2): _fastest_within,
    ("pareto", 3): _front,
    ("reproductions", 2): _compressions,
    ("reproductions", 3): _constant_per_beta,
    ("architectures", 2): _image_outcomes,
    ("architectures", 3): _prunable,
}
