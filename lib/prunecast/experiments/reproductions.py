"""The figures of the source studies on selection and on the effective number beside ours: rows of `reproductions`."""

from pathlib import Path
from typing import Any

import pandas as pd

from prunecast import tables

COMPRESSION = 5.5  # times fewer prunable parameters: 82 % sparsity
MODELS = {"sst2": "sst2_minilm", "cola": "cola_minilm"}
UNITS = {
    "pct": "per cent",
    "millions": "millions",
    "billion": "billions",
    "ms": "ms",
    "joule": "J",
    "mcc": "correlation",
}
DENSE, PRUNED = "MiniLM before pruning", "MiniLM with 5.5 times fewer prunable parameters, trained on"
SHOWN = {  # rows of tables 1 to 3 that have a counterpart here; the other models were not measured
    "BERT-base reference": DENSE,
    "BERT-base": DENSE,
    "MiniLM": DENSE,
    "BERT-base pruned": PRUNED,
    "Pruned": PRUNED,
}
CHANGES = {  # quantities of table 4, and what each is called here
    "accuracy_pct": "accuracy",
    "flops_billion": "flops_effective",
    "cpu_latency_ms": "latency_ms_median",
    "energy_joule": "energy_j",
}
FACTORS = {"accuracy": 100.0, "flops_effective": 1e-9, "latency_ms_median": 1.0, "energy_j": 1.0}


def beside_paper(published: pd.DataFrame, folder: Path, schedules: pd.DataFrame) -> pd.DataFrame:
    """Rows of `reproductions` for `published` figures (source, table, row, quantity, value) from a study's tables.

    `schedules` are rows of that table, of any study.
    """
    of_models, of_costs = _of_models(folder, schedules), _of_costs(folder)
    rows = []
    for claim in published.to_dict("records"):
        if claim["table"] == "table 4":
            ours = of_costs.get((claim["row"], claim["quantity"]))
            what = "the model chosen for a phone beside the dense one; latency at batch 1, joules at batch 32"
        else:
            kind = SHOWN.get(claim["row"], "")
            ours = of_models.get((kind, claim["quantity"]))
            what = kind
        quantity = claim["quantity"] if claim["table"] != "table 4" else claim["row"]
        unit = "per cent" if claim["quantity"] == "relative_change_pct" else UNITS.get(quantity.split("_")[-1], "times")
        rows.append(
            {"source": claim["source"], "table": claim["table"], "row": f"{claim['row']}: {claim['quantity']}"}
            | {"published": claim["value"], "ours": ours, "unit": unit, "same_protocol": False}
            | {"note": NOT if ours is None or pd.isna(ours) else what}
        )
    return pd.DataFrame(rows).astype({"ours": float})


NOT = "not measured here"
OURS = {  # what stands beside a row of Wang et al.: model, granularity, whether the protocol is theirs, and a note
    "FC2 MNIST": ("mnist_fc2_100", "global", True, "last epoch, not the best on the test set"),
    "FC5 MNIST": ("mnist_fc5_1000", "global", True, "last epoch, not the best on the test set"),
    "FC12 MNIST": ("mnist_fc12_1000", "global", True, "last epoch, not the best on the test set"),
    "VGG16 CIFAR10": ("cifar10_vgg16", "global", False, "fewer epochs, with batch norms, output layer kept whole"),
    "KAN MNIST": ("mnist_kan", "node", False, "another training; nodes scored by attribution"),
    "GPT-2 124M": ("wikitext2_gpt2", "head", False, "a far smaller GPT-2 trained on WikiText-2 alone"),
    "LLama-7b": ("wikitext2_gpt2", "row", False, "a far smaller GPT-2 trained on WikiText-2 alone, attention included"),
}


def of_effective(published: pd.DataFrame, emp: pd.DataFrame) -> pd.DataFrame:
    """Rows of `reproductions` for figures of Wang et al. (source, table, row, quantity, value) from rows of `emp`.

    Ours are means over seeds.
    """
    rows = []
    for claim in published.to_dict("records"):
        name, beta, criterion = [*claim["row"].split(", "), "attribution" if "KAN" in claim["row"] else "magnitude"][:3]
        model, granularity, same, note = OURS.get(name, ("", "", False, NOT))
        chosen = emp[(emp["model"] == model) & (emp["granularity"] == granularity) & (emp["criterion"] == criterion)]
        ours = _quantities(chosen[chosen["beta"] == float(beta.removeprefix("beta "))]).get(claim["quantity"])
        unit = "times" if claim["quantity"] == "perplexity_ratio" else "per cent"
        measured = ours is not None and not pd.isna(ours)
        rows.append(
            {"source": claim["source"], "table": claim["table"], "row": f"{claim['row']}: {claim['quantity']}"}
            | {"published": claim["value"], "ours": ours if measured else None, "unit": unit}
            | {"same_protocol": same and measured, "note": note if measured else NOT}
        )
    return pd.DataFrame(rows).astype({"ours": float})


def side_by_side(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `reproductions` named "what: quantity" as a table: a row each what, two columns each quantity."""
    parts = rows["row"].str.extract(r"(?P<what>.*): (?P<quantity>.*)").join(rows[["published", "ours"]])
    quantities = list(dict.fromkeys(parts["quantity"]))
    wide = parts.pivot(index="what", columns="quantity", values=["published", "ours"]).swaplevel(axis=1)
    columns = [(quantity, whose) for quantity in quantities for whose in ("published", "ours")]
    return wide.loc[list(dict.fromkeys(parts["what"])), columns]


def printed_accuracies(published: pd.DataFrame) -> pd.DataFrame:
    """The accuracies that Wang et al. print for networks trained here as there: columns model, beta and pruned."""
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
    """Runs of one model at 82 % sparsity, under whatever lost least accuracy on average over at least two seeds."""
    ratio = 1 - 1 / COMPRESSION
    runs = schedules[(schedules["model"] == model) & ((schedules["sparsity"] - ratio).abs() < 0.005)]
    ways = ["removed", "schedule", "scope", "epochs", "examples", "learning_rate", "distilled"]
    groups = [part for _, part in runs.groupby(ways) if len(part) > 1]
    return max(groups, key=lambda part: part["accuracy"].mean()) if groups else runs.iloc[:0]


def _of_models(folder: Path, schedules: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Our figures for tables 1 to 3, by the kind of model and the quantity."""
    candidates = tables.read("candidates", folder)
    found: dict[tuple[str, str], float] = {(DENSE, "compression"): 1.0, (PRUNED, "compression"): COMPRESSION}
    figures: Any
    for task, model in MODELS.items():
        dense: Any = candidates[(candidates["model"] == model) & (candidates["form"] == "dense")].iloc[0]
        pruned: Any = compressed(schedules, model)[["accuracy", "f1", "matthews"]].mean()
        for kind, figures in ((DENSE, dense), (PRUNED, pruned)):
            found[kind, f"{task}_accuracy_pct"] = 100 * figures["accuracy"]
            found[kind, f"{task}_f1_pct"] = 100 * figures["f1"]
            found[kind, f"{task}_mcc"] = figures["matthews"]
        if task == "sst2":
            found[DENSE, "parameters_millions"] = dense["parameters"] / 1e6
            found[DENSE, "top1_error_pct"] = 100 * (1 - dense["accuracy"])
            found[PRUNED, "top1_error_pct"] = 100 * (1 - pruned["accuracy"])
            prunable: Any = tables.read("models", folder).set_index("model").loc[model, "prunable_parameters"]
            left = dense["parameters"] - prunable * (1 - 1 / COMPRESSION)
            found[PRUNED, "parameters_millions"] = left / 1e6
    return found


def _of_costs(folder: Path) -> dict[tuple[str, str], float]:
    """Our figures for table 4: SST-2, latency at batch 1 and energy at batch 32, both forms from one run."""
    chosen: Any = tables.read("selections", folder).query("model == @MODELS['sst2'] and method == 'phone'").iloc[0]
    before = {
        "accuracy": chosen["dense_accuracy"],
        "flops_effective": chosen["flops_effective"] / chosen["flops_ratio"],
        "latency_ms_median": chosen["latency_ms_median"] / chosen["latency_ratio"],
        "energy_j": chosen["energy_j"] / chosen["energy_ratio"],
    }
    found: dict[tuple[str, str], float] = {}
    for row, name in CHANGES.items():
        first, last = FACTORS[name] * before[name], FACTORS[name] * chosen[name]
        found |= {
            (row, "original"): first,
            (row, "pruned"): last,
            (row, "relative_change_pct"): 100 * (last / first - 1),
        }
    return found
