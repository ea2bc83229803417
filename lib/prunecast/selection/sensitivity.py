"""Sensitivity of each part of a model to pruning: the accuracy that is lost when this part alone is pruned."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from prunecast.errors import check_epsilon, check_ratios
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import logits
from prunecast.models.inputs import batch_of, device_of
from prunecast.progress import track
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import MAXIMUM, cut, pruned_counts, rank
from prunecast.pruning.units import Unit, units_of
from prunecast.sweeps.curve_metrics import safe_sparsity
from prunecast.sweeps.proxies import sample
from prunecast.sweeps.recalibration import ModelPruner

RATIOS = (0.3, 0.5, 0.7, 0.9)
SAMPLED = 64  # unlabelled examples of a forecast


@dataclass(frozen=True)
class Sensitivity:
    """How sensitive each unit of a model is.

    Attributes:
        rows: Rows of the table `sensitivity`, one for each unit and ratio.
        dense_accuracy: Accuracy without pruning, as a fraction.
        sampled: Number of unlabelled examples of the forecast.
        evaluations: What the measurement took beside the dense evaluation, in evaluations of all examples; 0 where
            nothing was measured.
        forecast_evaluations: What the forecast alone takes, in the same unit.
        seconds: Time of both, without loading the model and its dense evaluation.
    """

    rows: pd.DataFrame
    dense_accuracy: float
    sampled: int
    evaluations: int
    forecast_evaluations: float
    seconds: float


def measure(
    subject: TrainedModel, dense: Tensor, ratios: Sequence[float] = RATIOS, sampled: int = SAMPLED, whole: bool = True
) -> Sensitivity:
    """Prune each unit of a model alone, at each ratio, and record what the accuracy loses and what is forecast.

    In a unit the weights of smallest magnitude of each matrix are set to zero. The forecast of the loss reads no label:
    over a few examples it is the mean difference of two probabilities that the dense model gives, that of its own class
    and that of the class which the pruned model chooses. It is 0 where both agree on every example.

    Args:
        subject: The model, recalibrated where it has images for that; weights and statistics are restored.
        dense: Logits (n, classes) of all examples without pruning.
        ratios: Shares of the weights of each matrix of the unit that are set to zero, as fractions.
        sampled: Number of examples of the forecast; all where there are fewer.
        whole: Whether the loss is measured on all examples; else only the forecast is made.

    Returns:
        The sensitivity of all units; measured accuracies are empty where nothing was measured.

    Raises:
        UserError: A ratio does not lie between 0 and 1.

    Source: Li et al. (2017), "Pruning Filters for Efficient ConvNets", section 3.2, and Han et al. (2015), "Learning
    both Weights and Connections for Efficient Neural Networks", for the sensitivity of single layers. Forecast: the
    expected accuracy of a classifier whose probabilities are calibrated; Guo et al. (2017), "On Calibration of Modern
    Neural Networks".
    """
    started, steps = time.monotonic(), sorted(set(check_ratios(ratios)))
    examples, labels = subject.examples, subject.examples.labels
    units = units_of(subject.model, subject.weights, batch_of(examples, torch.tensor([0]), device_of(subject.model)))
    rows = torch.from_numpy(sample(examples, sampled, subject.seed))
    evaluated = torch.arange(len(examples)) if whole else rows
    of_sample = rows if whole else torch.arange(len(rows))
    accuracy = float((dense.argmax(1) == labels).double().mean())
    probabilities, dense_classes = dense[rows].softmax(1), dense[rows].argmax(1)
    records = []
    with track(label=f"pruning {len(units)} units", total=len(units) * len(steps)) as bar:
        for unit in units:
            weights = {name: subject.weights[name] for name in unit.weights}
            ranking = rank(weights, magnitude, "layer")
            with ModelPruner(subject.model, weights, magnitude, ranking.groups, subject.recalibrate_on) as pruner:
                for ratio in steps:
                    counts = pruned_counts(ranking, "percentile", round(ratio * MAXIMUM, 6))
                    pruner.prune(cut(ranking, counts))
                    classes = logits(subject.model, examples, evaluated).argmax(1)
                    there = classes[of_sample]
                    own, other = (probabilities.gather(1, each[:, None]) for each in (dense_classes, there))
                    measured = float((classes == labels).double().mean()) if whole else np.nan
                    records.append(
                        {
                            **_described(unit, ratio),
                            "pruned": sum(counts.values()),
                            "accuracy": measured,
                            "lost": accuracy - measured,
                            "agreement": float((there == dense_classes).double().mean()),
                            "forecast": float((own - other).mean()),
                        }
                    )
                    bar.update()
    total = sum(unit.parameters for unit in units)
    table = pd.DataFrame(records).assign(model=subject.name, task=subject.task.name, seed=subject.seed)
    table = table.assign(share=table["parameters"] / total, eval_examples=len(examples), sampled=len(rows))
    return Sensitivity(
        rows=table,
        dense_accuracy=accuracy,
        sampled=len(rows),
        evaluations=len(table) if whole else 0,
        forecast_evaluations=len(table) * len(rows) / len(examples),
        seconds=time.monotonic() - started,
    )


def within(rows: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """The largest tested ratio of each unit up to which no tested one loses more than `epsilon`.

    Args:
        rows: Rows of the table `sensitivity` of one model.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        A row a unit, in the order of the model, with the columns unit, kind, matrices, parameters, share, and
        `forecast` and `measured`, the two ratios as fractions; 0 where no tested ratio is within epsilon, and empty
        where nothing was measured. `channel_ratio` belongs to the measured ratio, or else to the forecast one.

    Raises:
        UserError: If epsilon does not lie between 0 and 1.
    """
    check_epsilon(epsilon)
    found = []
    for unit, own in rows.groupby("unit", sort=False):
        forecast, measured = (_largest(own["ratio"], own[column], epsilon) for column in ("forecast", "lost"))
        chosen = forecast if np.isnan(measured) else measured
        channels = own.set_index("ratio")["channel_ratio"].to_dict()
        first = own.iloc[0]
        found.append(
            {
                "unit": unit,
                **first[["kind", "matrices", "parameters", "share"]].to_dict(),
                "forecast": forecast,
                "measured": measured,
                "channel_ratio": channels.get(chosen, 0.0 if first["parts"] else np.nan),
            }
        )
    return pd.DataFrame(found)


def _described(unit: Unit, ratio: float) -> dict[str, object]:
    return {
        "unit": unit.name,
        "kind": unit.kind,
        "matrices": len(unit.weights),
        "parameters": unit.parameters,
        "parts": unit.parts,
        "ratio": ratio,
        "channel_ratio": unit.parts_removed(ratio) / unit.parts if unit.parts else np.nan,
    }


def _largest(ratios: "pd.Series[float]", lost: "pd.Series[float]", epsilon: float) -> float:
    if lost.isna().any():
        return np.nan
    curve = pd.DataFrame({"sparsity": [0.0, *ratios], "accuracy": [0.0, *-lost]})
    return safe_sparsity(curve, epsilon)
