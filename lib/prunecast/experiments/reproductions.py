"""Published figures on selection and on the effective number beside ours, as rows of `reproductions`."""

from typing import Any

import pandas as pd

from prunecast.edge_experiments.edge_scores import SIZES, beside_printed, of_predictions
from prunecast.experiments.three_regimes import decisions
from prunecast.landscape.regimes import cells
from prunecast.landscape.rules import NAIVE

COMPRESSION = 5.5  # times fewer prunable parameters: 82 % sparsity
PARENTS = {  # our models by pretrained parent and task
    "mpnet-base": {"sst2": "sst2_mpnet_base", "cola": "cola_mpnet_base"},
    "MiniLM": {"sst2": "sst2_minilm", "cola": "cola_minilm"},
}
UNITS = {
    "pct": "per cent",
    "millions": "millions",
    "billion": "billions",
    "ms": "ms",
    "joule": "J",
    "mcc": "correlation",
}
DENSE, PRUNED = "{} before pruning", "{} with 5.5 times fewer prunable parameters, trained on"
COUNTERPARTS = {  # of rows of tables 1 to 3; the other models were not measured here
    "BERT-base reference": DENSE.format("mpnet-base"),
    "BERT-base": DENSE.format("mpnet-base"),
    "MiniLM": DENSE.format("MiniLM"),
    "BERT-base pruned": PRUNED.format("mpnet-base"),
    "Pruned": PRUNED.format("mpnet-base"),
}
CHANGES = {  # columns of the table `costs` by quantity of table 4
    "accuracy_pct": "accuracy",
    "flops_billion": "flops_effective",
    "cpu_latency_ms": "latency_ms_median",
    "energy_joule": "energy_j",
}
UNIT_FACTORS = {"accuracy": 100.0, "flops_effective": 1e-9, "latency_ms_median": 1.0, "energy_j": 1.0}

NOT_MEASURED = "not measured here"
STRUCTURE_SOURCE = "Ivanov and Bakhteev, Surrogate-based Neural Network Structural Pruning, draft"
EDGE_SURROGATES = {  # ours, by printed name
    "Graph": "flow", "FCN": "fcn", "Linear": "leave_one_out", "L1": "activation_norm", "Taylor": "taylor",
    "Reachability": "reachability",
}  # fmt: skip
REGIMES_SOURCE = "Zhou, Yang, Chang and Mahoney, A Three-regime Model of Network Pruning, ICML 2023, arXiv 2305.18383"


def beside_paper(
    published: pd.DataFrame,
    models: pd.DataFrame,
    candidates: pd.DataFrame,
    schedules: pd.DataFrame,
    costs: pd.DataFrame,
) -> pd.DataFrame:
    """Published figures on compression and selection beside those of our models.

    Args:
        published: Figures of Smarts, Selvaraj and Kuthadi (2025), with the columns source, table, row, quantity, value.
        models: Rows of the table `models`; like candidates and schedules, of all `PARENTS`.
        candidates: Rows of the table `candidates`, of which those of the dense models are read.
        schedules: Rows of the table `schedules`.
        costs: Rows of the table `costs`, of the first parent.

    Returns:
        Rows of the table `reproductions`, one for each published figure and in its unit.
    """
    of_models, of_costs = _of_models(models, candidates, schedules), _of_costs(costs)
    rows = []
    for figure in published.to_dict("records"):
        if figure["table"] == "table 4":
            ours = of_costs.get((figure["row"], figure["quantity"]))
            note = "mpnet-base, parts removed and trained on; latency at batch 1, joules at batch 32"
        else:
            note = COUNTERPARTS.get(figure["row"], "")
            ours = of_models.get((note, figure["quantity"]))
        quantity = figure["quantity"] if figure["table"] != "table 4" else figure["row"]
        unit = (
            "per cent" if figure["quantity"] == "relative_change_pct" else UNITS.get(quantity.split("_")[-1], "times")
        )
        rows.append(
            {"source": figure["source"], "table": figure["table"], "row": f"{figure['row']}: {figure['quantity']}"}
            | {"published": figure["value"], "ours": ours, "unit": unit, "same_protocol": False}
            | {"note": NOT_MEASURED if ours is None or pd.isna(ours) else note}
        )
    return pd.DataFrame(rows).astype({"ours": float})


OURS = {  # beside a row of Wang et al.: model, granularity, whether the protocol is theirs, and a note
    "FC2 MNIST": ("mnist_fc2_100", "global", True, "last epoch, not the best on the test set"),
    "FC5 MNIST": ("mnist_fc5_1000", "global", True, "last epoch, not the best on the test set"),
    "FC12 MNIST": ("mnist_fc12_1000", "global", True, "last epoch, not the best on the test set"),
    "VGG16 CIFAR10": ("cifar10_vgg16", "global", False, "fewer epochs, with batch norms, output layer kept whole"),
    "KAN MNIST": ("mnist_kan", "node", False, "another training; nodes scored by attribution"),
    "GPT-2 124M": ("wikitext2_gpt2", "head", False, "a far smaller GPT-2 trained on WikiText-2 alone"),
    "LLama-7b": ("wikitext2_gpt2", "row", False, "a far smaller GPT-2 trained on WikiText-2 alone, attention included"),
}


def of_effective(published: pd.DataFrame, emp: pd.DataFrame) -> pd.DataFrame:
    """Published figures on effective model pruning beside means over our seeds.

    Args:
        published: Figures of Wang et al. (2026), with the columns source, table, row, quantity, value.
        emp: Rows of the table `emp`.

    Returns:
        Rows of the table `reproductions`, one for each published figure and in its unit.
    """
    rows = []
    for figure in published.to_dict("records"):
        name, beta, criterion = _parts(figure["row"])
        model, granularity, same, note = OURS.get(name, ("", "", False, NOT_MEASURED))
        chosen = emp[(emp["model"] == model) & (emp["granularity"] == granularity) & (emp["criterion"] == criterion)]
        ours = _quantities(chosen[chosen["beta"] == beta]).get(figure["quantity"])
        unit = "times" if figure["quantity"] == "perplexity_ratio" else "per cent"
        measured = ours is not None and not pd.isna(ours)
        rows.append(
            {"source": figure["source"], "table": figure["table"], "row": f"{figure['row']}: {figure['quantity']}"}
            | {"published": figure["value"], "ours": ours if measured else None, "unit": unit}
            | {"same_protocol": same and measured, "note": note if measured else NOT_MEASURED}
        )
    return pd.DataFrame(rows).astype({"ours": float})


def _parts(row: str) -> tuple[str, float, str]:
    """Network, beta and criterion of a row of Wang et al.; the criterion is printed for language models alone."""
    name, beta, criterion = [*row.split(", "), "attribution" if "KAN" in row else "magnitude"][:3]
    return name, float(beta.removeprefix("beta ")), criterion


def side_by_side(rows: pd.DataFrame) -> pd.DataFrame:
    """Published and own figures as a table with a row for each model.

    Args:
        rows: Rows of the table `reproductions` whose column `row` has the form "model: quantity".

    Returns:
        For each quantity the columns published and ours; models and quantities in the order of the rows.
    """
    parts = rows["row"].str.extract(r"(?P<what>.*): (?P<quantity>.*)").join(rows[["published", "ours"]])
    quantities = list(dict.fromkeys(parts["quantity"]))
    wide = parts.pivot(index="what", columns="quantity", values=["published", "ours"]).swaplevel(axis=1)
    columns = [(quantity, whose) for quantity in quantities for whose in ("published", "ours")]
    return wide.loc[list(dict.fromkeys(parts["what"])), columns]


def printed_accuracies(published: pd.DataFrame) -> pd.DataFrame:
    """Printed accuracies of the networks that are trained here as in the paper.

    Args:
        published: Figures of Wang et al. (2026), with the columns source, table, row, quantity, value.

    Returns:
        The columns model, beta, and pruned, the accuracy as a fraction.
    """
    chosen = published[(published["quantity"] == "pruned_accuracy_pct") & published["row"].str.contains(" MNIST, beta")]
    parts = chosen["row"].str.extract(r"(.*), beta (.*)")
    models = parts[0].map({name: model for name, (model, _, same, _) in OURS.items() if same})
    return pd.DataFrame({"model": models, "beta": parts[1].astype(float), "pruned": chosen["value"] / 100}).dropna()


def _quantities(rows: pd.DataFrame) -> dict[str, float]:
    """Quantities of Wang et al. from rows of `emp` of one model, criterion and beta."""
    if rows.empty:
        return {}
    mean: Any = rows.select_dtypes("number").mean()
    return {
        "sparsity_pct": 100 * mean["sparsity"],
        "n_eff_share_pct": 100 * mean["n_eff"] / mean["entries"],
        "dense_accuracy_pct": 100 * mean["dense"],
        "pruned_accuracy_pct": 100 * mean["pruned"],
        "perplexity_ratio": mean["pruned"] / mean["dense"],
    }


def compressed(schedules: pd.DataFrame, model: str) -> pd.DataFrame:
    """Runs of one model at 82 % sparsity with the settings that lost least accuracy on average over the seeds.

    Args:
        schedules: Rows of the table `schedules`.
        model: Name of the model.

    Returns:
        The rows of these settings, with two seeds or more; none if there are no such settings.
    """
    ratio = 1 - 1 / COMPRESSION
    runs = schedules[(schedules["model"] == model) & ((schedules["sparsity"] - ratio).abs() < 0.005)]
    settings = ["removed", "schedule", "scope", "epochs", "examples", "learning_rate", "distilled"]
    groups = [part for _, part in runs.groupby(settings) if len(part) > 1]
    return max(groups, key=lambda part: part["accuracy"].mean()) if groups else runs.iloc[:0]


def _of_models(models: pd.DataFrame, candidates: pd.DataFrame, schedules: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Our figures for tables 1 to 3, by the kind of model and the quantity."""
    ours: dict[tuple[str, str], float] = {}
    figures: Any
    for parent, (task, model) in ((parent, item) for parent, of in PARENTS.items() for item in of.items()):
        is_dense, is_pruned = DENSE.format(parent), PRUNED.format(parent)
        dense: Any = candidates[(candidates["model"] == model) & (candidates["form"] == "dense")].iloc[0]
        pruned: Any = compressed(schedules, model)[["accuracy", "f1", "matthews"]].mean()
        for kind, figures in ((is_dense, dense), (is_pruned, pruned)):
            ours[kind, f"{task}_accuracy_pct"] = 100 * figures["accuracy"]
            ours[kind, f"{task}_f1_pct"] = 100 * figures["f1"]
            ours[kind, f"{task}_mcc"] = figures["matthews"]
        if task == "sst2":
            ours[is_dense, "compression"], ours[is_pruned, "compression"] = 1.0, COMPRESSION
            ours[is_dense, "parameters_millions"] = dense["parameters"] / 1e6
            ours[is_dense, "top1_error_pct"] = 100 * (1 - dense["accuracy"])
            ours[is_pruned, "top1_error_pct"] = 100 * (1 - pruned["accuracy"])
            prunable: Any = models.set_index("model").loc[model, "prunable_parameters"]
            left = dense["parameters"] - prunable * (1 - 1 / COMPRESSION)
            ours[is_pruned, "parameters_millions"] = left / 1e6
    return ours


def _of_costs(costs: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Our figures for table 4: SST-2, latency at batch 1 and energy at batch 32, both forms from one run."""
    chosen = costs[costs["model"] == PARENTS["mpnet-base"]["sst2"]].sort_values("sparsity")
    both: Any = [chosen[chosen["form"] == form].groupby("batch").last() for form in ("dense", "removed")]
    ours: dict[tuple[str, str], float] = {}
    for row, name in CHANGES.items():
        place = -1 if name == "energy_j" else 0  # of the batch sizes, in their order
        first, last = (UNIT_FACTORS[name] * float(form[name].iloc[place]) for form in both)
        ours |= {
            (row, "original"): first,
            (row, "pruned"): last,
            (row, "relative_change_pct"): 100 * (last / first - 1),
        }
    return ours


def of_regimes(paper: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """What the published grid and ours say, as rows of the table `reproductions`.

    Args:
        paper: The published grid, as of `three_regimes.published`.
        ours: Rows of the table `regimes` of a measured study; those that vary epochs are read.

    Returns:
        The rows, with errors in points.
    """
    printed, measured = (_of_grid(cells(rows)) for rows in (paper, ours[ours["temperature_kind"] == "epochs"]))
    return pd.DataFrame(
        {
            "source": REGIMES_SOURCE,
            "table": "figure 2, digitised",
            "row": list(printed),
            "published": list(printed.values()),
            "ours": list(measured.values()),
            "unit": ["points", "points", "points", "fraction"],
            "same_protocol": False,
            "note": "PreResNet-8, fewer and smaller images and fewer epochs, other densities",
        }
    )


def _of_grid(table: pd.DataFrame) -> dict[str, float]:
    last = table.groupby("density").tail(1)
    costs = decisions(table, {name: NAIVE[name] for name in ("always colder", "highest CKA")}).groupby("rule")["regret"]
    return {
        "cost of the most epochs beside the best, largest over densities": 100 * last["gap"].max(),
        "cost of the highest CKA beside the best epochs, mean over densities": 100 * costs.mean()["highest CKA"],
        "cost of the highest CKA beside the best epochs, largest over densities": 100 * costs.max()["highest CKA"],
        "linear mode connectivity, lowest in the grid": table["lmc"].min(),
    }


def of_structure(printed: pd.DataFrame, predictions: pd.DataFrame, edges: pd.DataFrame) -> pd.DataFrame:
    """Published scores of edge surrogates, beside those of the published predictions and beside ours.

    Args:
        printed: Figures with the columns correlation, surrogate, edges, mean and std.
        predictions: The published predictions, a row for each surrogate and mask.
        edges: Rows of the table `edges`, of random graphs.

    Returns:
        Rows of the table `reproductions`: each mean once as the predictions give it, and once as our surrogates do on
        other networks, judged in the same way.
    """
    table = beside_printed(printed, of_predictions(predictions))
    measured = edges.query(
        "network == 'random_dag' and protocol == 'published' and subset == 'all' and train_keep_rate == 1"
    )
    means = measured.groupby(["surrogate", "iterations"])[["spearman", "kendall_b"]].mean().rename(index=SIZES, level=1)
    ours: dict[Any, Any] = means.rename(columns={"kendall_b": "kendall"}).stack(future_stack=True).to_dict()  # noqa: PD013
    rows, figures = [], dict[Any, Any](table.to_dict("index"))
    for (correlation, surrogate, size), known in figures.items():
        opposite = "; they give the opposite sign" if known["sign"] == "opposite" else ""
        mean = ours.get((EDGE_SURROGATES[surrogate], size, correlation))
        row = {"row": f"{surrogate}, {size} edges: {correlation}", "published": known["printed"], "unit": "correlation"}
        again = {
            "table": "recomputed",
            "ours": known["recomputed"],
            "note": f"from the published predictions{opposite}",
        }
        other = {"table": "measured", "ours": mean, "note": NOT_MEASURED if mean is None else "other networks"}
        rows += [row | again | {"same_protocol": True}, row | other | {"same_protocol": mean is not None}]
    return pd.DataFrame(rows).assign(source=STRUCTURE_SOURCE).astype({"ours": float})
