import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prunecast.selection import pareto, search
from prunecast.selection.space import COMPARED_EXAMPLES, Space

SPACE = Space(
    ratios=(0.3, 0.6, 0.9), heads=(0.0, 0.3, 0.6), neurons=(0.0, 0.3, 0.6), layers=(0, 1), trained_ratios=(0.6, 0.9)
)
SMALL = Space(ratios=(0.5, 0.9), heads=(0.5,), neurons=(0.5,), layers=(0,), trained_ratios=(0.9,))
SMALLEST = Space(
    ratios=(0.9,), heads=(0.5,), neurons=(0.5,), layers=(0,), trained_ratios=(0.9,)
)  # NSGA-II soon proposes all of it
MAJORITY = 0.5
EVALUATIONS = 16
EXAMPLES = settings(deadline=None, max_examples=15)


@cache
def _candidates(space: Space = SPACE, eval_examples: int = 1600) -> pd.DataFrame:
    """Candidates with costs that are smooth functions of what is pruned; no test may change them."""
    frame = pd.DataFrame([{"configuration": one.name, **one.model_dump()} for one in space.configurations()])
    depth = 1 - frame["layers"] / 6
    left = (1 - frame["ratio"]) * depth * (1 - 0.4 * frame["heads"] - 0.5 * frame["neurons"])
    present = (depth * (1 - 0.4 * frame["heads"] - 0.5 * frame["neurons"])).where(frame["form"] == "removed", 1.0)
    careless = (frame["criterion"] == "random") * 0.3 + (frame["importance"] == "magnitude") * 0.05
    harm = (1 - left) ** 2 * (0.6 + careless) * np.where(frame["schedule"] == "none", 1.0, 0.3)
    speed = np.where(frame["form"] == "sparse_kernel", 0.4 + 1.2 * left, present)
    return frame.assign(
        accuracy=0.95 - 0.45 * harm.clip(0, 1),
        agreement=(1 - (1 - left) ** 2 * (0.6 + careless)).mul(COMPARED_EXAMPLES).round() / COMPARED_EXAMPLES,
        sparsity=1 - left,
        parameters_nonzero=(1e6 * left).astype(int),
        flops_dense=(1e8 * present).astype(int),
        flops_effective=(1e8 * left).astype(int),
        latency_ratio_1=speed,
        latency_ratio_32=speed,
        energy_ratio=math.nan,
        eval_examples=eval_examples,
    )


def _order(name: str, evaluations: int, seed: int = 0, candidates: pd.DataFrame | None = None) -> list[int]:
    """The rows that a search measures."""
    candidates = _candidates() if candidates is None else candidates
    costs = search.objectives(candidates)
    limits = search.reference(costs, MAJORITY)
    order: list[int] = search.SEARCHES[name](candidates, costs, limits, evaluations, seed)
    return order


@pytest.fixture(scope="module")
def benchmark() -> pd.DataFrame:
    """Hypervolume of each search with a few seeds, on the smooth candidates."""
    traces: pd.DataFrame = search.benchmark(_candidates(), MAJORITY, EVALUATIONS, seeds=range(3))
    return traces


def test_costs_are_errors_and_shares_of_the_dense_model() -> None:
    candidates = _candidates().assign(flops_effective=lambda frame: frame["flops_effective"] * 7)
    costs = search.objectives(candidates)
    assert costs.columns.to_list() == ["error", "flops", "latency"]
    assert costs.iloc[0].to_list() == pytest.approx([0.05, 1, 1])
    assert costs["error"].to_list() == pytest.approx((1 - candidates["accuracy"]).to_list())
    measured = search.objectives(candidates.assign(energy_ratio=0.7))
    assert measured["energy"].to_list() == [0.7] * len(candidates)


def test_the_reference_is_worse_than_the_dense_model_in_everything() -> None:
    costs = search.objectives(_candidates())
    limits = search.reference(costs, MAJORITY)
    assert limits["error"] == pytest.approx(1 - MAJORITY)
    assert all(limits[name] > costs[name].iloc[0] for name in limits)
    assert pareto.hypervolume(costs.iloc[:1], limits) > 0


@EXAMPLES
@given(st.sampled_from(["random", "nsga2"]), st.integers(0, 30), st.integers(0, 99))
def test_a_search_measures_as_many_rows_as_it_may_each_once(name: str, evaluations: int, seed: int) -> None:
    order = _order(name, evaluations, seed)
    assert len(order) == len(set(order)) == evaluations
    assert all(0 <= row < len(_candidates()) for row in order)


@pytest.mark.parametrize("evaluations", [1, 3, 5, 6, 8])
def test_the_cost_of_the_agreement_is_deducted_from_the_evaluations_of_the_guided_search(evaluations: int) -> None:
    candidates = _candidates(eval_examples=640)
    cost = math.ceil(len(candidates) * COMPARED_EXAMPLES / 640)
    order = _order("guided", evaluations, candidates=candidates)
    assert cost == 2
    assert len(order) == len(set(order)) == max(0, evaluations - cost)


def test_where_the_agreement_costs_more_than_there_is_nothing_is_measured() -> None:
    candidates = _candidates(eval_examples=COMPARED_EXAMPLES)
    assert _order("guided", 10, candidates=candidates) == []


@pytest.mark.parametrize("name", search.SEARCHES)
def test_a_search_is_the_same_for_the_same_seed_and_another_for_another(name: str) -> None:
    once, again, other = (_order(name, 18, seed) for seed in (0, 0, 4))
    assert once == again != other


def test_the_guided_search_begins_with_the_cheapest_of_each_form() -> None:
    candidates = _candidates()
    first = candidates.iloc[_order("guided", 8)[:7]]
    cheapest = candidates.groupby(["form", "schedule"])["flops_effective"].min()
    assert first.set_index(["form", "schedule"])["flops_effective"].to_dict() == cheapest.to_dict()


@pytest.mark.parametrize("name", search.SEARCHES)
def test_a_search_that_may_measure_more_than_there_is_measures_everything(name: str) -> None:
    candidates = _candidates(SMALLEST)
    assert sorted(_order(name, len(candidates) + 5, candidates=candidates)) == list(range(len(candidates)))


def test_nsga2_depends_on_what_it_has_measured() -> None:
    costs = search.objectives(_candidates())
    limits = search.reference(costs, MAJORITY)
    one, other = (search.nsga2(_candidates(), of, limits, 20, 0) for of in (costs, -costs))
    assert one[: search.POPULATION // 2] == other[: search.POPULATION // 2]  # the first ones are drawn
    assert one != other


@pytest.mark.slow
def test_a_trace_never_falls_and_starts_from_the_dense_model(benchmark: pd.DataFrame) -> None:
    costs = search.objectives(_candidates())
    limits = search.reference(costs, MAJORITY)
    start = pareto.hypervolume(costs.iloc[:1], limits) / pareto.hypervolume(costs, limits)
    assert len(benchmark) == 3 * 3 * (EVALUATIONS + 1)
    for _, trace in benchmark.groupby(["search", "seed"]):
        assert trace["evaluations"].to_list() == list(range(EVALUATIONS + 1))
        assert trace["hypervolume"].is_monotonic_increasing
        assert trace["hypervolume"].iloc[0] == pytest.approx(start)
        assert trace["hypervolume"].iloc[-1] <= 1 + 1e-9


def test_a_trace_reaches_one_when_everything_is_measured() -> None:
    candidates = _candidates(SMALLEST)
    cost = math.ceil(len(candidates) * COMPARED_EXAMPLES / 1600)
    traces = search.benchmark(candidates, MAJORITY, len(candidates) + 20, [0]).set_index(["search", "evaluations"])
    share = traces["hypervolume"].to_dict()
    assert share["guided", len(candidates) + cost] == pytest.approx(1)
    for name in ("random", "nsga2"):  # which need no agreement
        assert share[name, len(candidates)] == pytest.approx(1)


def test_the_trace_of_the_guided_search_rises_only_after_the_cost_of_the_agreement() -> None:
    candidates = _candidates(SMALL, eval_examples=64)
    cost = math.ceil(len(candidates) * COMPARED_EXAMPLES / 64)
    trace = search.benchmark(candidates, MAJORITY, cost + 8, [0]).query("search == 'guided'")["hypervolume"].to_numpy()
    assert cost > 1
    assert trace[: cost + 1] == pytest.approx(np.full(cost + 1, trace[0]))
    assert trace[-1] > trace[0]


def test_the_guided_search_is_better_than_a_random_one(benchmark: pd.DataFrame) -> None:
    mean = benchmark.groupby(["search", "evaluations"])["hypervolume"].mean().to_dict()
    assert mean["guided", EVALUATIONS] > mean["random", EVALUATIONS]
    assert mean["guided", EVALUATIONS // 2 + 2] > mean["random", EVALUATIONS // 2 + 2]
    assert mean["guided", EVALUATIONS] > 0.9


def test_a_seed_is_won_where_the_guided_search_is_above_all_others_and_not_level_with_one() -> None:
    levels = {0: (0.5, 0.4, 0.3), 1: (0.5, 0.5, 0.3), 2: (0.5, 0.3, 0.6), 3: (0.9, 0.1, 0.2)}
    names = ("guided", "nsga2", "random")
    rows = [
        {"model": "m", "seed": seed, "evaluations": 7, "search": name, "hypervolume": level}
        for seed, of_seed in levels.items()
        for name, level in zip(names, of_seed, strict=True)
    ]
    assert search.seeds_won(pd.DataFrame(rows)).to_dict() == {(7, "m"): 2}


def test_measured_energy_is_a_cost_of_every_search() -> None:
    candidates = _candidates(SMALL).assign(energy_ratio=lambda frame: frame["latency_ratio_32"])
    traces = search.benchmark(candidates, MAJORITY, 7, [0])
    assert traces.groupby("search")["hypervolume"].max().between(0, 1 + 1e-9).all()
    assert list(search.reference(search.objectives(candidates), MAJORITY)) == ["error", "flops", "latency", "energy"]
