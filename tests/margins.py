"""Margins of examples at the points of a made-up pruning curve, for tests of engines and searches."""

import numpy as np
import torch
from numpy.typing import NDArray
from prunecast.models.evaluation import Outcome
from prunecast.sweeps.adaptive import Evaluate, Rows

POINTS, EXAMPLES = 101, 600
Margins = NDArray[np.float64]


def falling(seed: int) -> Margins:
    """Margins (points, examples) of a model that breaks between a third and two thirds of the grid, with noise."""
    choice = np.random.default_rng(seed)
    breaks = choice.normal(POINTS / 2, 6, size=EXAMPLES)
    return (breaks - np.arange(POINTS)[:, None]) / 10 + choice.normal(0, 0.05, size=(POINTS, EXAMPLES))


def flat() -> Margins:
    """Margins of a model that never breaks."""
    return np.full((POINTS, EXAMPLES), 5.0)


def evaluating(margins: Margins) -> Evaluate:
    """The function that an engine or a search asks for outcomes."""

    def evaluate(point: int, rows: Rows) -> Outcome:
        margin = torch.from_numpy(margins[point, rows])
        return Outcome(margin > 0, margin.neg().exp(), margin)

    return evaluate
