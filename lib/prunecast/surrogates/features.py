"""Curves as arrays: what a surrogate is given, and what it is to forecast."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

CONTEXT = ("dense accuracy", "majority accuracy", "classes (log)", "prunable weights (log)", "layer scope")


@dataclass(frozen=True)
class Curves:
    """C curves on one axis at T thresholds each.

    `names` (C) are pairs of model and scope; `thresholds` (T) run from 0 to 10; `sparsity` and `accuracy` are (C, T)
    fractions; `context` (C, 5) holds what is known of each model without pruning it, in the order of `CONTEXT`.
    """

    axis: str
    names: list[tuple[str, str]]
    thresholds: np.ndarray
    sparsity: np.ndarray
    accuracy: np.ndarray
    context: np.ndarray

    @property
    def models(self) -> np.ndarray:
        """Model of each curve (C)."""
        return np.array([model for model, _ in self.names])

    @property
    def dense_accuracy(self) -> np.ndarray:
        """Accuracy before pruning, as a column (C, 1)."""
        return self.context[:, [0]]

    @property
    def majority_accuracy(self) -> np.ndarray:
        """Accuracy of the commonest class, as a column (C, 1)."""
        return self.context[:, [1]]

    def at(self, rows: np.ndarray) -> "Curves":
        """The curves that the boolean array `rows` (C) marks."""
        names = [name for name, keep in zip(self.names, rows, strict=True) if keep]
        return Curves(self.axis, names, self.thresholds, self.sparsity[rows], self.accuracy[rows], self.context[rows])


def curves_on(axis: str, sweeps: pd.DataFrame, models: pd.DataFrame) -> Curves:
    """All magnitude curves of `models` in `sweeps` on one axis, with the context that `models` gives."""
    wanted = (sweeps["axis"] == axis) & (sweeps["criterion"] == "magnitude") & sweeps["model"].isin(models["model"])
    chosen = sweeps[wanted].sort_values(["model", "scope", "threshold"])
    wide = chosen.pivot(index=["model", "scope"], columns="threshold", values=["sparsity", "accuracy"])
    facts = models.set_index("model").loc[wide.index.get_level_values("model")]
    context = np.column_stack(
        [
            facts["dense_accuracy"],
            facts["majority_accuracy"],
            np.log10(facts["classes"]),
            np.log10(facts["prunable_parameters"]) / 10,
            wide.index.get_level_values("scope") == "layer",
        ]
    ).astype(float)
    accuracy = wide["accuracy"]
    return Curves(
        axis,
        list(wide.index),
        accuracy.columns.to_numpy(),
        wide["sparsity"].to_numpy(),
        accuracy.to_numpy(),
        context,
    )
