import numpy as np
import pytest
import torch
from prunecast.edge_surrogates.mask_regression import (
    PairRidge,
    Regression,
    SmallNetwork,
    SparseFourier,
    _parities,
    boosted_trees,
)
from prunecast.errors import UserError
from prunecast.graph.structure import Graph
from prunecast.seeding import generator
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import RidgeCV

FAN = Graph(("in", "out"), ((0, 1),) * 6)  # what a mask means is left to the losses
ALL = np.array(list(np.ndindex((2,) * 6)), bool)


def quadratic(masks: np.ndarray) -> np.ndarray:
    kept = masks.astype(float)
    return 2 - 0.7 * kept[:, 0] + 0.4 * kept[:, 1] * kept[:, 2] - 0.9 * kept[:, 3] * kept[:, 5] + 0.2 * kept[:, 4]


def test_ridge_on_pairs_is_exact_on_a_quadratic_function_from_some_masks():
    seen = generator(0, "seen").permutation(64)[:40]  # 6 edges, 15 pairs and a constant are 22 unknowns
    model = PairRidge(FAN).fit(ALL[seen], quadratic(ALL[seen]))
    np.testing.assert_allclose(model.predict(ALL), quadratic(ALL), atol=1e-3)


def test_ridge_on_pairs_is_ridge_on_the_features_that_its_kernel_stands_for():
    masks, draws = ALL[::2], generator(0, "noise")
    losses = quadratic(masks) + draws.normal(0, 0.3, len(masks))
    model = PairRidge(FAN).fit(masks, losses)
    rows, columns = np.triu_indices(6, 1)

    def features(masks: np.ndarray) -> np.ndarray:
        single = model._centred(masks)
        return np.hstack([np.ones((len(masks), 1)), single, 2**0.5 * single[:, rows] * single[:, columns]])

    own = features(masks)
    np.testing.assert_allclose(own @ own.T, model._kernel(model._centred(masks)), atol=1e-12)
    errors = []
    for alpha in np.logspace(-6, 6, 13):
        hat = own @ np.linalg.inv(own.T @ own + alpha * np.eye(own.shape[1])) @ own.T
        errors.append(((((np.eye(len(own)) - hat) @ (losses - losses.mean())) / (1 - np.diag(hat))) ** 2).mean())
    alpha = np.logspace(-6, 6, 13)[int(np.argmin(errors))]
    weights = np.linalg.solve(own.T @ own + alpha * np.eye(own.shape[1]), own.T @ (losses - losses.mean()))
    np.testing.assert_allclose(model.predict(ALL), losses.mean() + features(ALL) @ weights, atol=1e-6)


def test_the_parities_of_a_tree_add_up_to_the_tree():
    losses = generator(0, "tree").random(64)
    trees = GradientBoostingRegressor(n_estimators=1, learning_rate=1, max_depth=3).fit(ALL.astype(np.float32), losses)
    tree = trees.estimators_[0, 0]
    signs = 2.0 * ALL - 1
    total = sum(value * signs[:, sorted(parity)].prod(1) for parity, value in _parities(tree.tree_, 0).items())
    np.testing.assert_allclose(total, tree.predict(ALL.astype(np.float32)))


def test_few_parities_are_found_and_forecast():
    signs = 2.0 * ALL - 1
    losses = 1 + 0.5 * signs[:, 0] - 0.3 * signs[:, 1] * signs[:, 2] * signs[:, 4]
    model = SparseFourier(FAN, 0).fit(np.repeat(ALL, 3, 0), np.repeat(losses, 3))
    assert {tuple(parity) for parity in model.parities[:2]} == {(0,), (1, 2, 4)}
    np.testing.assert_allclose(model.predict(ALL), losses, atol=0.02)


def test_the_small_network_learns_a_function_of_its_class():
    losses = 0.2 + np.maximum(0, 1.5 - ALL @ np.array([0.8, 0.6, 0.4, 0.0, 0.3, 0.2]))
    model = SmallNetwork(FAN, 0).fit(np.repeat(ALL, 4, 0), np.repeat(losses, 4))
    assert ((model.predict(ALL) - losses) ** 2).mean() < 0.01 * losses.var()


def test_the_small_network_is_trained_along_the_gradient_of_torch(monkeypatch):
    monkeypatch.setattr("prunecast.edge_surrogates.mask_regression.NETWORK_EPOCHS", 1)
    found: list[np.ndarray] = []
    monkeypatch.setattr(
        "prunecast.edge_surrogates.mask_regression.Adam.step", lambda self, gradient: found.append(gradient)
    )
    model = SmallNetwork(FAN, 0).fit(ALL[:30], quadratic(ALL[:30]))
    first, second = (torch.tensor(weights, requires_grad=True) for weights in (model.first, model.second))
    hidden = torch.relu(torch.from_numpy(ALL[:30].astype(float)) @ first[:-1] + first[-1])
    targets = torch.from_numpy(model.scale.targets(quadratic(ALL[:30])))
    torch.nn.functional.mse_loss(hidden @ second[:-1] + second[-1], targets).backward()
    np.testing.assert_allclose(found[0], np.concatenate([first.grad.ravel(), second.grad]))


@pytest.mark.parametrize("kind", ["small network", "trees", "parities"])
def test_fits_depend_on_their_seed_alone_and_do_not_touch_the_global_state(kind: str, monkeypatch):
    monkeypatch.setattr("prunecast.edge_surrogates.mask_regression.TREES", 20)

    def fitted(seed: int) -> np.ndarray:
        model = {
            "small network": lambda: SmallNetwork(FAN, seed),
            "trees": lambda: Regression(FAN, boosted_trees(seed)),
            "parities": lambda: SparseFourier(FAN, seed),
        }[kind]()
        return model.fit(ALL[:20], quadratic(ALL[:20])).predict(ALL)

    before = np.random.get_state()[1].copy()  # noqa: NPY002 - what is tested
    np.testing.assert_array_equal(fitted(0), fitted(0))
    assert (fitted(0) != fitted(1)).any()
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize(
    "make",
    [
        lambda: PairRidge(FAN),
        lambda: SparseFourier(FAN, 0),
        lambda: SmallNetwork(FAN, 0),
        lambda: Regression(FAN, boosted_trees(0)),
    ],
    ids=["pairs", "parities", "small network", "trees"],
)
def test_very_few_masks_give_finite_forecasts(make, count: int, monkeypatch):
    monkeypatch.setattr("prunecast.edge_surrogates.mask_regression.TREES", 20)
    forecast = make().fit(ALL[:count], np.arange(count) / 5 + 0.2).predict(ALL)
    assert forecast.shape == (64,)
    assert np.isfinite(forecast).all()


def test_a_loss_that_is_not_finite_is_reported():
    with pytest.raises(UserError, match="1 of 64 losses"):
        Regression(FAN, RidgeCV()).fit(ALL, np.where(np.arange(64) == 3, np.inf, 1.0))
