"""Checks of the exercises on what can go and why: effective_number, regimes, structure."""

from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import rankdata

from prunecast.errors import UserError
from prunecast.teaching.answers import Check, booleans, check_number, function, number, rows_of

SHARES = {"normal": 2 / np.pi, "uniform": 3 / 4, "laplace": 1 / 2}  # E|w|² / E w² of each, by integration
SAMPLING = 0.01  # by which shares of a hundred thousand draws may differ from these


def _shares_of_distributions(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(SHARES):
        raise UserError(f"the answer is to be a dictionary with the keys {', '.join(SHARES)}")
    found = {name: number(answer[name], f"the share of {name}") for name in SHARES}
    for name, truth in SHARES.items():
        if abs(found[name] - truth) > SAMPLING:
            pruned = abs(found[name] - (1 - truth)) <= SAMPLING
            hint = "that is the share that is pruned" if pruned else "do you take magnitudes, and divide by N?"
            raise UserError(f"the share of {name} is not {found[name]:.3g}: {hint}")
    return "the share depends on the shape of the distribution alone; integration gives 2/π, 3/4 and 1/2."


def _keep_effective(answer: Any) -> str:
    keep = function(answer, "keep(scores, beta)")
    draws = np.random.default_rng(7)
    one = np.zeros(50)
    one[17] = 3.0
    for scores in (draws.exponential(size=200), np.ones(40), one, draws.uniform(size=7) * 1e-4):
        for beta in (0.01, 0.5, 1.0, 1.7, 9.0):
            stays = booleans(keep(scores.copy(), beta), len(scores), "keep(scores, beta)")
            shares = scores / scores.sum()
            count = min(max(int(beta / np.dot(shares, shares) + 1e-9), 1), len(scores))
            if stays.sum() != count:
                raise UserError("keep keeps another number of scores; mind rounding, at least one and at most all")
            if not stays.all() and scores[stays].min() < scores[~stays].max():
                raise UserError("keep drops a score that is higher than one it keeps")
    return "the number does not depend on the unit of the scores."


def _best_epochs(answer: Any) -> str:
    best: dict[float, tuple[float, int]] = {}
    for row in rows_of("published/three_regimes.csv").to_dict("records"):
        density, found = row["density"], (row["test_error"], row["epochs"])
        best[density] = min(found, best.get(density, found))
    if not isinstance(answer, dict):
        raise UserError("the answer is to be a dictionary from density to epochs")
    try:
        given = {float(density): int(epochs) for density, epochs in answer.items()}
    except (TypeError, ValueError):
        raise UserError("the answer is to be a dictionary from density to epochs, all of them numbers") from None
    if set(given) != set(best):
        raise UserError(f"the answer has {len(given)} densities; the table has {len(best)}")
    wrong = [density for density in best if given[density] != best[density][1]]
    if wrong:
        raise UserError(f"at a density of {wrong[0]:g} another number of epochs has a lower error, or as low and fewer")
    return "no single length of training is the best for every density."


def _cka(answer: Any) -> str:
    cka = function(answer, "cka(first, second)")
    draws = np.random.default_rng(8)
    first = draws.normal(size=(40, 6)) + 5
    second = first[:, :4] + draws.normal(size=(40, 4))
    rotation = np.linalg.qr(draws.normal(size=(6, 6)))[0]
    if abs(number(cka(first, first @ rotation), "a similarity") - 1) > 1e-6:
        raise UserError("cka of an array and its rotated copy is not 1")
    if abs(number(cka(first, second), "a similarity") - number(cka(first, 3 * second - 7), "a similarity")) > 1e-6:
        raise UserError("cka changes when all features are shifted or multiplied; are the columns centred?")
    kernels = [part @ part.T for part in (first - first.mean(0), second - second.mean(0))]
    truth = (kernels[0] * kernels[1]).sum() / np.sqrt((kernels[0] ** 2).sum() * (kernels[1] ** 2).sum())
    if abs(cka(first, second) - truth) > 1e-6:
        raise UserError("cka is not the ratio of the exercise; mind the square of the norm and what it is divided by")
    return "it agrees with the form that compares similarities of examples, and sees no rotation."


def _one_bit(answer: Any) -> str:
    rows = rows_of("published/edge_surrogate_predictions.csv.gz")
    scores: dict[str, list[float]] = {"bit": [], "Graph": []}
    for _, part in rows.groupby(["iterations", "net"]):
        graph, truth = part["Graph"].to_numpy(), rankdata(part["true"])
        for name, values in (("bit", graph > 0), ("Graph", graph)):
            if len(np.unique(values)) > 1:
                scores[name].append(float(np.corrcoef(rankdata(values), truth)[0, 1]))
    bit, published = (float(np.mean(each)) for each in scores.values())
    mistakes = {"that is the published surrogate; take the bit": published}
    check_number(answer, "the mean correlation of the bit", bit, mistakes)
    return "compare it with the published surrogate itself before you say what that one has learned."


def _live(answer: Any) -> str:
    live = function(answer, "live(edges, kept)")
    draws = np.random.default_rng(9)
    for vertices in (3, 5, 7):
        edges = [(low, high) for high in range(1, vertices) for low in range(high)]
        for _ in range(20):
            draws.shuffle(edges)
            kept = [bool(draw) for draw in draws.uniform(size=len(edges)) < 0.5]
            found = booleans(live(list(edges), list(kept)), len(edges), "live(edges, kept)")
            alive = {edge for edge, stays in zip(edges, kept, strict=True) if stays}
            used = _on_paths(alive, vertices - 1, (0,))
            truth = np.array([edge in used for edge in edges])
            if (found & ~np.array(kept)).any():
                raise UserError("an edge that is not kept is called live")
            if (found & ~truth).any():
                raise UserError("an edge is called live that is on no path from the input to the output")
            if (truth & ~found).any():
                raise UserError("an edge on a path from input to output is missing; does the order of edges matter?")
    return "these edges and no others lie on a path from input to output."


def _on_paths(alive: set[tuple[int, int]], output: int, path: tuple[int, ...]) -> set[tuple[int, int]]:
    """Edges of all paths that begin with `path` and end at the output, by trying every one."""
    if path[-1] == output:
        return set(pairwise(path))
    nexts = [target for source, target in alive if source == path[-1]]
    return set().union(*(_on_paths(alive, output, (*path, target)) for target in nexts))


CHECKS: dict[tuple[str, int], Check] = {
    ("effective_number", 2): _shares_of_distributions,
    ("effective_number", 3): _keep_effective,
    ("regimes", 2): _best_epochs,
    ("regimes", 3): _cka,
    ("structure", 2): _one_bit,
    ("structure", 3): _live,
}
