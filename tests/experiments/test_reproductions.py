import math
from typing import Any

import pandas as pd
import pytest
from prunecast import paths, tables
from prunecast.experiments import reproductions

SST2, COLA = "sst2_mpnet_base", "cola_mpnet_base"
AT = round(1 - 1 / 5.5, 4)
NOT_MEASURED = {
    "BERT-large reference", "BERT-large pruned", "BERT-large", "DistilBERT", "TinyBERT", "BioBERT", "MobileBERT",
    "LadaBERT-1", "LadaBERT-2", "gpu_latency_ms",
}  # fmt: skip
DENSE = {"form": "dense", "configuration": "dense", "energy_source": "estimated"}


@pytest.fixture
def published() -> pd.DataFrame:
    return pd.read_csv(paths.PUBLISHED / "smarts.csv")


def _row(table: str, **given: Any) -> dict[str, Any]:
    """A row of a table with these cells; the others hold the least that the contract allows."""
    plain: dict[str, Any] = {"str": "x", "bool": False}
    rules = tables.contracts()[table]["columns"].items()
    least = {name: rule.get("allowed", [plain.get(rule["type"], rule.get("minimum", 0))])[0] for name, rule in rules}
    return least | given


def _run(model: str, schedule: str, seed: int, accuracy: float, **given: Any) -> dict[str, Any]:
    figures = {"accuracy": accuracy, "f1": accuracy - 0.1, "matthews": accuracy - 0.3, "sparsity": AT}
    return _row("schedules", model=model, schedule=schedule, seed=seed, **{"removed": "nothing"} | figures | given)


RUNS = [
    _run(SST2, "gradual", 0, 0.86), _run(SST2, "gradual", 1, 0.88), _run(SST2, "regrow", 0, 0.80),
    _run(SST2, "regrow", 1, 0.89), _run(SST2, "one_shot", 0, 0.99), _run(SST2, "gradual", 0, 0.95, sparsity=0.5),
    _run(SST2, "gradual", 1, 0.95, sparsity=0.5), _run(COLA, "iterative", 0, 0.7), _run(COLA, "iterative", 1, 0.6),
]  # fmt: skip


def _dense(model: str, parameters: int, accuracy: float, f1: float, matthews: float) -> dict[str, Any]:
    return _row("candidates", model=model, parameters=parameters, accuracy=accuracy, f1=f1, matthews=matthews, **DENSE)


CANDIDATES = [
    _dense(SST2, 110_000_000, 0.91, 0.92, 0.8), _dense(COLA, 110_000_000, 0.81, 0.87, 0.55),
    _dense("sst2_minilm", 22_700_000, 0.88, 0.89, 0.7), _dense("cola_minilm", 22_700_000, 0.75, 0.8, 0.3),
    _row("candidates", model=SST2, accuracy=0.5, form="masked", configuration="masked magnitude global 0.9"),
]  # fmt: skip


def _cost(form: str, batch: int, sparsity: float, latency: float, energy: float, accuracy: float) -> dict[str, Any]:
    figures = {"latency_ms_median": latency, "energy_j": energy, "accuracy": accuracy}
    operations = 4_000_000_000 if form == "dense" else 1_000_000_000
    return _row("costs", model=SST2, form=form, batch=batch, sparsity=sparsity, flops_effective=operations, **figures)


def _beside(published: pd.DataFrame, energy_j: float = 30.0) -> pd.DataFrame:
    """Rows of `reproductions`, with joules of the dense model at batch 32."""
    models = [_row("models", model=name, prunable_parameters=85_000_000) for name in (SST2, COLA, "sst2_minilm")]
    costs = [
        _cost("dense", 1, 0, 8, 7, 0.91), _cost("dense", 32, 0, 90, energy_j, 0.91), _cost("masked", 1, 0.9, 9, 9, 0.5),
        _cost("removed", 1, 0.82, 2, 5, 0.9), _cost("removed", 32, 0.82, 40, 0.4 * energy_j, 0.9),
        _cost("removed", 1, 0.6, 3, 6, 0.7), _cost("removed", 32, 0.6, 50, energy_j, 0.7),
    ]  # fmt: skip
    return reproductions.beside_paper(published, *(pd.DataFrame(rows) for rows in (models, CANDIDATES, RUNS, costs)))


def _by_row(reproduced: pd.DataFrame) -> dict[tuple[str, str], Any]:
    return {(row["table"], row["row"]): row for row in reproduced.to_dict("records")}


def test_every_published_figure_appears_once_in_its_order(published: pd.DataFrame) -> None:
    reproduced = _beside(published)
    tables.validate("reproductions", reproduced)
    assert reproduced["published"].to_list() == published["value"].to_list()
    assert reproduced["table"].to_list() == published["table"].to_list()
    assert reproduced["row"].to_list() == (published["row"] + ": " + published["quantity"]).to_list()
    assert not reproduced["same_protocol"].any()


def test_a_figure_without_counterpart_is_empty_and_says_so(published: pd.DataFrame) -> None:
    reproduced = _beside(published)
    absent = published["row"].isin(NOT_MEASURED)
    assert absent.any()
    assert reproduced["ours"].isna().to_list() == absent.to_list()
    assert reproduced["note"].str.startswith("not measured").to_list() == absent.to_list()


def test_figures_of_models_are_ours_in_the_units_of_the_paper(published: pd.DataFrame) -> None:
    reproduced = _by_row(_beside(published))
    left = (110e6 - 85e6 * (1 - 1 / 5.5)) / 1e6
    for row, ours, unit in [
        (("table 1", "BERT-base reference: top1_error_pct"), 9.0, "per cent"),
        (("table 1", "BERT-base pruned: top1_error_pct"), 13.0, "per cent"),
        (("table 1", "BERT-base pruned: parameters_millions"), left, "millions"),
        (("table 2", "BERT-base: parameters_millions"), 110.0, "millions"),
        (("table 2", "BERT-base: sst2_f1_pct"), 92.0, "per cent"),
        (("table 2", "BERT-base: cola_mcc"), 0.55, "correlation"),
        (("table 2", "BERT-base: compression"), 1.0, "times"),
        (("table 2", "Pruned: sst2_accuracy_pct"), 87.0, "per cent"),
        (("table 2", "Pruned: cola_f1_pct"), 55.0, "per cent"),
        (("table 2", "Pruned: compression"), 5.5, "times"),
        (("table 3", "MiniLM: sst2_accuracy_pct"), 88.0, "per cent"),
        (("table 3", "Pruned: cola_mcc"), 0.35, "correlation"),
    ]:
        assert reproduced[row]["ours"] == pytest.approx(ours), row
        assert reproduced[row]["unit"] == unit
    assert "mpnet-base" in reproduced["table 2", "BERT-base: sst2_f1_pct"]["note"]
    assert "MiniLM" in reproduced["table 3", "MiniLM: sst2_accuracy_pct"]["note"]


def test_changes_of_the_costs_are_those_computed_by_hand(published: pd.DataFrame) -> None:
    reproduced = _by_row(_beside(published))
    for quantity, original, pruned, change, unit in [
        ("accuracy_pct", 91.0, 90.0, -100 / 91, "per cent"),
        ("flops_billion", 4.0, 1.0, -75.0, "billions"),
        ("cpu_latency_ms", 8.0, 2.0, -75.0, "ms"),
        ("energy_joule", 30.0, 12.0, -60.0, "J"),
    ]:
        parts = ("original", "pruned", "relative_change_pct")
        rows = [reproduced["table 4", f"{quantity}: {part}"] for part in parts]
        assert [row["ours"] for row in rows] == pytest.approx([original, pruned, change])
        assert [row["unit"] for row in rows] == [unit, unit, "per cent"]


def test_energy_that_was_not_measured_says_so(published: pd.DataFrame) -> None:
    reproduced = _by_row(_beside(published, energy_j=math.nan))
    rows = [row for (table, name), row in reproduced.items() if table == "table 4" and name.startswith("energy_joule")]
    assert len(rows) == 3
    assert all(math.isnan(row["ours"]) for row in rows)
    assert all(row["note"].startswith("not measured") for row in rows)


def test_the_compressed_model_has_the_settings_that_are_best_over_two_seeds_at_least() -> None:
    runs = reproductions.compressed(pd.DataFrame(RUNS), SST2)
    assert set(runs["schedule"]) == {"gradual"}
    assert runs["accuracy"].to_list() == [0.86, 0.88]
    more = pd.DataFrame([*RUNS, _run(SST2, "one_shot", 1, 0.9)])
    assert set(reproductions.compressed(more, SST2)["schedule"]) == {"one_shot"}
    removed = [_run(SST2, "gradual", seed, 0.97, removed="heads 0.5") for seed in (0, 1)]
    assert set(reproductions.compressed(pd.DataFrame([*RUNS, *removed]), SST2)["removed"]) == {"heads 0.5"}


def _effective(
    model: str,
    granularity: str = "global",
    criterion: str = "magnitude",
    beta: float = 1.0,
    seed: int = 0,
    **given: Any,
) -> dict[str, Any]:
    figures = {"model": model, "granularity": granularity, "criterion": criterion, "beta": beta, "seed": seed}
    return _row("emp", **figures | {"entries": 200, "n_eff": 120.0, "metric": "accuracy"} | given)


EFFECTIVE = pd.DataFrame(
    [
        _effective("mnist_fc2_100", sparsity=0.4, dense=0.94, pruned=0.93),
        _effective("mnist_fc2_100", sparsity=0.3, dense=0.92, pruned=0.91, n_eff=140.0, seed=1),
        _effective("mnist_fc2_100", sparsity=0.8, dense=0.94, pruned=0.5, beta=0.5),
        _effective("mnist_fc2_100", sparsity=0.9, dense=0.94, pruned=0.1, criterion="random"),
        _effective("cifar10_vgg16", sparsity=0.6, dense=0.9, pruned=0.8),
        _effective("cifar10_vgg16", sparsity=0.1, dense=0.9, pruned=0.1, granularity="layer"),
        _effective("mnist_kan", "node", "attribution", dense=0.97, pruned=0.96),
        _effective("mnist_kan", "node", "magnitude", dense=0.97, pruned=0.2),
        _effective("wikitext2_gpt2", "head", "taylor", dense=50.0, pruned=60.0, entries=32, n_eff=24.0),
        _effective("wikitext2_gpt2", "row", "wanda", dense=50.0, pruned=75.0, sparsity=0.45),
    ]
)
WANG = {  # our figures beside printed ones, computed by hand from the rows above
    "FC2 MNIST, beta 1: sparsity_pct": 35.0,
    "FC2 MNIST, beta 1: dense_accuracy_pct": 93.0,
    "FC2 MNIST, beta 1: pruned_accuracy_pct": 92.0,
    "FC2 MNIST, beta 0.5: sparsity_pct": 80.0,
    "FC2 MNIST, beta 0.5: dense_accuracy_pct": 94.0,
    "FC2 MNIST, beta 0.5: pruned_accuracy_pct": 50.0,
    "VGG16 CIFAR10, beta 1: sparsity_pct": 60.0,
    "VGG16 CIFAR10, beta 1: dense_accuracy_pct": 90.0,
    "VGG16 CIFAR10, beta 1: pruned_accuracy_pct": 80.0,
    "KAN MNIST, beta 1: dense_accuracy_pct": 97.0,
    "KAN MNIST, beta 1: pruned_accuracy_pct": 96.0,
    "GPT-2 124M, beta 1, taylor: n_eff_share_pct": 75.0,
    "GPT-2 124M, beta 1, taylor: perplexity_ratio": 1.2,
    "LLama-7b, beta 1, wanda: sparsity_pct": 45.0,
    "LLama-7b, beta 1, wanda: perplexity_ratio": 1.5,
}


@pytest.fixture
def of_wang() -> pd.DataFrame:
    return pd.read_csv(paths.PUBLISHED / "emp.csv")


def test_figures_of_the_effective_number_stand_beside_means_over_our_seeds(of_wang: pd.DataFrame) -> None:
    reproduced = tables.validate("reproductions", reproductions.of_effective(of_wang, EFFECTIVE))
    assert reproduced["published"].to_list() == of_wang["value"].to_list()
    assert reproduced["row"].to_list() == (of_wang["row"] + ": " + of_wang["quantity"]).to_list()
    measured = reproduced[reproduced["ours"].notna()].set_index("row")
    assert measured["ours"].to_dict() == pytest.approx(WANG)
    ratios = measured.index.str.endswith("perplexity_ratio")
    assert set(measured.loc[ratios, "unit"]) == {"times"}
    assert set(measured.loc[~ratios, "unit"]) == {"per cent"}


def test_only_the_networks_trained_as_in_the_paper_share_its_protocol(of_wang: pd.DataFrame) -> None:
    reproduced = reproductions.of_effective(of_wang, EFFECTIVE)
    same = {row.split(",")[0] for row in reproduced.loc[reproduced["same_protocol"], "row"]}
    assert same == {"FC2 MNIST"}
    absent = reproduced["ours"].isna()
    assert set(reproduced.loc[absent, "note"]) == {"not measured here"}
    assert not reproduced.loc[absent, "same_protocol"].any()
    assert "not measured here" not in set(reproduced.loc[~absent, "note"])
    every = pd.DataFrame([_effective(f"mnist_{net}", dense=0.9) for net in ("fc2_100", "fc5_1000", "fc12_1000")])
    reproduced = reproductions.of_effective(of_wang, pd.concat([every, EFFECTIVE]))
    same = {row.split(",")[0] for row in reproduced.loc[reproduced["same_protocol"], "row"]}
    assert same == {"FC2 MNIST", "FC5 MNIST", "FC12 MNIST"}


def test_printed_accuracies_are_those_of_the_networks_trained_alike(of_wang: pd.DataFrame) -> None:
    printed = reproductions.printed_accuracies(of_wang)
    assert set(printed["model"]) == {"mnist_fc2_100", "mnist_fc5_1000", "mnist_fc12_1000"}
    names = {"mnist_fc2_100": "FC2 MNIST", "mnist_fc5_1000": "FC5 MNIST", "mnist_fc12_1000": "FC12 MNIST"}
    values = of_wang[of_wang["quantity"] == "pruned_accuracy_pct"].set_index("row")["value"]
    assert len(printed) == values.index.str.contains(r"^FC\d+ MNIST").sum()
    for row in printed.to_dict("records"):
        assert 100 * row["pruned"] == pytest.approx(values[f"{names[row['model']]}, beta {row['beta']:g}"])


def test_quantities_stand_side_by_side_in_the_order_they_are_printed() -> None:
    rows = pd.DataFrame(
        [
            ("b, beta 2: y", 3.0, 4.0),
            ("b, beta 2: x", 1.0, 2.0),
            ("a, beta 1: y", 5.0, 6.0),
            ("a, beta 1: x", 7.0, 8.0),
        ],
        columns=["row", "published", "ours"],
    )
    wide = reproductions.side_by_side(rows)
    assert list(wide.index) == ["b, beta 2", "a, beta 1"]
    assert wide.columns.get_level_values(0).to_list() == ["y", "y", "x", "x"]
    assert wide.columns.get_level_values(1).to_list() == ["published", "ours", "published", "ours"]
    assert wide.to_numpy().tolist() == [[3, 4, 1, 2], [5, 6, 7, 8]]
