import numpy as np
import pandas as pd
from prunecast.plotting import deployment
from prunecast.pruning import schedules
from read_back import check, lines, marks


def test_plans_are_what_the_schedules_plan() -> None:
    figure = deployment.draw_plans(0.8)
    check(figure, ["gradual", "one-shot", "iterative", "regrow"])
    for name, line in zip(deployment.SCHEDULES, lines(figure.axes[0]), strict=True):
        np.testing.assert_array_equal(line[:, 1], [schedules.planned(name, share, 0.8) for share in line[:, 0]])


def test_every_run_and_the_mean_of_each_schedule_are_shown() -> None:
    runs = [("none", 0.5), ("one_shot", 0.7), ("one_shot", 0.8), ("dense", 0.9)]
    outcomes = pd.DataFrame(runs, columns=["schedule", "accuracy"]).assign(model="sst2_minilm", dense_accuracy=0.88)
    figure = deployment.draw_schedules(outcomes)
    check(figure, ["a run", "mean", "before pruning"], ("sst2 minilm",))
    (panel,) = figure.axes
    names = [tick.get_text() for tick in panel.get_xticklabels()]
    assert names == ["none", "one-shot", "iterative", "gradual", "regrow", "dense"]
    places = [(names.index(name.replace("_", "-")), accuracy) for name, accuracy in runs]
    np.testing.assert_array_equal(np.concatenate(marks(panel)), places)
    means, dense = lines(panel)
    np.testing.assert_allclose(means[~np.isnan(means[:, 1])], [(0, 0.5), (1, 0.75), (5, 0.9)])
    assert set(dense[:, 1]) == {0.88}


def test_cells_are_times_over_the_dense_time_of_the_same_layer_and_call() -> None:
    timed = pd.DataFrame(
        [(64, 8, "dense", 2.0), (64, 8, "2:4", 5.0), (128, 8, "2:4", 3.0), (128, 8, "dense", 6.0)],
        columns=["features", "vectors", "kernel", "latency_us_median"],
    )
    panel, _ = deployment.draw_break_even(timed).axes
    assert [text.get_text() for text in panel.texts] == ["2.5", "0.5"]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["64", "128"]


def test_bars_are_measured_medians_and_whiskers_measured_percentiles() -> None:
    forms = [("dense", 1, 8.0, 10.0, 20.0), ("sparse_kernel", 1, 4.0, 5.0, 5.5)]
    forms += [("dense", 32, 90.0, 100.0, 900.0), ("sparse_kernel", 32, 100.0, 200.0, 220.0)]
    columns = ["label", "batch", "latency_ms_p10", "latency_ms_median", "latency_ms_p90"]
    figure = deployment.draw_costs(pd.DataFrame(forms, columns=columns))
    check(figure, [], ("batch 1", "batch 32"))
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["dense", "sparse kernel"]
    for panel, unit, rows in zip(figure.axes, (10, 100), (forms[:2], forms[2:]), strict=True):
        assert [bar.get_width() for bar in panel.patches] == [median / unit for _, _, _, median, _ in rows]
        *whiskers, level = lines(panel)
        for whisker, (_, _, low, _, high) in zip(whiskers, rows, strict=True):
            ends = whisker[:, 0][~np.isnan(whisker[:, 0])]
            np.testing.assert_allclose([ends.min(), ends.max()], [low / unit, high / unit])
        assert set(level[:, 0]) == {1}
        assert panel.get_xlim() == (0, 2.6)  # by the largest median, twice the dense one


def test_the_meter_shows_every_repeat() -> None:
    metered = pd.DataFrame({"work": ["inference", "idle"] * 2, "repeat": [0, 0, 1, 1], "joules": [3.0, 0.0, 3.1, 0.1]})
    figure = deployment.draw_meter(metered)
    check(figure, ["inference", "idle"])
    np.testing.assert_array_equal(marks(figure.axes[0]), [metered[["repeat", "joules"]]])
    assert figure.axes[0].get_ylim()[0] == 0
    assert figure.get_supylabel() == "energy, joules"


def test_the_front_has_every_candidate_and_those_trained_on_are_opaque() -> None:
    rows = [("dense", "none", 1.0, 0.9), ("masked", "none", 1.0, 0.6), ("removed", "none", 0.5, 0.7)]
    rows += [("removed", "gradual", 0.5, 0.8), ("sparse_kernel", "gradual", 1.2, 0.7)]
    candidates = pd.DataFrame(rows, columns=["form", "schedule", "latency", "accuracy"]).assign(panel="small_one")
    larger = pd.DataFrame([("dense", "none", 1.0, 0.95, "large")], columns=list(candidates))
    figure = deployment.draw_front(pd.concat([candidates, larger], ignore_index=True), "latency", {"algorithm_1": 3})
    series = ["dense", "masked", "removed", "removed, trained on", "sparse kernel, trained on"]
    check(figure, [*series, "front", "dense accuracy"], ("small one", "large"))
    panel, other = figure.axes
    np.testing.assert_array_equal(marks(panel), [candidates[["latency", "accuracy"]]])
    np.testing.assert_array_equal(marks(other), [larger[["latency", "accuracy"]]])
    assert {line[0][1] for line in (lines(panel)[1], lines(other)[1])} == {0.9, 0.95}
    assert [color[3] for color in panel.collections[0].get_facecolors()] == [0.35, 0.35, 0.35, 1, 1]
    front = lines(panel)[0]
    assert {tuple(point) for point in front} >= {(0.5, 0.7), (0.5, 0.8), (1.0, 0.9)}
    (note,) = panel.texts
    assert (note.get_text(), *note.xy) == ("algorithm 1", 0.5, 0.8)


def test_searches_show_the_mean_over_seeds_and_all_seeds_as_a_band() -> None:
    values = {"guided": [0.2, 0.5, 0.8], "nsga2": [0.1, 0.1, 0.4], "random": [0.0, 0.3, 0.3]}
    rows = [
        (name, seed, at, value * at) for name, of in values.items() for seed, value in enumerate(of) for at in (1, 2)
    ]
    searches = pd.DataFrame(rows, columns=["search", "seed", "evaluations", "hypervolume"]).assign(model="cola_minilm")
    figure = deployment.draw_searches(searches)
    check(figure, ["guided", "NSGA-II", "random"], ("cola minilm",))
    (panel,) = figure.axes
    for (_, of), line, band in zip(values.items(), lines(panel), panel.collections, strict=True):
        np.testing.assert_allclose(line, np.outer([1, 2], [1, np.mean(of)]))
        corners = {tuple(np.round(corner, 9)) for corner in band.get_paths()[0].vertices}
        assert corners == {(1, min(of)), (1, max(of)), (2, 2 * min(of)), (2, 2 * max(of))}


def test_printed_and_measured_changes_share_a_row() -> None:
    quantities = ["accuracy_pct", "cpu_latency_ms", "flops_billion"]
    index = [f"{quantity}: relative_change_pct" for quantity in quantities]
    changes = pd.DataFrame({"published": [2.0, -30.0, -50.0], "ours": [-1.0, -42.0, -50.0]}, index=index)
    figure = deployment.draw_reproductions(changes)
    check(figure, ["printed", "measured here"])
    (panel,) = figure.axes
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["accuracy", "CPU latency", "operations"]
    wanted = [*zip(changes["published"], range(3), strict=True), *zip(changes["ours"], range(3), strict=True)]
    np.testing.assert_array_equal(marks(panel), [wanted])
