"""The LSTM surrogate: a sequence model over thresholds whose output is the retained accuracy at each."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from prunecast.seeding import seed_everything
from prunecast.surrogates.features import FREE, CurveSet, Forecast, inputs, through_known, without_interval

HIDDEN = 32
STEPS = 300
LEARNING_RATE = 0.01
WEIGHT_DECAY = 1e-3
JITTER = 0.3  # standard deviation of the noise on a curve's inputs, in their own standard deviations
STRIDE = 2  # thresholds from one step of a sequence to the next
MEMBERS = 3


class LSTMSurrogate:
    """The mean of three LSTMs, each one layer of 32 units over every second threshold, with one linear output unit.

    Inputs at each threshold: log-odds of the sparsity, and the zero-cost proxies of `groups`. Output: the share of
    the way from majority to dense accuracy that is left, between 0 and 1, corrected to pass through the dense
    accuracy. Trained on the absolute error by AdamW, 300 full-batch steps with a cosine schedule; at each step one
    draw of noise is added to all inputs of a curve, since there are few curves. The source study publishes neither
    size nor inputs of its LSTM.

    Attributes:
        seed: Seed of initialisation and noise.
        groups: Names of the inputs, as in `features.inputs`.
        mean: Mean of each of the F inputs over the training curves (F).
        deviation: Their standard deviation (F).
        members: The trained networks.
    """

    def __init__(self, seed: int = 0, groups: Sequence[str] = FREE):
        self.seed, self.groups = seed, tuple(groups)

    def fit(self, curves: CurveSet) -> "LSTMSurrogate":
        """Train on the points of `curves` whose accuracy is known; returns the surrogate itself."""
        raw = inputs(curves, self.groups)
        self.mean, self.deviation = raw.mean((0, 1)), raw.std((0, 1)) + 1e-6
        self.members = [self._trained(curves, member) for member in range(MEMBERS)]
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast the accuracy (C, T) of `curves`, without an interval; of known points only the dense one is used."""
        x = self._scaled(curves)
        with torch.inference_mode():
            left = torch.stack([_at_every_threshold(network, x) for network in self.members]).mean(0)
        dense_known = curves.knowing(np.zeros(curves.accuracy.shape, bool))
        return without_interval(through_known(curves.accuracy_of(left.double().numpy()), dense_known))

    def state(self) -> dict[str, torch.Tensor]:
        """Scaling and weights of all members, as tensors by name."""
        scaling = {"mean": torch.from_numpy(self.mean), "deviation": torch.from_numpy(self.deviation)}
        members = {
            f"member{index}.{name}": tensor
            for index, network in enumerate(self.members)
            for name, tensor in network.state_dict().items()
        }
        return scaling | members

    def restore(self, state: dict[str, torch.Tensor]) -> "LSTMSurrogate":
        """Load the scaling and weights of a fitted surrogate with the same inputs.

        Args:
            state: Result of `state` of that surrogate.

        Returns:
            The surrogate itself, ready to forecast.
        """
        self.mean, self.deviation = (state[name].numpy() for name in ("mean", "deviation"))
        self.members = []
        for index in range(MEMBERS):
            with torch.device("meta"):  # no random numbers are drawn for weights that are then replaced
                network = _Network(len(self.mean))
            prefix = f"member{index}."
            own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
            network.load_state_dict(own, assign=True)
            self.members.append(network.eval())
        return self

    def _trained(self, curves: CurveSet, member: int) -> "_Network":
        seed_everything(self.seed, "lstm", str(member))
        x, known = self._scaled(curves), torch.from_numpy(~np.isnan(curves.accuracy))
        left = torch.from_numpy(np.nan_to_num(curves.retained)).float()
        network = _Network(x.shape[-1])
        optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for step in range(STEPS):
            part = slice(step % STRIDE, None, STRIDE)
            moved = x[:, part] + JITTER * torch.randn(len(x), 1, x.shape[-1])
            error = (network(moved) - left[:, part])[known[:, part]].abs().mean()
            optimiser.zero_grad()
            error.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        return network.eval()

    def _scaled(self, curves: CurveSet) -> torch.Tensor:
        return torch.from_numpy((inputs(curves, self.groups) - self.mean) / self.deviation).float()


class _Network(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(x)
        logits: torch.Tensor = self.head(states).squeeze(-1)
        return logits.sigmoid()


def _at_every_threshold(network: _Network, x: torch.Tensor) -> torch.Tensor:
    """Retained share (C, T) at every threshold, from sequences of every second one that start one threshold apart."""
    left = torch.empty(x.shape[:2])
    for start in range(STRIDE):
        left[:, start::STRIDE] = network(x[:, start::STRIDE])
    return left
