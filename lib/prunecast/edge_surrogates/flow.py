"""Flow through the graph as a model of the loss: one coefficient an edge as published, or a small matrix an edge."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from prunecast.edge_surrogates.multilinear import Arrays, Multilinear
from prunecast.errors import UserError
from prunecast.graph.structure import Graph, Masks, Numbers
from prunecast.seeding import generator

BATCH = 32  # masks at a time in training, as published
EPOCHS = 3000  # as published
MOST_STEPS = 20_000  # with more masks than the published protocol has, training ends after this number of batches
LEARNING_RATE = 1e-3  # of Adam, as published
PENALTY = 0.3  # of the squared distances of the parameters with channels from the prior, beside one mask
NOISE = 0.1  # size of what is added to the prior for the channels to differ
ITERATIONS = 200  # of L-BFGS
TOGETHER = 512  # masks at a time where there is no batch


def observations(graph: Graph, masks: ArrayLike, losses: ArrayLike) -> tuple[Masks, Numbers]:
    """Observed masks and their losses as arrays.

    Args:
        graph: The graph.
        masks: Booleans (n, edges), true for an edge that stays.
        losses: Losses (n,) in nats.

    Returns:
        The same.

    Raises:
        UserError: There are none, there is not one finite loss a mask, or a mask is not one boolean an edge.
    """
    kept, values = graph.checked(masks), np.asarray(losses, float)
    if values.shape != (len(kept),) or not len(kept):
        raise UserError(
            f"a surrogate is fitted on one loss a mask, but there are {len(kept)} masks and losses of the "
            f"shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise UserError(f"{int((~np.isfinite(values)).sum())} of {len(values)} losses of masks are not finite")
    return kept, values


@dataclass(frozen=True)
class Scale:
    """The line between losses in nats and targets: 1 for the smallest loss that was trained with, 0 for the largest.

    Attributes:
        least: Smallest loss in nats.
        width: Largest loss less the smallest, in nats.
    """

    least: float
    width: float

    @classmethod
    def of(cls, losses: ArrayLike) -> "Scale":
        """The scale of some losses; its width is 1 nat where they are all the same."""
        values = np.asarray(losses, float)
        return cls(float(values.min()), float(np.ptp(values)) or 1.0)

    def targets(self, losses: ArrayLike) -> Numbers:
        """Targets of losses in nats."""
        return 1 - (np.asarray(losses, float) - self.least) / self.width

    def losses(self, targets: ArrayLike) -> Numbers:
        """Losses in nats of targets."""
        return self.least + (1 - np.asarray(targets, float)) * self.width


class Adam:
    """The optimiser Adam, without PyTorch, which takes longer to start a step than the step takes here.

    Args:
        parameters: Parameters, changed in place.
        rate: Learning rate.
    """

    def __init__(self, parameters: Numbers, rate: float):
        self.parameters, self.rate, self.steps = parameters, rate, 0
        self.mean, self.square = np.zeros_like(parameters), np.zeros_like(parameters)

    def step(self, gradient: Numbers) -> None:
        """Change the parameters by one step against the gradient."""
        self.steps += 1
        self.mean += 0.1 * (gradient - self.mean)
        self.square += 0.001 * (gradient**2 - self.square)
        scale = np.sqrt(self.square / (1 - 0.999**self.steps)) + 1e-8
        self.parameters -= self.rate / (1 - 0.9**self.steps) * self.mean / scale


class Flow:
    """The surrogate of the source study: what is left of a unit of flow from the input to the output.

    The coefficients of the edges leaving a vertex are a softmax, so that all edges together carry the flow of 1. They
    are trained by Adam to give 1 less the loss, scaled to between 0 and 1, with batches of 32 masks.

    Args:
        graph: The graph.
        seed: Seed of the order of the masks in training.

    Attributes:
        logits: Logits of the coefficients (edges,).

    Source: Ivanov and Bakhteev, "Few-shot Structural Neural Network Pruning Using Computational Graph Information",
        with the sizes of their public code.
    """

    def __init__(self, graph: Graph, seed: int):
        self.graph, self.seed = graph, seed
        self.logits: Numbers = np.zeros(len(graph.edges))
        self._paths = Multilinear(graph)

    @property
    def coefficients(self) -> Numbers:
        """Coefficients of the edges (edges,)."""
        powers: Numbers = np.exp(self.logits - self.logits.max(initial=0))
        return powers / self._leaving(powers)

    def _leaving(self, numbers: Numbers) -> Numbers:
        """For each edge, the sum of some numbers over the edges that leave the same vertex."""
        sources = self._paths.sources
        return np.asarray(np.bincount(sources, numbers, self._paths.vertices)[sources], float)

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:
        """Train on masks (n, edges) and their losses (n,) in nats."""
        observed, values = observations(self.graph, masks, losses)
        kept, self.scale = _columns(observed), Scale.of(values)
        targets = self.scale.targets(values).astype(np.float32)
        self.logits = np.zeros(len(self.graph.edges))
        optimizer = Adam(self.logits, LEARNING_RATE)
        for rows in batches(len(targets), EPOCHS, generator(self.seed, "flow")):
            optimizer.step(self._gradient(kept[:, :, rows], targets[rows]))
        return self

    def _gradient(self, masks: Arrays, targets: Arrays) -> Numbers:
        """Gradient of the mean squared error with respect to the logits."""
        coefficients = self.coefficients
        matrices = coefficients.astype(np.float32)[:, None, None]
        values = self._paths.values(masks, matrices)
        error = values[self._paths.output] - targets
        found = self._paths.gradient(masks, matrices, values, error * np.float32(2 / len(targets)))[:, 0, 0]
        return coefficients * (found - self._leaving(coefficients * found))

    def predict(self, masks: ArrayLike) -> Numbers:
        """Forecast the losses (m,) in nats of masks (m, edges)."""
        return self.scale.losses(self.graph.flow(masks, self.coefficients))


def _columns(masks: Masks) -> Arrays:
    return np.ascontiguousarray(masks.T[:, None], np.float32)


def batches(count: int, epochs: int, draws: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches of 32 in a new order in each epoch, 20,000 of them at most.

    Args:
        count: Number of masks.
        epochs: Passes over them.
        draws: What the orders are drawn from.

    Yields:
        Numbers of the masks of a step.
    """
    steps = 0
    for _ in range(epochs):
        order = draws.permutation(count)
        for start in range(0, count, BATCH):
            if steps == MOST_STEPS:
                return
            steps += 1
            yield order[start : start + BATCH]


class ChannelFlow:
    """A multilinear flow with several channels: a vector a vertex, a matrix an edge, a linear readout and a constant.

    Its loss is the mean squared error of the target of `Scale`, plus the squared distances of the parameters from
    those with which every vertex gives the mean of what its edges carry, so that edges start out alike and with all of
    them the forecast is the smallest loss. It starts near these, and is minimised by L-BFGS.

    Args:
        graph: The graph.
        seed: Seed of the parameters that training starts from.
        channels: Length of the vector of a vertex.

    Source: a tensor network along the graph as in TN-SHAP-G, arXiv 2606.01540; prior and training are our own.
    """

    def __init__(self, graph: Graph, seed: int, channels: int = 2):
        self.graph, self.seed, self.channels = graph, seed, channels
        self._paths = Multilinear(graph)

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:
        """Train on masks (n, edges) and their losses (n,) in nats."""
        observed, values = observations(self.graph, masks, losses)
        kept, self.scale = _columns(observed), Scale.of(values)
        targets = self.scale.targets(values)
        into = np.bincount(self._paths.targets)[self._paths.targets].astype(float)[:, None, None]
        eye, ones = np.eye(self.channels), np.ones(self.channels)
        prior = self._packed(eye / into, ones / self.channels, 0.0)
        weights = self._packed(into**2 * np.ones_like(eye), ones * self.channels, 0.0) * PENALTY / len(targets)
        noise = generator(self.seed, "channel flow").normal(size=(len(into), *eye.shape)) * NOISE / into
        start = prior + self._packed(noise, 0 * ones, 0.0)

        def objective(parameters: Numbers) -> tuple[float, Numbers]:
            error, gradient = self._error(parameters, kept, targets)
            distance = parameters - prior
            return error + float(weights @ distance**2), gradient + 2 * weights * distance

        options = {"maxiter": ITERATIONS, "maxcor": 20}
        self.parameters: Numbers = minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x
        return self

    def _error(self, parameters: Numbers, masks: Arrays, targets: Numbers) -> tuple[float, Numbers]:
        """Mean squared error, and its gradient with respect to the parameters."""
        matrices, readout, constant = self._unpacked(parameters)
        of_matrices, of_readout = np.zeros(matrices.shape), np.zeros(self.channels)
        misses = np.empty(len(targets))
        for start in range(0, len(targets), TOGETHER):
            part = slice(start, start + TOGETHER)
            values = self._paths.values(masks[:, :, part], matrices)
            output = values[self._paths.output]
            misses[part] = readout @ output + constant - targets[part]
            slopes = 2 / len(targets) * misses[part]
            of_output = (readout[:, None] * slopes).astype(np.float32)
            of_matrices += self._paths.gradient(masks[:, :, part], matrices, values, of_output)
            of_readout += output @ slopes
        return float((misses**2).mean()), self._packed(of_matrices, of_readout, 2 * float(misses.mean()))

    def predict(self, masks: ArrayLike) -> Numbers:
        """Forecast the losses (m,) in nats of masks (m, edges)."""
        kept = _columns(self.graph.checked(masks))
        matrices, readout, constant = self._unpacked(self.parameters)
        return self.scale.losses(readout @ self._paths.values(kept, matrices)[self._paths.output] + constant)

    def _packed(self, matrices: Numbers, readout: Numbers, constant: float) -> Numbers:
        return np.concatenate([matrices.ravel(), readout, [constant]])

    def _unpacked(self, parameters: Numbers) -> tuple[Arrays, Numbers, float]:
        matrices = parameters[: -self.channels - 1].reshape(-1, self.channels, self.channels).astype(np.float32)
        return matrices, parameters[-self.channels - 1 : -1], float(parameters[-1])
