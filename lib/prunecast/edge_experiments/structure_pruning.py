"""Networks made smaller by removing edges of their computation graph, beside other ways to as few operations."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from prunecast import paths
from prunecast.cache import kept_row, key_of
from prunecast.cost.flops import flops
from prunecast.cost.latency import latency
from prunecast.edge_experiments.structure_cases import Case, classifier
from prunecast.edge_experiments.structure_choices import METHODS, SETTINGS, Choices, weights
from prunecast.edge_experiments.structure_language import is_language_model, language_model
from prunecast.errors import UserError
from prunecast.progress import note, track
from prunecast.pruning.finetuning import Budget, budget_of

MEASURED_BY = ("training", "evaluation", "finetuning")


def measure(
    network: str,
    task: str,
    tuning: Budget,
    *,
    second: str = "",
    shares: Sequence[float] = (0.6,),
    methods: Sequence[str] = METHODS,
    stages: Sequence[str] = ("zero_shot", "fine_tuned"),
    seeds: Sequence[int] = (0,),
    draws: int = 2,
    calibration: int = 256,
    evaluated: int = 32,
    context: int = 128,
    rounds: int = 10,
    run: str = "page",
) -> pd.DataFrame:
    """Rows of the table `pruned_structure` for a network; an interrupted run is resumed where it stopped.

    Args:
        network: Name of a classifier of `data/models.yml`, which is trained first if need be; or a text classifier or a
            causal language model, by its folder or its name in `PRUNECAST_MODELS`.
        task: The task that it classifies, or the text of a language model.
        tuning: What it is trained on after pruning; an example of a language model is a block of tokens.
        second: The task that a classifier is transferred to; empty for none.
        shares: Shares of the operations of all removable edges that stay.
        methods: Names in `METHODS`.
        stages: `zero_shot`, `fine_tuned` or `transferred`.
        seeds: Seeds of the training after pruning; the first one is also that of the network.
        draws: Number of random removals, whose numbers take the place of the seeds.
        calibration: Number of training examples, or blocks of tokens, on which losses are measured and forecast.
        evaluated: Number of blocks of tokens that the perplexity of a language model is measured on.
        context: Number of tokens of a block.
        rounds: How often each network is timed, in turn with the dense one.
        run: Name of the run in whose folder the rows are kept.

    Returns:
        A row for each method, share, stage and seed; `dense` is the network before pruning at the same stage.

    Raises:
        UserError: The network or a task cannot be loaded, a method or a stage is unknown, or a share is not between 0
            and 1, before anything is measured.
    """
    if is_language_model(network):
        case = language_model(network, task, tuning, calibration, evaluated, context)
    else:
        case = classifier(network, task, second, tuning, calibration, run, seeds[0])
    return rows_of(case, shares, methods, stages, seeds, draws, rounds, run)


def of_settings(
    pruned: Sequence[str],
    shares: Sequence[float],
    tuning: Sequence[float],
    choices: Sequence[Any],
    sizes: Sequence[int],
    run: str,
) -> pd.DataFrame:
    """Rows of the table `pruned_structure` from lists of settings, as a page has them.

    Args:
        pruned: The network, its task, and the task that it is transferred to, empty for none.
        shares: Shares of the operations of all removable edges that stay.
        tuning: Epochs, examples, batch size and learning rate of the training after pruning.
        choices: Methods that are judged as pruned, with the number of random draws; methods that are judged after
            training as well, with theirs.
        sizes: Training examples that forecasts use; for a language model blocks of tokens that are evaluated, and the
            tokens of a block; how often each network is timed.
        run: Name of the run in whose folder the rows are kept.

    Returns:
        The rows, those as pruned first.

    Raises:
        UserError: As of `measure`.
    """
    network, task, second = pruned
    settings = dict(zip(("epochs", "examples", "batch_size", "learning_rate"), tuning, strict=True))
    budget = budget_of(**settings | {"examples": int(tuning[1]), "batch_size": int(tuning[2])}, distilled=0)
    named: dict[str, Any] = dict(zip(("calibration", "evaluated", "context", "rounds"), sizes, strict=True))
    trained = ["fine_tuned", *(["transferred"] if second else [])]
    parts = [
        measure(
            network,
            task,
            budget,
            second=second,
            shares=shares,
            methods=methods,
            stages=stages,
            draws=draws,
            run=run,
            **named,
        )
        for stages, methods, draws in ((["zero_shot"], *choices[:2]), (trained, *choices[2:]))
        if methods
    ]
    return pd.concat(parts, ignore_index=True)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """What each method makes of each network.

    Args:
        rows: Rows of the table `pruned_structure`.

    Returns:
        By network, stage, number of removed edges or blocks, and method: mean over draws and seeds of the metric
        before and `after` pruning, the operations and parameters that stay, as shares, the latency as a share, the
        evaluations that the choice cost, and the number of `networks` in the mean.
    """
    shares = rows.assign(
        flops=rows["flops"] / rows["flops_dense"],
        parameters=rows["parameters"] / rows["parameters_dense"],
        latency=rows["latency_ms"] / rows["latency_ms_dense"],
        networks=1,
    )
    place = ["network", "stage", "removed", "method"]
    how = dict.fromkeys(["dense", "pruned", "flops", "parameters", "latency", "evaluations"], "mean") | {
        "networks": "sum"
    }
    return shares.groupby(place, sort=False).agg(how).sort_index(level=place[:3], sort_remaining=False, kind="stable")


def rows_of(
    case: Case,
    shares: Sequence[float],
    methods: Sequence[str],
    stages: Sequence[str],
    seeds: Sequence[int],
    draws: int,
    rounds: int,
    run: str,
) -> pd.DataFrame:
    """What `measure` returns, for a case; the arguments are those of `measure`."""
    for what, names, known in (("method", methods, METHODS), ("stage", stages, tuple(case.stages))):
        if unknown := set(names) - set(known):
            raise UserError(f"there is no {what} {min(unknown)!r} for {case.network}; there are {', '.join(known)}")
    if wrong := [share for share in shares if not 0 < share < 1]:
        raise UserError(f"share {wrong[0]} is not a share of the operations that stays; it is above 0 and below 1")
    choices = Choices(case)
    rows = [
        _row(choices, method, share, stage, seed, rounds, run)
        for share, method in track([*product(shares, methods)], f"{case.network}: pruned")
        for seed in (range(draws) if method == "random" else seeds)
        for stage in stages
        if stage != "zero_shot" or method == "random" or seed == seeds[0]
    ]
    return pd.DataFrame(rows).drop_duplicates(["network", "task", "method", "stage", "removed", "seed"])


def _row(choices: Choices, method: str, share: float, stage: str, seed: int, rounds: int, run: str) -> dict[str, Any]:
    case = choices.case
    settings = {"method": method, "share": share, "stage": stage, "seed": seed}
    folder = paths.run(run) / "pruning" / case.network

    def kept(settings: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        key = key_of(MEASURED_BY, case.fingerprint, SETTINGS, settings)
        return kept_row(folder / f"{key['inputs']}.json", key, make)

    def scored(model: nn.Module) -> float:
        return case.stages[stage].score(case.stages[stage].reached(model, seed))

    def dense() -> dict[str, Any]:
        return {"dense": scored(case.dense)}

    def measured() -> dict[str, Any]:
        chosen = choices.chosen(method, share, seed)
        model = chosen.model.eval()
        with torch.inference_mode():
            times = latency({"dense": lambda: case.dense(**case.batch), "pruned": lambda: model(**case.batch)}, rounds)
        row = {
            "network": case.network,
            "task": case.stages[stage].task,
            "method": method,
            "stage": stage,
            "removed": chosen.removed,
            "seed": seed,
            "metric": case.metric,
            **kept({"stage": stage, "seed": seed if stage != "zero_shot" else 0}, dense),
            "pruned": scored(model),
            "flops_dense": choices.flops,
            "flops": flops(model, case.one)[0],
            "parameters_dense": weights(case.dense)[1],
            "parameters": weights(model)[1],
            "latency_ms_dense": float(np.median(times["dense"])),
            "latency_ms": float(np.median(times["pruned"])),
            "evaluations": chosen.evaluations,
            "share": share,
            "which": chosen.which,
        }
        note(f"{case.network}: {settings}, {case.metric} {row['dense']:.4g} before, {row['pruned']:.4g} after")
        return row

    return kept(settings | {"rounds": rounds}, measured)
