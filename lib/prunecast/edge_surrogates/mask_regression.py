"""Regressions of the loss on the mask: linear, on pairs of edges, by trees, by parities, by a small network."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve, eigh
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from prunecast.edge_surrogates.flow import LEARNING_RATE, Adam, Scale, batches, observations
from prunecast.graph.structure import Graph, Masks, Numbers
from prunecast.seeding import generator

ALPHAS = np.logspace(-3, 3, 13)  # penalties that leaving out one mask decides between
MOST_LEFT_OUT = 1500  # masks that are left out one by one where this needs the eigenvalues of a matrix of their size
HIDDEN = 10  # units of the small network, as published
NETWORK_EPOCHS = 1000  # as published
TREES = 300  # that are boosted, one after the other
MOST_PARITIES = 600  # that are refitted
ENERGY = 0.95  # of the Fourier coefficients, kept


class Regression:
    """A regressor of scikit-learn on the masks as numbers 0 and 1.

    Args:
        graph: The graph.
        regressor: The unfitted regressor.
    """

    def __init__(self, graph: Graph, regressor: Any):
        self.graph, self.regressor = graph, regressor

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:
        """Fit to masks (n, edges) and their losses (n,) in nats."""
        kept, values = observations(self.graph, masks, losses)
        self.regressor.fit(kept.astype(np.float32), values)
        return self

    def predict(self, masks: ArrayLike) -> Numbers:
        """Forecast the losses (m,) in nats of masks (m, edges)."""
        return np.asarray(self.regressor.predict(self.graph.checked(masks).astype(np.float32)), float)


class SmallNetwork:
    """A network of one hidden layer of ten units on the mask, as the source study has, without its error.

    There, the forecasts (n, 1) were compared with the losses (n,) in all pairs, so that only the mean was learned.
    Training takes 1,000 epochs with Adam, and with many masks no more than 20,000 batches of 32.

    Args:
        graph: The graph.
        seed: Seed of the weights and of the order of the masks.
    """

    def __init__(self, graph: Graph, seed: int):
        self.graph, self.seed = graph, seed

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:
        """Train on masks (n, edges) and their losses (n,) in nats."""
        kept, values = observations(self.graph, masks, losses)
        self.scale = Scale.of(values)
        inputs, targets = kept.astype(float), self.scale.targets(values)
        draws, edges = generator(self.seed, "small network"), kept.shape[1]
        bounds = np.repeat([max(edges, 1) ** -0.5, HIDDEN**-0.5], [(edges + 1) * HIDDEN, HIDDEN + 1])
        parameters = draws.uniform(-bounds, bounds)
        self.first, self.second = parameters[: (edges + 1) * HIDDEN].reshape(-1, HIDDEN), parameters[-HIDDEN - 1 :]
        optimizer = Adam(parameters, LEARNING_RATE)
        for rows in batches(len(kept), NETWORK_EPOCHS, draws):
            hidden = self._hidden(inputs[rows])
            slopes = (hidden @ self.second[:-1] + self.second[-1] - targets[rows]) * (2 / len(rows))
            of_hidden = slopes[:, None] * self.second[:-1] * (hidden > 0)
            of_first = inputs[rows].T @ of_hidden
            optimizer.step(np.concatenate([of_first.ravel(), of_hidden.sum(0), slopes @ hidden, [slopes.sum()]]))
        return self

    def _hidden(self, inputs: Numbers) -> Numbers:
        hidden: Numbers = np.maximum(inputs @ self.first[:-1] + self.first[-1], 0)
        return hidden

    def predict(self, masks: ArrayLike) -> Numbers:
        """Forecast the losses (m,) in nats of masks (m, edges)."""
        hidden = self._hidden(self.graph.checked(masks).astype(float))
        return self.scale.losses(hidden @ self.second[:-1] + self.second[-1])


class PairRidge:
    """Ridge regression on edges and pairs of edges, through the kernel of these features.

    The features are a constant, centred masks and their products; each kind has the same prior variance in all. The
    penalty is the one with the least error where single masks are left out.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: Graph):
        self.graph = graph

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:
        """Fit to masks (n, edges) and their losses (n,) in nats."""
        kept, values = observations(self.graph, masks, losses)
        self.centre, self.level = kept.mean(0), float(values.mean())
        self.width = float(kept.std()) or 1.0
        self.features = self._centred(kept)
        kernel, target = self._kernel(self.features), values - self.level
        some = slice(MOST_LEFT_OUT)
        powers, vectors = eigh(kernel[some, some], driver="evd")
        projected, errors = vectors.T @ target[some], []
        for alpha in ALPHAS**2:
            shrunk = 1 / (np.maximum(powers, 0) + alpha)
            errors.append((((vectors * shrunk) @ projected / (vectors**2 @ shrunk)) ** 2).mean())
        kernel[np.diag_indices(len(kernel))] += ALPHAS[int(np.argmin(errors))] ** 2
        self.weights = cho_solve(cho_factor(kernel, overwrite_a=True), target)
        return self

    def predict(self, masks: ArrayLike) -> Numbers:
        """Forecast the losses (m,) in nats of masks (m, edges)."""
        forecast: Numbers = self.level + self._kernel(self._centred(self.graph.checked(masks))) @ self.weights
        return forecast

    def _centred(self, kept: Masks) -> Numbers:
        return np.asarray((kept - self.centre) / self.width / len(self.graph.edges) ** 0.5)

    def _kernel(self, features: Numbers) -> Numbers:
        """Products of the features of masks with those of the masks that were trained with."""
        single = features @ self.features.T
        kernel: Numbers = 1 + single + single**2 - features**2 @ self.features.T**2
        return kernel


class SparseFourier:
    """A sum of few parities of edges, found by boosted trees and refitted by ridge regression, as ProxySPEX does.

    The trees are a sum of parities, read from them exactly. Those with the largest coefficients, which hold 95 % of
    the sum of squares, become the inputs of the regression; at most 600, and at most half as many as there are masks.

    Args:
        graph: The graph.
        seed: Seed of the trees.

    Source: Butler et al., "ProxySPEX", arXiv 2505.17495.
    """

    def __init__(self, graph: Graph, seed: int):
        self.graph, self.seed = graph, seed

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:
        """Fit to masks (n, edges) and their losses (n,) in nats."""
        kept, values = observations(self.graph, masks, losses)
        state = int(generator(self.seed, "sparse fourier").integers(2**31))
        trees = GradientBoostingRegressor(
            n_estimators=TREES,
            max_depth=5,
            learning_rate=0.05,
            subsample=0.5 if len(kept) > 3 else 1.0,
            max_features=0.3,
            random_state=state,
        ).fit(kept.astype(np.float32), values)
        coefficients: dict[frozenset[int], float] = {}
        for (tree,) in trees.estimators_:
            for parity, value in _parities(tree.tree_, 0).items():
                coefficients[parity] = coefficients.get(parity, 0.0) + value
        coefficients.pop(frozenset(), None)
        ordered = sorted(coefficients, key=lambda parity: (-abs(coefficients[parity]), sorted(parity)))
        energy = np.cumsum([coefficients[parity] ** 2 for parity in ordered])
        few = int(np.searchsorted(energy, ENERGY * energy[-1])) + 1 if len(energy) else 0
        few = min(few, max(len(kept) // 2, 1), MOST_PARITIES)
        self.parities = [sorted(parity) for parity in ordered[:few]] or [[0]]
        self.regression = RidgeCV(ALPHAS).fit(self._inputs(kept), values)
        return self

    def predict(self, masks: ArrayLike) -> Numbers:
        """Forecast the losses (m,) in nats of masks (m, edges)."""
        return np.asarray(self.regression.predict(self._inputs(self.graph.checked(masks))), float)

    def _inputs(self, kept: Masks) -> Numbers:
        signs = 2.0 * kept - 1
        return np.stack([signs[:, parity].prod(1) for parity in self.parities], 1)


def _parities(tree: Any, node: int) -> dict[frozenset[int], float]:
    """Coefficients of the parities whose sum a node of a tree on booleans gives."""
    if tree.children_left[node] < 0:
        return {frozenset(): float(tree.value[node, 0, 0])}
    removed, kept = (_parities(tree, int(side[node])) for side in (tree.children_left, tree.children_right))
    edge = frozenset([int(tree.feature[node])])
    found: dict[frozenset[int], float] = {}
    for parity in removed.keys() | kept.keys():
        low, high = removed.get(parity, 0.0), kept.get(parity, 0.0)
        found[parity] = found.get(parity, 0.0) + (low + high) / 2
        found[parity ^ edge] = found.get(parity ^ edge, 0.0) + (high - low) / 2
    return found


def boosted_trees(seed: int) -> HistGradientBoostingRegressor:
    """Unfitted boosted trees that can be fitted on few masks too, without early stopping."""
    return HistGradientBoostingRegressor(
        max_iter=TREES,
        max_leaf_nodes=15,
        max_features=0.3,
        learning_rate=0.05,
        min_samples_leaf=2,
        early_stopping=False,
        random_state=int(generator(seed, "boosted trees").integers(2**31)),
    )
