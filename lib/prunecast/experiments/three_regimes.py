"""How far the regimes and the rules can be trusted: judged by cells that they were not learned from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from prunecast.landscape.regimes import COLUMN, cells, learn
from prunecast.landscape.rules import (
    DENSE,
    GUIDED,
    NAIVE,
    NOISE,
    WEIGHTED,
    Advise,
    Choose,
    by_regimes,
    by_regression,
    fitted,
)
from prunecast.sweeps.curve_metrics import interval_over_groups

NAMES = {
    "guided": GUIDED,
    "weighted": WEIGHTED,
    "dense_choice": DENSE,
    "similar": "highest CKA",
    "hot": "always hotter",
    "cold": "always colder",
    "noise": NOISE,
}


def of_seed(rows: pd.DataFrame, table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Cells as one dense network shows them: its metrics, beside the errors and directions over all networks.

    Args:
        rows: Rows of the table `regimes` of one study.
        table: Its cells with the columns of `cells`.
        seed: Number of the dense network.

    Returns:
        The cells, with `lmc`, `cka`, `dense_error` and `noise_scale` of this network alone.
    """
    place = [*COLUMN, "temperature"]
    own = rows[rows["dense_seed"] == seed].groupby(place)[["lmc", "cka", "dense_error", "noise_scale"]].mean()
    return table.drop(columns=own.columns).join(own, on=place).assign(dense_seed=seed)


def directions(table: pd.DataFrame, rules: Mapping[str, Advise]) -> pd.DataFrame:
    """Whether advice is right, by cell in which temperature matters.

    Args:
        table: Cells with the columns of `cells`.
        rules: What gives advice, by name.

    Returns:
        For each rule the cells in which temperature matters and both metrics are known, with `rule`, `advice` and
        `right`. Advice to stay is wrong there.
    """
    known = table[table["matters"] & table[["lmc", "cka"]].notna().all(axis=1)]
    given = {name: advise(known) for name, advise in rules.items()}
    parts = [
        known.assign(rule=name, advice=advice, right=advice == known["direction"]) for name, advice in given.items()
    ]
    return pd.concat(parts, ignore_index=True)


def decisions(table: pd.DataFrame, rules: Mapping[str, Choose]) -> pd.DataFrame:
    """What each rule chooses at each density, and what that costs.

    Args:
        table: Cells with the columns of `cells`, of one dense network or of the mean over several.
        rules: The rules by name.

    Returns:
        A row for each rule, kind and density: the chosen `temperature`, and `regret`, its error above that of the best
        temperature, as a fraction. Cells without an error cannot be chosen.
    """
    records = []
    for (kind, density), column in table.dropna(subset=["test_error"]).groupby(COLUMN):
        for name, choose in rules.items():
            chosen = column.iloc[choose(column)]
            records.append((name, kind, density, chosen["temperature"], chosen["gap"]))
    return pd.DataFrame(records, columns=["rule", *COLUMN, "temperature", "regret"])


def judged(rows: pd.DataFrame, by: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge advice and choices where they were not learned.

    Args:
        rows: Rows of the table `regimes` of one study.
        by: Column of which each value is left out in turn, `density` or `temperature_kind`: all rules that learn do so
            from the cells of the other values, by the mean over dense networks, and are judged by those left out.

    Returns:
        Rows of `directions` and of `decisions` by `dense_seed`: the metrics are those of one dense network, the errors
        and the best temperatures those of the mean.
    """
    table = cells(rows)
    parts = [
        judged_elsewhere(rows[rows[by] == value], table[table[by] != value], table[table[by] == value])
        for value in sorted(table[by].unique())
    ]
    advice, chosen = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    return advice, chosen


def judged_elsewhere(
    rows: pd.DataFrame, elsewhere: pd.DataFrame, table: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge rules that were learned from other cells.

    Args:
        rows: Rows of the table `regimes` to judge by.
        elsewhere: Cells with the columns of `cells` to learn from.
        table: The cells of `rows`.

    Returns:
        Rows of `directions` and of `decisions` by `dense_seed`.
    """
    advisers = {GUIDED: by_regimes(learn(elsewhere)), WEIGHTED: by_regression(elsewhere)}
    rules = NAIVE | fitted(elsewhere)
    if table["dense_error"].isna().any():
        del rules[DENSE]
    parts = [of_seed(rows, table, int(seed)) for seed in sorted(rows["dense_seed"].unique())]
    advice = pd.concat([directions(part, advisers) for part in parts], ignore_index=True)
    chosen = [decisions(part, rules).assign(dense_seed=part["dense_seed"].iloc[0]) for part in parts]
    return advice, pd.concat(chosen, ignore_index=True)


def halves(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Boundaries learned from one half of a grid and judged by the other, both ways.

    Args:
        table: Cells with the columns of `cells`.
        by: `density`, where a half is every other density, or `temperature`, where it is every other temperature; the
            best temperature of a cell is that of the whole grid.

    Returns:
        A row for each half that is judged: the learned `lmc` and `cka`; `right`, the share of its `cells` in which
        temperature matters whose advice by these is right; and the same by a sloping boundary.
    """
    odd = table[by].map({value: rank % 2 for rank, value in enumerate(sorted(table[by].unique()))})
    records = []
    for half in (0, 1):
        boundaries = learn(table[odd != half])
        advisers = {"right": by_regimes(boundaries), "right, sloping": by_regression(table[odd != half])}
        advice = directions(table[odd == half], advisers).groupby("rule")["right"]
        records.append(
            (by, half, boundaries.lmc, boundaries.cka, *advice.mean()[list(advisers)], advice.size().iloc[0])
        )
    return pd.DataFrame(records, columns=["by", "half", "lmc", "cka", "right", "right, sloping", "cells"])


def summary(chosen: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Mean regret of each rule, and its difference from that of the three regimes.

    Args:
        chosen: Rows of `decisions` with the `dense_seed`.
        seed: Seed of the resampling.

    Returns:
        By rule, in points of error: `regret`, its 90 % interval over dense networks `low` to `high`, the `largest`
        regret, and `difference` from the three regimes with its interval. No interval below five dense networks.
    """
    place = ["temperature_kind", "density", "dense_seed"]
    square = chosen.pivot(index=place, columns="rule", values="regret") * 100
    networks = square.index.get_level_values(0) + "/" + square.index.get_level_values(2).astype(str)
    records = {}
    for rule in dict.fromkeys(chosen["rule"]):
        known = square[rule].notna().to_numpy()
        values, groups = square[rule][known], networks[known]
        paired = values - square[GUIDED][known]
        low, high = interval_over_groups(values, groups, seed)
        below, above = interval_over_groups(paired, groups, seed)
        records[rule] = (values.mean(), low, high, values.max(), paired.mean(), below, above)
    columns = ["regret", "low", "high", "largest", "difference", "difference low", "difference high"]
    return pd.DataFrame.from_dict(records, orient="index", columns=columns)


def by_source(judgements: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], seed: int) -> pd.DataFrame:
    """How far advice is right, by what it was learned from and what is varied.

    Args:
        judgements: Rows of `directions` and of `decisions`, by where the rules were learned.
        seed: Seed of the resampling.

    Returns:
        By source, rule and kind: `right`, the share of the cells in which temperature matters whose advice is right,
        `low` to `high`, its 90 % interval over dense networks, the number of `cells`, and the mean `regret` in points
        of error of the choice by the same rule.
    """
    records = {}
    for source, (advice, chosen) in judgements.items():
        for rule in dict.fromkeys(advice["rule"]):
            for kind in ["all", *sorted(advice["temperature_kind"].unique())]:
                part, own = (_of(frame, rule, kind) for frame in (advice, chosen))
                networks = part["temperature_kind"] + part["dense_seed"].astype(str)
                low, high = interval_over_groups(part["right"].astype(float), networks, seed)
                records[source, rule, kind] = (part["right"].mean(), low, high, len(part), own["regret"].mean() * 100)
    index = pd.MultiIndex.from_tuples(records, names=["learned from", "rule", "varied"])
    return pd.DataFrame(list(records.values()), index, columns=["right", "low", "high", "cells", "regret"])


def _of(frame: pd.DataFrame, rule: str, kind: str) -> pd.DataFrame:
    part = frame[frame["rule"] == rule]
    return part if kind == "all" else part[part["temperature_kind"] == kind]


def headline(
    chosen: pd.DataFrame, paper: pd.DataFrame, by_source: pd.DataFrame, control: pd.DataFrame, seed: int
) -> dict[str, float]:
    """The numbers that the page of the regimes states.

    Args:
        chosen: Rows of `decisions` of a study, learned from other densities.
        paper: The published grid, as of `published`.
        by_source: What `by_source` returns for the study.
        control: What `last_against_best` returns for it.
        seed: Seed of the resampling.

    Returns:
        Mean regrets in points by the name of a rule, over all kinds, where epochs are varied (`_epochs`) and on the
        published grid (`_paper`); shares of right advice; cost and noise of the full length at the lowest density.
    """
    grids = {
        "": chosen,
        "_epochs": chosen[chosen["temperature_kind"] == "epochs"],
        "_paper": judged(paper, "density")[1],
    }
    found: dict[str, float] = {}
    for ending, decided in grids.items():
        regrets = summary(decided, seed)["regret"]
        found |= {f"{name}{ending}": float(regrets[rule]) for name, rule in NAMES.items() if rule in regrets}
    own: Any = by_source.loc["other densities"]
    for name, rule in (("right", GUIDED), ("sloping", WEIGHTED)):
        found |= {f"{name}_{kind}": float(own.loc[(rule, kind), "right"]) for kind in ("all", "epochs")}
        found |= {f"{name}_{end}": float(own.loc[(rule, "all"), end]) for end in ("low", "high")}
    lowest: Any = control.loc[min(control.index.get_level_values("density"))]
    for name, kind in (("falling", "epochs"), ("constant", "epochs_constant_rate")):
        found |= {f"{name}_{column}": float(lowest.loc[kind, column]) for column in ("cost", "noise")}
    return found | {"cells": int(own.loc[(GUIDED, "all"), "cells"])}


def last_against_best(table: pd.DataFrame, kinds: Sequence[str]) -> pd.DataFrame:
    """What the full length of the dense training costs, by its schedule and by density.

    Args:
        table: Cells with the columns of `cells`.
        kinds: Kinds of temperature that are counted in epochs.

    Returns:
        By density that several kinds have, and kind: `best`, the epochs with the lowest error after pruning; `cost`,
        the error after the most epochs above that, and its `noise`, twice that of a difference, both in points; `lmc`
        after the most epochs.
    """
    records = {}
    known = table[table["temperature_kind"].isin(kinds)]
    several = known.groupby("density")["temperature_kind"].transform("nunique") > 1
    for (density, kind), part in known[several].groupby(["density", "temperature_kind"]):
        coldest_cell, best = part.iloc[-1], part.sort_values("gap").iloc[0]
        noise = 2 * np.sqrt(2) * coldest_cell["noise"] * 100
        records[density, kind] = (best["temperature"], coldest_cell["gap"] * 100, noise, coldest_cell["lmc"])
    index = pd.MultiIndex.from_tuples(records, names=["density", "varied"])
    return pd.DataFrame(list(records.values()), index, columns=["best", "cost", "noise", "lmc"])


def published(figures: pd.DataFrame) -> pd.DataFrame:
    """The published grid as rows of the table `regimes`; what it lacks is missing.

    Args:
        figures: Columns `epochs`, `density`, `test_error`, `lmc` and `cka`.

    Returns:
        The rows, of one dense and one retrained network.
    """
    rows = figures.rename(columns={"epochs": "temperature"}).drop(columns=["source", "table"])
    missing = {"dense_error": np.nan, "noise_scale": np.nan}
    return rows.assign(study="published", temperature_kind="epochs", dense_seed=0, retrain_seed=0, **missing)
