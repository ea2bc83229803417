from itertools import product

import numpy as np
import pandas as pd
from prunecast.plotting import effective_number
from prunecast.pruning.effective_number import preserved_at_least
from read_back import check, lines, marks


def _rows() -> pd.DataFrame:
    """Rows of `emp.csv`: two models at two betas with two seeds."""
    keys = pd.DataFrame(
        list(product(["mnist_fc2", "mnist_fc5"], [0.5, 1.0], [0, 1])), columns=["model", "beta", "seed"]
    )
    accuracy = 0.5 + np.arange(len(keys)) / 20
    measured = {
        "pruned": accuracy,
        "magnitude_at_same_sparsity": accuracy - 0.1,
        "random_at_same_sparsity": accuracy - 0.2,
    }
    scores = {"sparsity": accuracy / 2, "preserved": accuracy, "optimum": accuracy, "dense": 0.95}
    kinds = {"criterion": ["magnitude", "taylor"] * 4, "granularity": ["global", "global", "layer", "layer"] * 2}
    return keys.join(pd.DataFrame(measured | scores | kinds))


def test_the_bound_is_the_theorem_and_the_crosses_are_the_rows() -> None:
    figure = effective_number.draw_bound(_rows())
    check(figure, ["bound", "any choice of the highest", "measured"])
    bound, highest = lines(figure.axes[0])
    np.testing.assert_array_equal(highest[:, 0], highest[:, 1])
    wanted = [preserved_at_least(round(1000 * share), 1000) for share in bound[:, 0]]
    np.testing.assert_array_equal(bound[:, 1], wanted)
    np.testing.assert_array_equal(
        marks(figure.axes[0]), [np.column_stack([1 - _rows()["sparsity"], _rows()["preserved"]])]
    )


def test_betas_show_the_mean_over_seeds_beside_what_is_printed() -> None:
    printed = pd.DataFrame({"model": ["mnist_fc5"], "beta": [1.0], "pruned": [0.8]})
    figure = effective_number.draw_betas(_rows(), printed)
    labels = ["as the rule keeps them, by magnitude", "as many at random", "printed", "dense"]
    check(figure, labels, ("mnist fc2", "mnist fc5"))
    for (_, rows), panel in zip(_rows().groupby("model"), figure.axes, strict=True):
        *series, dense = lines(panel)
        means = rows.groupby("beta")[["pruned", "random_at_same_sparsity"]].mean()
        np.testing.assert_allclose(series, [np.column_stack([means.index, means[column]]) for column in means])
        assert set(dense[:, 1]) == {0.95}
    assert marks(figure.axes[0]) == []
    np.testing.assert_array_equal(marks(figure.axes[1]), [[(1.0, 0.8)]])


def test_the_rule_is_set_against_the_optimum_of_each_curve() -> None:
    figure = effective_number.draw_recommended(_rows())
    check(figure, ["global scope", "layer scope"])
    wanted = _rows().sort_values("granularity", kind="stable")[["optimum", "sparsity"]]
    np.testing.assert_array_equal(marks(figure.axes[0]), [wanted])


def test_each_criterion_stands_beside_its_controls() -> None:
    figure = effective_number.draw_criteria(_rows())
    check(figure, ["by the criterion", "by magnitude, same sparsity", "by random, same sparsity"])
    (places,) = marks(figure.axes[0])
    columns = ["pruned", "magnitude_at_same_sparsity", "random_at_same_sparsity"]
    np.testing.assert_allclose(places[:, 1], np.concatenate([0.95 - _rows()[column] for column in columns]))
    np.testing.assert_array_equal(np.round(places[:, 0]), [0, 1] * 12)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["magnitude", "taylor"]


def test_images_are_shown_under_their_names() -> None:
    images = {"photograph": np.ones((2, 3, 3)), "channel, at random": np.zeros((2, 3, 3))}
    figure = effective_number.draw_images(images)
    check(figure, [], tuple(images))
    for image, panel in zip(images.values(), figure.axes, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), image)
