import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from prunecast import tables
from prunecast.effective_pruning import comparison
from prunecast.effective_pruning.comparison import Case, Granularity, Masks, compare, summary
from prunecast.effective_pruning.weight_scores import every_weight, only
from prunecast.pruning import criteria
from torch import Tensor, nn
from torch.nn import functional

BETAS = (0.3, 1.0, 1.7)
EPSILON = 0.05
SCOPED: tuple[Granularity, ...] = ("global", "layer", "row")

Scores = dict[str, Tensor]
Indices = NDArray[np.intp]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 3))

    def forward(self, points: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits: Tensor = self.network(points)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


def _points(seed: int) -> dict[str, Tensor]:
    """Points around three centres that overlap."""
    choice = np.random.default_rng(seed)
    labels = np.arange(150) % 3
    centres = np.random.default_rng(0).normal(size=(3, 6))
    points = centres[labels] + choice.normal(size=(150, 6))
    return {"points": torch.tensor(points, dtype=torch.float32), "labels": torch.tensor(labels)}


@pytest.fixture(scope="module")
def trained() -> Iterator[Network]:
    """A small network that was trained a little; every test must leave it unchanged."""
    torch.manual_seed(0)
    model, batch = Network(), _points(1)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        model(**batch)["loss"].backward()
        optimiser.step()
    optimiser.zero_grad()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    yield model
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.fixture
def weights(trained: Network) -> Scores:
    weights: Scores = every_weight(trained)
    return weights


@pytest.fixture
def scores(trained: Network, weights: Scores) -> dict[str, Scores]:
    magnitude = {name: weight.detach().abs() for name, weight in weights.items()}
    return {"magnitude": magnitude, "taylor": criteria.data_dependent_scores("taylor", trained, weights, [_points(1)])}


class Counted:
    """Measures the small network, counts the measurements, and can be interrupted after some of them."""

    def __init__(self, model: Network, perplexity: bool = False) -> None:
        self.model, self.batch, self.perplexity, self.calls = model, _points(2), perplexity, 0
        self.until = math.inf

    @torch.no_grad()
    def __call__(self) -> tuple[float, float]:
        self.calls += 1
        if self.calls > self.until:
            raise KeyboardInterrupt
        outcome = self.model(**self.batch)
        loss = float(outcome["loss"])
        correct = outcome["logits"].argmax(-1) == self.batch["labels"]
        return (math.exp(loss) if self.perplexity else float(correct.float().mean())), loss


def _case(counted: Counted, folder: Path, metric: Literal["accuracy", "perplexity"] = "accuracy") -> Case:
    return Case("small", "points", metric, partial(only, every_weight(counted.model)), counted, folder, "first", 4)


@pytest.fixture
def counted(trained: Network) -> Counted:
    return Counted(trained)


@pytest.fixture
def case(counted: Counted, tmp_path: Path) -> Case:
    return _case(counted, tmp_path)


def _recorded(case: Case) -> tuple[Case, list[Scores]]:
    """The same case, and a list of the masks under which it is evaluated."""
    masks: list[Scores] = []

    @contextmanager
    def masked(retained: Masks) -> Iterator[None]:
        masks.append({name: mask.clone() for name, mask in retained.items()})
        with case.masked(retained):
            yield

    return replace(case, masked=masked), masks


def _groups(scores: Scores, granularity: Granularity) -> list[Indices]:
    """Indices of the entries of each group in all scores one after the other."""
    ends = np.cumsum([0, *(score.numel() for score in scores.values())])
    layers = [np.arange(start, end) for start, end in pairwise(ends)]
    if granularity == "global":
        return [np.concatenate(layers)]
    if granularity == "layer":
        return layers
    return [row for layer, score in zip(layers, scores.values(), strict=True) for row in np.split(layer, len(score))]


def _flat(tensors: Mapping[str, Tensor]) -> NDArray[Any]:
    return torch.cat([tensor.flatten() for tensor in tensors.values()]).numpy()


def _shaped(flat: NDArray[Any], like: Scores) -> Scores:
    parts = torch.split(torch.from_numpy(flat), [tensor.numel() for tensor in like.values()])
    return {name: part.view(tensor.shape) for part, (name, tensor) in zip(parts, like.items(), strict=True)}


def _highest(values: NDArray[Any], group: Indices, count: int) -> Indices:
    """The `count` highest of a group."""
    return group[np.argsort(values[group], kind="stable")[len(group) - count :]]


def _marked(size: int, indices: Indices) -> NDArray[np.bool_]:
    marks = np.zeros(size, bool)
    marks[indices] = True
    return marks


@pytest.mark.parametrize("granularity", SCOPED)
def test_every_row_is_what_the_rule_retains_by_hand(
    case: Case, scores: dict[str, Scores], granularity: Granularity
) -> None:
    rows = tables.validate("emp", compare(case, scores, granularity, BETAS, EPSILON))
    assert rows[["criterion", "beta"]].to_numpy().tolist() == [[name, beta] for name in scores for beta in BETAS]
    for row in rows.to_dict("records"):
        values = _flat(scores[row["criterion"]]).astype(np.float64)
        stays, kept, effective = np.zeros(len(values), bool), 0, 0.0
        for group in _groups(scores["magnitude"], granularity):
            n_eff = values[group].sum() ** 2 / (values[group] ** 2).sum()
            count = max(1, min(math.floor(row["beta"] * n_eff), len(group)))
            stays[_highest(values, group, count)] = True
            kept, effective = kept + count, effective + n_eff
        assert (row["entries"], row["kept"]) == (len(values), kept)
        assert row["sparsity"] == pytest.approx(1 - kept / len(values), abs=1e-12)
        assert row["n_eff"] == pytest.approx(effective)
        assert row["preserved"] == pytest.approx(values[stays].sum() / values.sum())
        assert (row["pruned"], row["pruned_loss"]) == case.evaluate(_shaped(stays, scores["magnitude"]))
        assert (row["dense"], row["dense_loss"]) == case.measure()
        assert row["model"] == "small"
        assert (row["dataset"], row["metric"], row["granularity"]) == ("points", "accuracy", granularity)
        assert (row["epsilon"], row["seed"]) == (EPSILON, 4)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("granularity", SCOPED)
def test_controls_retain_as_many_entries_of_every_group(
    case: Case, scores: dict[str, Scores], granularity: Granularity, kind: torch.dtype
) -> None:
    scores = {name: {layer: score.to(kind) for layer, score in of.items()} for name, of in scores.items()}
    recorded, evaluated = _recorded(case)
    rows = compare(recorded, scores, granularity, BETAS, EPSILON, optima={})
    assert rows["optimum"].isna().all()
    groups = _groups(scores["magnitude"], granularity)
    counts = [[int(_flat(masks)[group].sum()) for group in groups] for masks in evaluated]
    of_taylor = [counts[start : start + 3] for start in range(2 * len(BETAS), len(counts), 3)]
    assert len(of_taylor) == len(BETAS)
    for (itself, magnitude, chance), kept in zip(of_taylor, rows["kept"].iloc[len(BETAS) :], strict=True):
        assert itself == magnitude == chance
        assert sum(itself) == kept
    of_magnitude = [counts[start : start + 2] for start in range(0, 2 * len(BETAS), 2)]
    for (itself, chance), kept in zip(of_magnitude, rows["kept"], strict=False):
        assert itself == chance
        assert sum(itself) == kept


@pytest.mark.parametrize("granularity", SCOPED)
def test_the_magnitude_control_retains_the_largest_and_the_random_one_depends_on_no_score(
    case: Case, scores: dict[str, Scores], granularity: Granularity
) -> None:
    recorded, evaluated = _recorded(case)
    rows = compare(recorded, scores, granularity, [0.8], EPSILON, optima={})
    _, _, itself, by_size, chance = (_flat(masks) for masks in evaluated)
    size, taylor = _flat(scores["magnitude"]), _flat(scores["taylor"])
    for group in _groups(scores["magnitude"], granularity):
        for values, kept in ((taylor, itself), (size, by_size)):
            assert set(group[kept[group]]) == set(_highest(values, group, int(kept[group].sum())))
    assert (chance != by_size).any()
    assert (chance != itself).any()
    metrics = [case.evaluate(_shaped(kept, scores["magnitude"]))[0] for kept in (itself, by_size, chance)]
    columns = ["pruned", "magnitude_at_same_sparsity", "random_at_same_sparsity"]
    assert rows[columns].iloc[1].to_list() == metrics


@pytest.mark.parametrize("granularity", SCOPED)
def test_magnitude_under_another_name_equals_its_control(
    case: Case, scores: dict[str, Scores], granularity: Granularity
) -> None:
    doubled = {"magnitude": scores["magnitude"], "saliency": scores["magnitude"]}
    rows = compare(case, doubled, granularity, BETAS, EPSILON)
    assert (rows["pruned"] == rows["magnitude_at_same_sparsity"]).all()
    one, other = (rows[rows["criterion"] == name].drop(columns="criterion") for name in doubled)
    pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True))


def test_granularity_row_prunes_each_output_by_itself(case: Case, scores: dict[str, Scores]) -> None:
    """One case for each row of the first layer, the others whole, retains together what the granularity row does."""
    first = next(iter(scores["magnitude"]))
    only_first = {name: {first: of[first]} for name, of in scores.items()}
    recorded, evaluated = _recorded(case)
    together = compare(recorded, only_first, "row", [1.0], EPSILON, optima={})
    masks, apart = [], []
    for index in range(len(scores["magnitude"][first])):
        alone = {name: {first: of[first][index : index + 1]} for name, of in scores.items()}
        whole = torch.ones_like(scores["magnitude"][first], dtype=torch.bool)
        retained: list[Tensor] = []

        @contextmanager
        def masked(
            masks: Masks, index: int = index, whole: Tensor = whole, retained: list[Tensor] = retained
        ) -> Iterator[None]:
            retained.append(masks[first][0])
            with case.masked({first: whole.index_put((torch.tensor(index),), masks[first][0])}):
                yield

        row = replace(case, masked=masked, folder=case.folder / str(index))
        apart.append(compare(row, alone, "global", [1.0], EPSILON, {}))
        masks.append(retained[2])  # after magnitude and its random control
    assert torch.equal(torch.stack(masks), evaluated[2][first])
    summed = pd.concat(apart).groupby("criterion", sort=False)[["entries", "kept", "n_eff"]].sum()
    pd.testing.assert_frame_equal(summed, together.set_index("criterion")[["entries", "kept", "n_eff"]])


def test_no_share_above_one_is_preserved_where_only_zeros_are_pruned() -> None:
    """Sums with and without the zeros may differ by a rounding, and the contract allows no more than 1."""
    choice = np.random.default_rng(0)
    for _ in range(30):
        scores = torch.from_numpy(np.abs(choice.normal(size=(300, 400))) * (choice.random((300, 400)) < 0.3)).float()
        share = comparison._preserved({"a": scores}, {"a": scores > 0})
        assert 1 - 1e-12 < share <= 1


def _sum_case(values: Tensor, metric: Literal["accuracy", "perplexity"], folder: Path) -> tuple[Case, Scores]:
    """A case whose metric is the share of the sum of its weights that is left: the less, the worse; and its scores."""
    weights = {"a.weight": nn.Parameter(values), "b.weight": nn.Parameter(values.flip(0))}
    total = sum(float(weight.detach().sum()) for weight in weights.values())

    def measure() -> tuple[float, float]:
        left = sum(float(weight.detach().sum()) for weight in weights.values()) / total
        return (left if metric == "accuracy" else 1 / max(left, 1e-9)), 0.0

    scores = {name: weight.detach().clone() for name, weight in weights.items()}
    return Case("sum", "itself", metric, partial(only, weights), measure, folder, "", 0), scores


@settings(max_examples=20)
@given(
    st.lists(st.floats(0.01, 10), min_size=3, max_size=30),
    st.floats(0, 0.95),
    st.sampled_from(["global", "layer"]),
    st.sampled_from(["accuracy", "perplexity"]),
)
def test_bisection_finds_the_optimum_of_a_full_scan(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[float],
    epsilon: float,
    granularity: Granularity,
    metric: Literal["accuracy", "perplexity"],
) -> None:
    case, scores = _sum_case(torch.tensor(values), metric, tmp_path_factory.mktemp("sum"))
    optimum = compare(case, {"magnitude": scores}, granularity, [1.0], epsilon)["optimum"].item()
    dense = case.measure()[0]
    flat = _flat(scores)
    holding, shares = [], []
    for percent in range(comparison.GRID):
        stays = np.zeros(len(flat), bool)
        for group in _groups(scores, granularity):
            stays[_highest(flat, group, len(group) - round(percent / comparison.GRID * len(group)))] = True
        shares.append(1 - stays.mean())
        holding.append(case.holds(case.evaluate(_shaped(stays, scores))[0], dense, epsilon))
    assert holding == sorted(holding, reverse=True)
    assert optimum == pytest.approx(shares[sum(holding) - 1])  # the share pruned: of few entries not the one requested


def test_known_optima_are_used_unchanged(case: Case, scores: dict[str, Scores]) -> None:
    rows = compare(case, scores, "global", BETAS, EPSILON, optima={"taylor": 0.37})
    assert set(rows.loc[rows["criterion"] == "taylor", "optimum"]) == {0.37}
    assert rows.loc[rows["criterion"] == "magnitude", "optimum"].isna().all()


def test_accuracy_is_worse_when_lower_and_perplexity_when_higher(case: Case) -> None:
    assert case.holds(0.90, 0.90, 0)
    assert case.holds(0.95, 0.90, 0.01)
    assert not case.holds(0.85, 0.90, 0.04)
    by_perplexity = replace(case, metric="perplexity")
    assert by_perplexity.holds(20, 20, 0)
    assert by_perplexity.holds(5, 20, 0.01)
    assert by_perplexity.holds(20.9, 20, 0.05)
    assert not by_perplexity.holds(21.1, 20, 0.05)
    assert not by_perplexity.holds(math.inf, 20, 0.05)


def test_a_loss_of_exactly_epsilon_holds_whatever_the_rounding(case: Case) -> None:
    for correct in range(10, 501):
        assert case.holds((correct - 10) / 500, correct / 500, 0.02)
        assert not case.holds((correct - 10) / 500, correct / 500, 0.0199)


def test_the_optimum_by_perplexity_is_where_that_has_risen_by_epsilon(
    trained: Network, scores: dict[str, Scores], tmp_path: Path
) -> None:
    case = _case(Counted(trained, perplexity=True), tmp_path, "perplexity")
    rows = tables.validate("emp", compare(case, scores, "global", [1.0], 0.1))
    assert (rows["pruned"] == np.exp(rows["pruned_loss"])).all()
    dense = float(rows["dense"].iloc[0])
    for name, optimum in zip(rows["criterion"], rows["optimum"].to_numpy(float), strict=True):
        flat, percent = _flat(scores[name]), round(optimum * comparison.GRID)
        rise = []
        for share in (percent / comparison.GRID, (percent + 1) / comparison.GRID):
            left = _highest(flat, np.arange(len(flat)), len(flat) - round(share * len(flat)))
            rise.append(case.evaluate(_shaped(_marked(len(flat), left), scores[name]))[0] / dense - 1)
        assert rise[0] <= 0.1 < rise[1]


def _files(case: Case) -> list[str]:
    return sorted(path.name for path in (case.folder / "effective").iterdir())


def test_only_the_criterion_whose_file_was_deleted_is_measured_again(
    case: Case, counted: Counted, scores: dict[str, Scores]
) -> None:
    scores = scores | {"saliency": scores["taylor"]}
    first = compare(case, scores, "global", BETAS, EPSILON)
    assert _files(case) == ["global_magnitude.json", "global_saliency.json", "global_taylor.json"]
    calls, counted.calls = counted.calls, 0
    pd.testing.assert_frame_equal(compare(case, scores, "global", BETAS, EPSILON), first)
    assert counted.calls == 0
    (case.folder / "effective" / "global_taylor.json").unlink()
    recorded, evaluated = _recorded(case)
    pd.testing.assert_frame_equal(compare(recorded, scores, "global", BETAS, EPSILON), first)
    assert 0 < counted.calls < calls / 2
    assert counted.calls == len(evaluated) + 1  # and once the dense network
    itself = _flat(evaluated[-3])
    assert itself.sum() == first["kept"].iloc[-1]
    assert set(np.flatnonzero(itself)) == set(_highest(_flat(scores["taylor"]), np.arange(len(itself)), itself.sum()))


def test_an_interrupted_comparison_is_resumed(
    case: Case, counted: Counted, scores: dict[str, Scores], weights: Scores
) -> None:
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    whole = compare(replace(case, folder=case.folder / "whole"), scores, "row", BETAS, EPSILON)
    calls, counted.calls = counted.calls, 0
    counted.until = calls - 2
    with pytest.raises(KeyboardInterrupt):
        compare(case, scores, "row", BETAS, EPSILON)
    assert all(torch.equal(weights[name], weight) for name, weight in before.items())
    assert _files(case) == ["row_magnitude.json"]
    counted.calls, counted.until = 0, math.inf
    pd.testing.assert_frame_equal(compare(case, scores, "row", BETAS, EPSILON), whole)
    assert 0 < counted.calls < calls


@pytest.mark.parametrize(
    "changed",
    [{"fingerprint": "another"}, {"seed": 5}, {"betas": (0.3, 1.0)}, {"epsilon": 0.5}, {"optima": {"taylor": 0.1}}],
)
def test_measurements_with_other_inputs_are_not_reused(
    case: Case, counted: Counted, scores: dict[str, Scores], changed: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {"betas": BETAS, "epsilon": EPSILON, "optima": None}
    compare(case, scores, "layer", **arguments)
    before, counted.calls = _keys(case), 0
    other = replace(case, **{name: value for name, value in changed.items() if name not in arguments})
    arguments |= {name: value for name, value in changed.items() if name in arguments}
    again = compare(other, scores, "layer", **arguments)
    assert counted.calls > 0
    fresh = compare(replace(other, folder=case.folder / "fresh"), scores, "layer", **arguments)
    pd.testing.assert_frame_equal(again, fresh)
    assert not before & _keys(case)


def _keys(case: Case) -> set[str]:
    return {json.loads((case.folder / "effective" / name).read_text())["key"]["inputs"] for name in _files(case)}


def _row(
    model: str, criterion: str, pruned: float, magnitude: float, chance: float, seed: int = 0, **given: object
) -> dict[str, object]:
    row: dict[str, object] = {
        "model": model,
        "granularity": "global",
        "criterion": criterion,
        "dense": 0.9,
        "pruned": pruned,
    }
    row |= {"magnitude_at_same_sparsity": magnitude, "random_at_same_sparsity": chance, "seed": seed}
    return row | {"sparsity": 0.4, "optimum": 0.6} | given


def test_a_summary_counts_models_once_and_shares_over_rows() -> None:
    rows = pd.DataFrame(
        [
            _row("a", "taylor", 0.90, 0.80, 0.5, sparsity=0.2),
            _row("a", "taylor", 0.88, 0.88, 0.5, seed=1),  # a loss of exactly epsilon; a tie is not above
            _row("b", "taylor", 0.70, 0.89, 0.8, optimum=0.2),
            _row("c", "taylor", 0.50, 0.90, 0.5),
            _row("a", "magnitude", 0.90, 0.90, 0.1),
            _row("a", "magnitude", 0.10, 0.10, 0.2, granularity="layer"),
        ]
    )
    means = summary(rows, 0.02)
    assert list(means.index) == [("global", "taylor"), ("global", "magnitude"), ("layer", "magnitude")]
    assert means["models"].to_list() == [3, 1, 1]
    taylor: Any = means.loc[("global", "taylor")]
    assert taylor[["within epsilon", "above magnitude", "above chance"]].to_list() == [2 / 4, 1 / 4, 2 / 4]
    assert taylor["lost"] == pytest.approx((0 + 0.02 + 0.2 + 0.4) / 4)
    assert taylor[["sparsity", "optimum"]].to_list() == pytest.approx([0.35, 0.5])
    assert means.loc[("layer", "magnitude"), "above chance"] == 0
    assert not means["above magnitude"].drop(("global", "taylor")).any()


def test_an_overview_names_what_was_pruned_with_its_controls() -> None:
    table: Any = comparison.overview(
        pd.DataFrame(
            {"model": ["m"], "granularity": ["row"], "criterion": ["wanda"], "beta": [0.75], "sparsity": [0.4]}
            | {"dense": [0.9], "pruned": [0.8], "magnitude_at_same_sparsity": [0.7]}
            | {"random_at_same_sparsity": [0.1], "optimum": [0.3]}
        )
    )
    assert table.loc[("m", "row, wanda, β 0.75")].to_dict() == {
        "sparsity": 0.4, "dense": 0.9, "pruned": 0.8, "by magnitude": 0.7, "at random": 0.1, "optimum": 0.3,
    }  # fmt: skip
