# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   prunecast:
#     reads:
#       - data/pretrained/surrogate.json
#       - data/pretrained/surrogate.safetensors
#       - data/measured/campaign/models.csv
#       - data/measured/campaign/predictions.csv.gz
#       - data/measured/campaign/forecast_errors.csv
#       - data/measured/campaign/recommendations.csv
#       - data/measured/after_freeze/models.csv
#       - data/measured/after_freeze/sweeps.csv
#       - data/measured/after_freeze/signals.csv.gz
#     writes: []
# ---

# %% [markdown]
# # How far to trust a forecast
#
# A forecast comes with an interval and with a ratio to prune to. How often do they hold for a model unlike those that
# the surrogate was trained on? This page counts it on {doc}`the campaign <campaign>`, and on models that were measured after the
# surrogate had been frozen.
#
# - **You will need** the page {doc}`surrogate`.
# - **You will learn** what an interval covers and what not, and what a recommended ratio leaves unused.
# - **Run time**: seconds; the forecasts were made before, by the page {doc}`protocols`.
# - **Reading**: 8 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the page belongs to
measured: str = "campaign"  # study under data/measured whose forecasts are judged
unseen: list = ["after_freeze"]  # studies under data/measured with models measured after that
epsilon: float = 0.01  # accuracy to give up, of the ratios recommended for these
front: str = "sst2_mpnet_base"  # the one of these whose forecast is shown on the first page of the book
seed: int = 0  # seed of the forecasts that are judged

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue
from prunecast import paths, tables
from prunecast.forecasting import ablation, pretrained
from prunecast.plotting import curves, style
from prunecast.surrogates import features, scores
from prunecast.sweeps import curve_metrics

style.use_style()
predictions, errors, ratios, models = (
    tables.read(name, paths.MEASURED / measured)
    for name in ("predictions", "forecast_errors", "recommendations", "models")
)
first = errors[(errors["inputs"] == ablation.AS_IT_IS) & (errors["axis"] == "percentile") & (errors["seed"] == seed)]
board = first.set_index(["protocol", "surrogate"])

# %% [markdown]
# ## How wide must an interval be?
#
# Each interval is multiplied by what surrogates without the tested group would have needed on every other group, each
# again without that group: a jackknife by groups {cite:p}`barber2021`, with the quantile over one group more than there
# are {cite:p}`lee2023,sesia2020`. Nominal is 90 % for a point anywhere on a curve of a new group. Measured points lie
# where a curve moves, so they are harder than that; on *exact* curves all points are measured. Read the last columns
# before trusting a whole curve: *coverage model* is that of the model, *coverage group* that of the group where it is lowest, and
# *coverage curve* the share of curves of which every measured point lies inside.

# %% tags=["hide-input"]
covers = ["coverage", "coverage_exact", "coverage_model", "coverage_group", "coverage_curve"]
style.table(board.loc[board["coverage"].notna(), covers].T, precision=3)

# %% tags=["hide-input"]
judged = predictions.query("protocol == 'leave_one_architecture_out' and surrogate == 'lstm'")
style.table(scores.by_group(judged, models).astype({"models": int}), precision=3)

# %% [markdown]
# ## A ratio to prune to
#
# How much sparsity is left unused, and how often the accuracy at the recommended ratio is more than
# {glue:text}`epsilon` below the dense one. Without a measurement the forecast is moved down by what nine of ten groups
# of other models would have needed. With measurements only what was measured is recommended; they are simulated on
# the exact curves alone, beside which the first row for *exact* curves stands.

# %% tags=["hide-input"]
ratios = ratios.assign(
    unused=ratios["optimum"] - ratios["recommended"],
    violated=~curve_metrics.within_epsilon(-ratios["loss"], 0, ratios["epsilon"]),
)
by_cost = ratios[ratios["split"] == "leave_one_architecture_out"].groupby(["exact", "measurements", "method"])
style.table(by_cost[["unused", "violated"]].mean().unstack("method"), precision=3)

# %% [markdown]
# ## Models measured after the surrogate was frozen
#
# Size and training of the LSTM, and the curve posterior, were chosen on the folds on which the tables above judge
# them. The surrogate that this book ships was trained on both parts of the campaign; the models below were measured
# after that, and nothing was chosen by them. Most have relatives in the campaign, on other tasks; two stem from a
# pretrained parent that it does not have.

# %%
trained = pretrained.load()
unseen_models, sweeps, signals = (
    pd.concat([tables.read(name, paths.MEASURED / study) for study in unseen], ignore_index=True)
    for name in ("models", "sweeps", "signals")
)
truth = features.curves_on("percentile", sweeps, unseen_models, signals)
new = ablation.beside_measured(trained, truth, epsilon)
style.table(new)

# %% [markdown]
# {numref}`fig-intervals` shows the forecasts for them in global scope. A mark inside the band is covered; where the band
# is as high as the panel, the surrogate says that it cannot say.

# %% mystnb={"figure": {"caption": "Forecasts of the pretrained surrogate with 90 % intervals for models that were measured after it was frozen, global scope, and the points that were measured.", "name": "fig-intervals"}, "image": {"alt": "One panel a model: a falling line inside a band, which is narrow at small sparsity and wide where the accuracy falls, with marks at the measured points."}} tags=["hide-input"]
rows = ablation.forecasts_of(trained, truth).query("scope == 'global'")
_ = curves.draw_intervals(rows, list(unseen_models["model"]))

# %% [markdown]
# {numref}`fig-opening` is the one that opens the book: both scopes of one of these models, the forecast inside its band, the
# recommended sparsity, and the marks that were measured afterwards.

# %% mystnb={"figure": {"caption": "Forecast, interval, recommended sparsity and measured points of one of these models.", "name": "fig-opening"}, "image": {"alt": "Two panels, global and layer scope: a forecast that falls with sparsity inside its band, a vertical dashed line at the recommended sparsity, and marks at the measured points."}} tags=["hide-input"]
shown = ablation.forecasts_of(trained, truth).query("model == @front")
shown["sparsity"] = shown["threshold"] / 10
best = new["recommended"].xs(front, level="model").to_dict()
dense = float(unseen_models.set_index("model").loc[front, "dense_accuracy"])
drawn = curves.draw_prediction(shown, best, dense, shown[shown["measured"]])
what = "The accuracy of a text classifier against the share of its weights that is pruned, in two panels: the forecast inside its band, the points that were measured, and the recommended share."
glue("front", style.picture(drawn, what), display=False)
glue("front_model", front.replace("_", " "), display=False)

# %% tags=["hide-input"]
parents = new.index.get_level_values("model").map(unseen_models.set_index("model")["parent"].fillna("from scratch"))
style.table(new.groupby(parents)[["mae", "all_points", "inside_interval", "recommended", "optimum"]].mean())

# %% tags=["hide-input"]
own = board.loc[("leave_one_architecture_out", "lstm")]
for column in ("coverage", "coverage_exact", "coverage_model", "coverage_curve"):
    glue(column, float(own[column]), display=False)
for column in ("mae", "all_points", "inside_interval"):
    glue(f"new_{column}", float(new[column].mean()), display=False)
glue("new_models", len(unseen_models), display=False)
glue("new_safe", float((new["recommended"] <= new["optimum"]).mean()), display=False)
glue("new_unused", float((new["optimum"] - new["recommended"]).clip(lower=0).mean()), display=False)
glue("epsilon", float(ratios["epsilon"].iloc[0]), display=False)

# %% [markdown]
# ## What this shows
#
# - Of the measured points {glue:text}`coverage:.0%` lie inside their 90 % interval, on exact curves
#   {glue:text}`coverage_exact:.0%`, of one model only {glue:text}`coverage_model:.0%`, and
#   {glue:text}`coverage_curve:.0%` of the curves lie inside as a whole: the interval is one for points.
# - On the {glue:text}`new_models` models measured after the surrogate was frozen its error is
#   {glue:text}`new_mae:.3f` at measured points and {glue:text}`new_all_points:.3f` over the whole curve, and
#   {glue:text}`new_inside_interval:.0%` of the measured points lie inside.
# - The ratio recommended for them is safe on {glue:text}`new_safe:.0%` of their curves and leaves
#   {glue:text}`new_unused:.0%` of the weights in place that could be pruned. For a ratio, measure: {doc}`your_model`.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("coverage", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). An interval covers nine tenths of the points. Why does it cover fewer *whole* curves? And why is that not the nine tenths to the power of the number of points?
#
# :::{dropdown} Solution
# A curve is inside only if its worst point is, so it is easier to miss. If points were independent, the power would be right,
# and hardly any curve would be covered. But errors along a curve go together: a curve that falls earlier than forecast is
# outside at many points, and another one at none.
# :::
#
# **Exercise 2: Change** (10 minutes). Count curves in place of points: in `predictions.csv.gz` of `data/measured/campaign`,
# protocol `leave_one_architecture_out`, surrogate `lstm`, `answer` is the share of curves (a model in a scope) of which *all*
# measured points lie between `lower` and `upper`, the ends included.
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.MEASURED / "campaign" / "predictions.csv.gz")
# rows = rows[
#     (rows["protocol"] == "leave_one_architecture_out")
#     & (rows["surrogate"] == "lstm")
#     & rows["measured"]
# ]
# inside = rows["accuracy"].between(rows["lower"], rows["upper"])
# answer = inside.groupby([rows["model"], rows["scope"]]).all().mean()
# ```
# Whoever needs a promise for whole curves has to calibrate on whole curves, with the largest ratio of each.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write the quantile behind a conformal interval: `quantile(scores, level)` returns the
# smallest of `scores` that a new, exchangeable score does not exceed with a probability of at least `level`. Mind the new
# score itself: of n scores the k-th smallest is wanted, k = ⌈(n + 1) level⌉, and infinity if there are too few. `answer` is
# the function.
#
# :::{dropdown} Solution
# ```python
# import math
#
#
# def quantile(scores, level):
#     place = math.ceil((len(scores) + 1) * level - 1e-9)
#     return sorted(scores)[place - 1] if place <= len(scores) else math.inf
#
#
# answer = quantile
# ```
# The new score is equally likely to take any of the n + 1 places. With fewer than nine scores no finite interval holds nine
# tenths, whatever their values; here the scores are groups of relatives, so their number is small.
# :::
