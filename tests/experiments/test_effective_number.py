import json
import math
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prunecast import tables
from prunecast.experiments import effective_number, effective_number_cases
from prunecast.experiments.effective_number import Case, compared, summary
from prunecast.pruning import criteria
from torch import nn
from torch.nn import functional

BETAS = (0.3, 1.0, 1.7)
EPSILON = 0.05
SCOPED = ("global", "layer", "row")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 3))

    def forward(self, points, labels):
        logits = self.network(points)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


def _points(seed):
    """Points around three centres that overlap."""
    choice = np.random.default_rng(seed)
    labels = np.arange(150) % 3
    centres = np.random.default_rng(0).normal(size=(3, 6))
    points = centres[labels] + choice.normal(size=(150, 6))
    return {"points": torch.tensor(points, dtype=torch.float32), "labels": torch.tensor(labels)}


@pytest.fixture(scope="module")
def trained():
    """A small network that has learnt something; every test must leave it as it was."""
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
def weights(trained):
    return effective_number_cases.every_weight(trained)


@pytest.fixture
def scores(trained, weights):
    magnitude = {name: weight.detach().abs() for name, weight in weights.items()}
    return {"magnitude": magnitude, "taylor": criteria.data_dependent_scores("taylor", trained, weights, [_points(1)])}


class Counted:
    """The measure of the small network, which counts how often it is taken, and may be told to stop."""

    def __init__(self, model, perplexity=False):
        self.model, self.batch, self.perplexity, self.calls, self.until = model, _points(2), perplexity, 0, math.inf

    @torch.no_grad()
    def __call__(self):
        self.calls += 1
        if self.calls > self.until:
            raise KeyboardInterrupt
        found = self.model(**self.batch)
        loss = float(found["loss"])
        right = found["logits"].argmax(-1) == self.batch["labels"]
        return (math.exp(loss) if self.perplexity else float(right.float().mean())), loss


def _target(model, folder, metric="accuracy"):
    under = partial(effective_number_cases.only, effective_number_cases.every_weight(model))
    return Case("small", "points", metric, under, Counted(model, metric == "perplexity"), folder, "first", 4)


@pytest.fixture
def target(trained, tmp_path):
    return _target(trained, tmp_path)


def _watched(target):
    """The same target, and a list of the masks it is judged under."""
    seen = []

    @contextmanager
    def under(kept):
        seen.append({name: mask.clone() for name, mask in kept.items()})
        with target.under(kept):
            yield

    return replace(target, under=under), seen


def _groups(scores, granularity):
    """Indices of the entries of each group in all scores one after the other."""
    ends = np.cumsum([0, *(score.numel() for score in scores.values())])
    layers = [np.arange(a, b) for a, b in zip(ends, ends[1:], strict=False)]
    if granularity == "global":
        return [np.concatenate(layers)]
    if granularity == "layer":
        return layers
    return [row for layer, score in zip(layers, scores.values(), strict=True) for row in np.split(layer, len(score))]


def _flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors.values()]).numpy()


def _shaped(flat, like):
    parts = torch.from_numpy(flat).split([tensor.numel() for tensor in like.values()])
    return {name: part.view(tensor.shape) for part, (name, tensor) in zip(parts, like.items(), strict=True)}


def _highest(values, group, count):
    """The `count` highest of a group."""
    return group[np.argsort(values[group], kind="stable")[len(group) - count :]]


@pytest.mark.parametrize("granularity", SCOPED)
def test_every_row_is_what_the_rule_keeps_by_hand(target, scores, granularity):
    rows = tables.validate("emp", compared(target, scores, granularity, BETAS, EPSILON))
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
        assert (row["pruned"], row["pruned_loss"]) == target.judged(_shaped(stays, scores["magnitude"]))
        assert (row["dense"], row["dense_loss"]) == target.measure()
        assert row["model"] == "small"
        assert (row["dataset"], row["metric"], row["granularity"]) == ("points", "accuracy", granularity)
        assert (row["epsilon"], row["seed"]) == (EPSILON, 4)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("granularity", SCOPED)
def test_controls_keep_as_many_entries_of_every_group(target, scores, granularity, kind):
    scores = {name: {layer: score.to(kind) for layer, score in of.items()} for name, of in scores.items()}
    watched, seen = _watched(target)
    rows = compared(watched, scores, granularity, BETAS, EPSILON, optima={})
    assert rows["optimum"].isna().all()
    groups = _groups(scores["magnitude"], granularity)
    counts = [[int(_flat(masks)[group].sum()) for group in groups] for masks in seen]
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
def test_the_magnitude_control_keeps_the_largest_and_the_random_one_looks_at_no_score(target, scores, granularity):
    watched, seen = _watched(target)
    rows = compared(watched, scores, granularity, [0.8], EPSILON, optima={})
    _, _, itself, by_size, chance = (_flat(masks) for masks in seen)
    size, taylor = _flat(scores["magnitude"]), _flat(scores["taylor"])
    for group in _groups(scores["magnitude"], granularity):
        for values, kept in ((taylor, itself), (size, by_size)):
            assert set(group[kept[group]]) == set(_highest(values, group, int(kept[group].sum())))
    assert (chance != by_size).any()
    assert (chance != itself).any()
    judged = [target.judged(_shaped(kept, scores["magnitude"]))[0] for kept in (itself, by_size, chance)]
    columns = ["pruned", "magnitude_at_same_sparsity", "random_at_same_sparsity"]
    assert rows[columns].iloc[1].to_list() == judged


@pytest.mark.parametrize("granularity", SCOPED)
def test_magnitude_under_another_name_equals_its_control(target, scores, granularity):
    doubled = {"magnitude": scores["magnitude"], "saliency": scores["magnitude"]}
    rows = compared(target, doubled, granularity, BETAS, EPSILON)
    assert (rows["pruned"] == rows["magnitude_at_same_sparsity"]).all()
    one, other = (rows[rows["criterion"] == name].drop(columns="criterion") for name in doubled)
    pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True))


def test_a_row_at_a_time_is_each_output_by_itself(target, scores):
    """One target for each row of the first layer, the others whole, keeps together what the granularity row keeps."""
    first = next(iter(scores["magnitude"]))
    only_first = {name: {first: of[first]} for name, of in scores.items()}
    watched, seen = _watched(target)
    together = compared(watched, only_first, "row", [1.0], EPSILON, optima={})
    masks, apart = [], []
    for index in range(len(scores["magnitude"][first])):
        alone = {name: {first: of[first][index : index + 1]} for name, of in scores.items()}
        whole = torch.ones_like(scores["magnitude"][first], dtype=torch.bool)
        kept = []

        @contextmanager
        def under(masks, index=index, whole=whole, kept=kept):
            kept.append(masks[first][0])
            with target.under({first: whole.index_put((torch.tensor(index),), masks[first][0])}):
                yield

        folder = target.folder / str(index)
        apart.append(compared(replace(target, under=under, folder=folder), alone, "global", [1.0], EPSILON, {}))
        masks.append(kept[2])  # after magnitude and its random control
    assert torch.equal(torch.stack(masks), seen[2][first])
    summed = pd.concat(apart).groupby("criterion", sort=False)[["entries", "kept", "n_eff"]].sum()
    pd.testing.assert_frame_equal(summed, together.set_index("criterion")[["entries", "kept", "n_eff"]])


def test_no_share_above_one_is_preserved_where_only_zeros_go():
    """Sums with and without the zeros may differ by a rounding, and the contract allows no more than 1."""
    choice = np.random.default_rng(0)
    for _ in range(30):
        scores = torch.from_numpy(np.abs(choice.normal(size=(300, 400))) * (choice.random((300, 400)) < 0.3)).float()
        share = effective_number._preserved({"a": scores}, {"a": scores > 0})
        assert 1 - 1e-12 < share <= 1


def _holding(share, metric):
    """A target whose metric tells how much of the sum of its weights is there: the less, the worse."""
    weights = {"a.weight": nn.Parameter(share), "b.weight": nn.Parameter(share.flip(0))}
    total = sum(float(weight.detach().sum()) for weight in weights.values())

    def measure():
        left = sum(float(weight.detach().sum()) for weight in weights.values()) / total
        return (left if metric == "accuracy" else 1 / max(left, 1e-9)), 0.0

    return weights, partial(effective_number_cases.only, weights), measure


@settings(max_examples=20)
@given(
    st.lists(st.floats(0.01, 10), min_size=3, max_size=30),
    st.floats(0, 0.95),
    st.sampled_from(["global", "layer"]),
    st.sampled_from(["accuracy", "perplexity"]),
)
def test_halving_finds_the_optimum_of_a_full_scan(tmp_path_factory, values, epsilon, granularity, metric):
    weights, under, measure = _holding(torch.tensor(values), metric)
    scores = {name: weight.detach().clone() for name, weight in weights.items()}
    target = Case("sum", "itself", metric, under, measure, tmp_path_factory.mktemp("sum"), "", 0)
    found = compared(target, {"magnitude": scores}, granularity, [1.0], epsilon)["optimum"].item()
    flat = _flat(scores)
    holding, shares = [], []
    for percent in range(effective_number.GRID):
        stays = np.zeros(len(flat), bool)
        for group in _groups(scores, granularity):
            stays[_highest(flat, group, len(group) - round(percent / effective_number.GRID * len(group)))] = True
        shares.append(1 - stays.mean())
        metric_there = target.judged(_shaped(stays, scores))[0]
        holding.append(target.holds(metric_there, measure()[0], epsilon))
    assert holding == sorted(holding, reverse=True)
    assert found == pytest.approx(shares[sum(holding) - 1])  # what is gone: of few entries not what was asked for


def test_optima_that_are_known_are_taken_as_they_are(target, scores):
    rows = compared(target, scores, "global", BETAS, EPSILON, optima={"taylor": 0.37})
    assert set(rows.loc[rows["criterion"] == "taylor", "optimum"]) == {0.37}
    assert rows.loc[rows["criterion"] == "magnitude", "optimum"].isna().all()


def test_accuracy_is_worse_when_lower_and_perplexity_when_higher(target):
    assert target.holds(0.90, 0.90, 0)
    assert target.holds(0.95, 0.90, 0.01)
    assert not target.holds(0.85, 0.90, 0.04)
    perplexed = replace(target, metric="perplexity")
    assert perplexed.holds(20, 20, 0)
    assert perplexed.holds(5, 20, 0.01)
    assert perplexed.holds(20.9, 20, 0.05)
    assert not perplexed.holds(21.1, 20, 0.05)
    assert not perplexed.holds(math.inf, 20, 0.05)


def test_a_loss_of_exactly_epsilon_holds_whatever_the_rounding(target):
    for right in range(10, 501):
        assert target.holds((right - 10) / 500, right / 500, 0.02)
        assert not target.holds((right - 10) / 500, right / 500, 0.0199)


def test_a_network_judged_by_perplexity_has_its_optimum_where_that_has_risen_too_far(trained, scores, tmp_path):
    target = _target(trained, tmp_path, "perplexity")
    rows = tables.validate("emp", compared(target, scores, "global", [1.0], 0.1))
    assert (rows["pruned"] == np.exp(rows["pruned_loss"])).all()
    for name, optimum in rows.set_index("criterion")["optimum"].items():
        flat = _flat(scores[name])
        everything = np.arange(len(flat))
        rise = []
        for percent in (round(optimum * effective_number.GRID), round(optimum * effective_number.GRID) + 1):
            stays = np.zeros(len(flat), bool)
            stays[_highest(flat, everything, len(flat) - round(percent / effective_number.GRID * len(flat)))] = True
            rise.append(target.judged(_shaped(stays, scores[name]))[0] / rows["dense"].iloc[0] - 1)
        assert rise[0] <= 0.1 < rise[1]


def _files(target):
    return sorted(path.name for path in (target.folder / "effective").iterdir())


def test_only_the_criterion_whose_file_is_gone_is_measured_again(target, scores):
    scores = scores | {"saliency": scores["taylor"]}
    first, counted = compared(target, scores, "global", BETAS, EPSILON), target.measure
    assert _files(target) == ["global_magnitude.json", "global_saliency.json", "global_taylor.json"]
    calls, counted.calls = counted.calls, 0
    pd.testing.assert_frame_equal(compared(target, scores, "global", BETAS, EPSILON), first)
    assert counted.calls == 0
    (target.folder / "effective" / "global_taylor.json").unlink()
    watched, seen = _watched(target)
    pd.testing.assert_frame_equal(compared(watched, scores, "global", BETAS, EPSILON), first)
    assert 0 < counted.calls < calls / 2
    assert counted.calls == len(seen) + 1  # and once the dense network
    itself = _flat(seen[-3])
    assert itself.sum() == first["kept"].iloc[-1]
    assert set(np.flatnonzero(itself)) == set(_highest(_flat(scores["taylor"]), np.arange(len(itself)), itself.sum()))


def test_what_an_interruption_leaves_is_gone_on_with(target, scores, weights):
    counted, before = target.measure, {name: weight.detach().clone() for name, weight in weights.items()}
    whole = compared(replace(target, folder=target.folder / "whole"), scores, "row", BETAS, EPSILON)
    calls, counted.calls = counted.calls, 0
    counted.until = calls - 2
    with pytest.raises(KeyboardInterrupt):
        compared(target, scores, "row", BETAS, EPSILON)
    assert all(torch.equal(weights[name], weight) for name, weight in before.items())
    assert _files(target) == ["row_magnitude.json"]
    counted.calls, counted.until = 0, math.inf
    pd.testing.assert_frame_equal(compared(target, scores, "row", BETAS, EPSILON), whole)
    assert 0 < counted.calls < calls


@pytest.mark.parametrize(
    "changed",
    [{"fingerprint": "another"}, {"seed": 5}, {"betas": (0.3, 1.0)}, {"epsilon": 0.5}, {"optima": {"taylor": 0.1}}],
)
def test_what_was_measured_in_other_circumstances_is_not_taken(target, scores, changed):
    how = {"betas": BETAS, "epsilon": EPSILON, "optima": None}
    compared(target, scores, "layer", **how)
    counted, kept = target.measure, [(target.folder / "effective" / name).read_text() for name in _files(target)]
    counted.calls = 0
    other = replace(target, **{name: value for name, value in changed.items() if name not in how})
    again = compared(other, scores, "layer", **how | {name: changed[name] for name in changed if name in how})
    assert counted.calls > 0
    fresh = replace(other, folder=target.folder / "fresh")
    afresh = compared(fresh, scores, "layer", **how | {name: changed[name] for name in changed if name in how})
    pd.testing.assert_frame_equal(again, afresh)
    keys = {json.loads(text)["key"]["inputs"] for text in kept}
    assert not keys & {
        json.loads((target.folder / "effective" / name).read_text())["key"]["inputs"] for name in _files(target)
    }


def _judged(model, criterion, pruned, magnitude, chance, seed=0, **given):
    row = {"model": model, "granularity": "global", "criterion": criterion, "dense": 0.9, "pruned": pruned}
    row |= {"magnitude_at_same_sparsity": magnitude, "random_at_same_sparsity": chance, "seed": seed}
    return row | {"sparsity": 0.4, "optimum": 0.6} | given


def test_a_summary_counts_models_once_and_shares_over_rows():
    rows = pd.DataFrame(
        [
            _judged("a", "taylor", 0.90, 0.80, 0.5, sparsity=0.2),
            _judged("a", "taylor", 0.88, 0.88, 0.5, seed=1),  # a loss of exactly epsilon; a tie is not above
            _judged("b", "taylor", 0.70, 0.89, 0.8, optimum=0.2),
            _judged("c", "taylor", 0.50, 0.90, 0.5),
            _judged("a", "magnitude", 0.90, 0.90, 0.1),
            _judged("a", "magnitude", 0.10, 0.10, 0.2, granularity="layer"),
        ]
    )
    found = summary(rows, 0.02)
    assert list(found.index) == [("global", "taylor"), ("global", "magnitude"), ("layer", "magnitude")]
    assert found["models"].to_list() == [3, 1, 1]
    taylor = found.loc[("global", "taylor")]
    assert taylor[["within epsilon", "above magnitude", "above chance"]].to_list() == [2 / 4, 1 / 4, 2 / 4]
    assert taylor["lost"] == pytest.approx((0 + 0.02 + 0.2 + 0.4) / 4)
    assert taylor[["sparsity", "optimum"]].to_list() == pytest.approx([0.35, 0.5])
    assert found.loc[("layer", "magnitude"), "above chance"] == 0
    assert not found["above magnitude"].drop(("global", "taylor")).any()


def test_rows_are_shown_by_what_was_pruned_with_their_controls():
    table = effective_number.shown(
        pd.DataFrame(
            {"model": ["m"], "granularity": ["row"], "criterion": ["wanda"], "beta": [0.75], "sparsity": [0.4]}
            | {"dense": [0.9], "pruned": [0.8], "magnitude_at_same_sparsity": [0.7]}
            | {"random_at_same_sparsity": [0.1], "optimum": [0.3]}
        )
    )
    assert table.loc[("m", "row, wanda, β 0.75")].to_dict() == {
        "sparsity": 0.4, "dense": 0.9, "pruned": 0.8, "by magnitude": 0.7, "at random": 0.1, "optimum": 0.3,
    }  # fmt: skip
