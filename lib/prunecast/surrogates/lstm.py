"""The LSTM surrogate: it walks along the thresholds and says how much accuracy is left at each."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from prunecast.seeds import seed_everything
from prunecast.surrogates.features import CONTEXT, Curves

HIDDEN = 32
STEPS = 400
LEARNING_RATE = 0.01


class LSTMSurrogate:
    """One LSTM layer of 32 units over the threshold sequence, read by one linear unit.

    Inputs at each threshold: the threshold, the sparsity it causes, and the five context features. Output: the share
    of the way from majority to dense accuracy that is left, between 0 and 1. Trained with Adam on the squared error in
    accuracy, 400 full-batch steps; the absolute error has a trap, the constant median of a mostly flat curve. The
    source study publishes neither size nor inputs of its LSTM.
    """

    def __init__(self, seed: int = 0):
        self.seed = seed

    def fit(self, curves: Curves, seen: np.ndarray) -> "LSTMSurrogate":
        """Train on the points that `seen` (C, T) marks."""
        seed_everything(self.seed, "lstm")
        self.network = _Network()
        target, mask = torch.from_numpy(curves.accuracy).float(), torch.from_numpy(seen)
        optimiser = torch.optim.Adam(self.network.parameters(), LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for _ in range(STEPS):
            loss = functional.mse_loss(self.network(curves)[mask], target[mask])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        return self

    def predict(self, curves: Curves) -> np.ndarray:
        """Forecast accuracy (C, T)."""
        with torch.inference_mode():
            return self.network(curves).double().numpy()


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2 + len(CONTEXT), HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, curves: Curves) -> torch.Tensor:
        states, _ = self.lstm(_inputs(curves))
        left = self.head(states).squeeze(-1).sigmoid()
        dense, majority = (
            torch.from_numpy(level).float() for level in (curves.dense_accuracy, curves.majority_accuracy)
        )
        return majority + (dense - majority) * left


def _inputs(curves: Curves) -> torch.Tensor:
    steps = curves.sparsity.shape
    thresholds = np.broadcast_to(curves.thresholds / 10, steps)[..., None]
    context = np.broadcast_to(curves.context[:, None], (*steps, len(CONTEXT)))
    return torch.from_numpy(np.concatenate([thresholds, curves.sparsity[..., None], context], -1)).float()
