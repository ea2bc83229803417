import numpy as np
import pandas as pd
import pytest
import read_back
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from prunecast.plotting import graph

NAMES = ("input", "block_1", "block_2", "sum", "output")
EDGES = ((0, 1), (0, 2), (1, 3), (2, 3), (0, 3), (3, 4), (3, 4))


def _arrows(figure: Figure) -> list[FancyArrowPatch]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_graph_is_drawn_in_layers_with_the_values_as_widths_and_labels() -> None:
    values = np.array([0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6])
    figure = graph.draw_graph(NAMES, EDGES, values, "coefficient")
    widths = [arrow.get_linewidth() for arrow in _arrows(figure)]
    assert np.argsort(widths).tolist() == np.argsort(values).tolist()
    assert _texts(figure) == [*(f"{value:.2g}" for value in values), "input", "block 1", "block 2", "sum", "output"]
    places = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    layers = [places[name.replace("_", " ")][0] for name in NAMES]
    assert layers == [0, 1, 1, 2, 3]
    assert places["block 1"][1] != places["block 2"][1]
    assert figure.axes[1].get_ylabel() == "coefficient"


def test_negative_values_are_dashed_and_the_colours_centred() -> None:
    figure = graph.draw_graph(NAMES, EDGES, [-1, 2, -3, 4, 0, 1, 1], "gradient")
    assert [arrow.get_linestyle() for arrow in _arrows(figure)] == ["--", "-", "--", "-", "-", "-", "-"]
    assert figure.axes[1].get_ylim() == (-4, 4)


def test_like_edges_do_not_cover_each_other_and_edges_pass_no_vertex() -> None:
    """An edge past two others of the same height would be hidden behind them."""
    figure = graph.draw_graph(NAMES, EDGES, np.ones(7), "coefficient")
    first, second = (arrow.get_path().vertices for arrow in _arrows(figure)[-2:])
    assert np.abs(first[1] - second[1]).max() > 0.01
    chain = graph.draw_graph(NAMES, ((0, 1), (1, 2), (2, 3), (3, 4), (0, 4)), np.ones(5), "coefficient")
    bent = _arrows(chain)[-1].get_path().vertices
    assert np.abs(bent[:3, 1]).max() > 0.3


@pytest.mark.parametrize("edges", [5, 40])
def test_no_label_of_a_graph_is_cut(edges: int) -> None:
    names = [f"a_rather_long_name_{number}" for number in range(edges + 1)]
    chain = [(number, number + 1) for number in range(edges)]
    figure = graph.draw_graph(
        names[:1] + [str(n) for n in range(edges - 1)] + names[-1:], chain, np.ones(edges), "unit"
    )
    figure.draw_without_rendering()
    inside = figure.bbox.padded(1)
    for text in (*figure.axes[0].texts, figure.axes[1].yaxis.label):
        assert inside.containsx(text.get_window_extent().x0)
        assert inside.containsx(text.get_window_extent().x1)


def test_many_edges_are_not_labelled() -> None:
    chain = [(number, number + 1) for number in range(21)]
    assert len(_texts(graph.draw_graph([str(n) for n in range(22)], chain, np.ones(21), "unit"))) == 22


def test_without_any_effect_a_graph_is_still_drawn() -> None:
    assert len(_arrows(graph.draw_graph(("input", "output"), ((0, 1),), [0.0], "unit"))) == 1


def test_masks_are_marked_by_whether_their_output_is_connected() -> None:
    rows = pd.DataFrame({"forecast": [1.0, 2, 3], "true": [0.5, 2.3, 1.0], "connected": [True, False, True]})
    figure = graph.draw_scatter(rows)
    read_back.check(figure, ["output connected", "output disconnected"])
    places = np.concatenate(read_back.marks(figure.axes[0]))
    assert sorted(map(tuple, places)) == sorted(zip(rows["forecast"], rows["true"], strict=True))
    panels = graph.draw_scatter(pd.concat([rows.assign(net="b_1"), rows.assign(net="a_2")]), "net")
    read_back.check(panels, ["output connected", "output disconnected"], ("b 1", "a 2"))


def _costs(names: list[str]) -> pd.DataFrame:
    costs = {name: [0.0] if name == "reachability" else [12.0, 60.0, 240.0] for name in names}
    return pd.DataFrame(
        {"surrogate": name, "evaluations": cost, "mean": 0.5 + cost / 1000, "low": 0.4, "high": 0.8}
        for name in names
        for cost in costs[name]
    )


def test_a_line_a_surrogate_goes_through_its_scores_with_a_band() -> None:
    rows = _costs(["gate_gradient", "reachability"])
    figure = graph.draw_scores_by_cost(rows, "Spearman")
    read_back.check(figure, ["gate gradient", "reachability"])
    (panel,) = figure.axes
    drawn = read_back.lines(panel)
    np.testing.assert_allclose(drawn[0], [[12, 0.512], [60, 0.56], [240, 0.74]])
    np.testing.assert_allclose(drawn[1], [[0, 0.5]])
    assert len(panel.collections) == 2  # a band, and the interval of a single point
    left, right = panel.get_xlim()
    assert left < 0
    assert right > 240


def test_a_dozen_surrogates_are_distinguished_without_colour() -> None:
    names = [f"surrogate_{number}" for number in range(14)]
    rows = pd.concat([_costs(names).assign(size=size) for size in ("10-15", ">100")])
    read_back.check(
        graph.draw_scores_by_cost(rows, "Spearman", "size"), [n.replace("_", " ") for n in names], ("10-15", ">100")
    )


def test_a_heat_map_shows_the_score_of_each_pair_of_keep_rates() -> None:
    rates = [0.5, 0.7, 0.9]
    rows = pd.DataFrame(
        {"surrogate": name, "train_keep_rate": first, "keep_rate": second, "mean": first - second}
        for name in ("ridge", "live_edges")
        for first in rates
        for second in rates
        if (first, second) != (0.5, 0.9)
    )
    figure = graph.draw_transfer(rows, "Spearman")
    assert [panel.get_title() for panel in figure.axes] == ["ridge", "live edges", ""]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [text for text in texts if text] == ["0.00", "-0.20", "0.20", "0.00", "-0.20", "0.40", "0.20", "0.00"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0.5", "0.7", "0.9"]
    assert figure.axes[-1].get_ylabel() == "Spearman"


def _pruned(metric: str = "accuracy") -> pd.DataFrame:
    return pd.DataFrame(
        {"network": "random_dag", "stage": stage, "method": method, "removed": removed, "seed": seed}
        | {"metric": metric, "dense": 0.9, "pruned": 0.9 - 0.01 * removed + 0.02 * seed}
        | {"flops": 100.0 - 10 * removed, "flops_dense": 100.0}
        for stage in ("zero_shot", "fine_tuned")
        for method in ("random", "live_edges", "left out")
        for removed in (0, 2, 4)
        for seed in (0, 1)
    )


def test_pruned_networks_are_lines_through_the_means_over_seeds() -> None:
    labels = {"live_edges": "live edges", "random": "at random"}
    figure = graph.draw_pruned(_pruned(), "flops", labels)
    read_back.check(figure, ["live edges", "at random", "dense"], ("random dag, as pruned", "random dag, fine-tuned"))
    line = max(read_back.lines(figure.axes[0]), key=len)
    np.testing.assert_allclose(line, [[0.6, 0.87], [0.8, 0.89], [1, 0.91]])
    assert figure.get_supylabel() == "accuracy"
    perplexity = graph.draw_pruned(_pruned("perplexity"), "removed", labels)
    assert {panel.get_yscale() for panel in perplexity.axes} == {"log"}
    assert max(read_back.lines(perplexity.axes[0]), key=len)[:, 0].tolist() == [0, 2, 4]
