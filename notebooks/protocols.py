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
#       - tables/models.csv
#       - tables/sweeps.csv
#       - tables/signals.csv.gz
#       - tables/probes.csv.gz
#     writes: [predictions.csv.gz, forecast_errors.csv]
#     all_cores: true
# ---

# %% [markdown]
# # How forecasts are judged
#
# A figure for a forecast means little without its protocol: what was the surrogate trained on, and which data of
# the tested model did it have? This page lets surrogates forecast the curves of one study under several protocols, and
# writes every forecast to a table from which any error can be recomputed.
#
# - **You will need** the pages {doc}`collect_sweeps` and {doc}`zero_cost_proxies`.
# - **You will learn** why a split by points is optimistic, and what a fair one is.
# - **Run time**: about a minute; with the campaign and all splits and seeds, about an hour.
# - **Reading**: 4 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the tables go to
sweeps_from: list = ["laptop"]  # studies to train on and to forecast: runs of this machine, or under data/measured
splits: list = ["points", "leave_one_model_out"]  # also leave_one_architecture_out, _task_, _parent_, vgg16
axes: list = ["sigma", "absolute"]  # axes on which the forecasts are read as well
seeds: list = [0]  # seeds of the surrogates; those after the first give the spread of the LSTM
thorough: bool = False  # also ablation, leak check and recommendations
epsilon: float = 0.01  # accuracy to give up, of the recommendations

# %% tags=["hide-input"]
from functools import partial

import pandas as pd
from myst_nb import glue
from prunecast import paths, tables
from prunecast.forecasting import ablation
from prunecast.plotting import curves, style
from prunecast.pruning.masks import AXES
from prunecast.surrogates import benchmark, features
from prunecast.surrogates.splits import leave_two_groups_out
from prunecast.sweeps import curve_metrics

style.use_style()

# %%
folders = [paths.tables(study) for study in sweeps_from]
models, sweeps, signals = (tables.read_all(name, folders) for name in ("models", "sweeps", "signals"))
models = models[curve_metrics.learned(models)].reset_index(drop=True)
on_axes = {axis: features.curves_on(axis, sweeps, models, signals) for axis in AXES}
percentile = on_axes["percentile"]
outcomes = benchmark.outcomes_of(tables.read_all("probes", folders), percentile.thresholds)

# %% [markdown]
# ## The protocols
#
# **points**: a fifth of the points of every curve is hidden, its neighbours are known. **leave one model out**: a whole
# model is hidden, its relatives are not. **leave one architecture out**: all models that share the architecture or the
# pretrained parent are hidden; **one evaluation** and **few shot** then add measurements of the tested model itself.
# **leave one task out**: all models of the task are hidden. **leave one parent out**: all models fine-tuned from one checkpoint, or all
# trained from scratch. **vgg16**: trained on transformers, tested on convolutional networks.
#
# The straight line is the source study's baseline; {doc}`surrogate` introduces the others.

# %%
families, without_two = curve_metrics.relatives(percentile.facts), {}
if "leave_one_architecture_out" in splits:
    for name in benchmark.CALIBRATED:
        make = partial(benchmark.unfitted, name, seeds[0])
        without_two[name] = leave_two_groups_out(percentile, families, make)
forecasts = [benchmark.forecast(percentile, splits, seeds[0], outcomes, without_two=without_two)]
spread_of = ["leave_one_architecture_out"]
forecasts += [benchmark.forecast(percentile, spread_of, seed, {}, ["lstm"]) for seed in seeds[1:]]
_ = tables.write("predictions", forecasts[0], paths.outputs(run))

# %% [markdown]
# ## The other axes
#
# A forecast over sparsity is read on another axis where the sparsity is the same. The straight line, and the split by
# points, which hides points of one axis, are done anew on each.

# %%
errors = [ablation.summary(rows, models, seeds[0]) for rows in forecasts]
others = [ablation.on_axis(on_axes[axis], forecasts[0], splits, seeds[0]) for axis in axes]
errors += [ablation.summary(rows, models, seeds[0]) for rows in others]
if thorough:
    errors += ablation.input_ablation(percentile, seeds[0], models)
    recommendations = ablation.recommendations(percentile, without_two, seeds[0], epsilon, measurements=5)
    _ = tables.write("recommendations", recommendations, paths.outputs(run))
board = pd.concat(errors, ignore_index=True)
_ = tables.write("forecast_errors", board, paths.outputs(run))

# %% [markdown]
# ## Errors by protocol
#
# Mean absolute error (MAE) in accuracy on the percentile axis, over the measured points of each curve, with a 90 %
# bootstrap interval over groups of relatives where there are five; the error over all points, interpolated ones
# included; the difference from the LSTM; the share of the straight line's error that is avoided; and the error in each
# segment. Compare one surrogate across protocols, not two surrogates within one.

# %% tags=["hide-input"]
first = board[(board["seed"] == seeds[0]) & (board["inputs"] == ablation.AS_IT_IS)].set_index(
    ["protocol", "axis", "surrogate"]
)
columns = ["mae", "low", "high", "all_points", "difference", "gain", "plateau", "transition", "collapsed"]
style.table(first.xs("percentile", level="axis")[columns], precision=3)

# %% tags=["hide-input"]
style.table(first["all_points"].unstack("axis")[["percentile", *axes]], precision=4)

# %% tags=["hide-input"]
glue("models_learned_from", len(models), display=False)
easy, hard = splits[0], splits[1]
for name, protocol in {"easy": easy, "hard": hard}.items():
    glue(name, protocol.replace("_", " "), display=False)
    glue(f"{name}_mae", float(first.loc[(protocol, "percentile", "lstm"), "mae"]), display=False)

# %% [markdown]
# In {numref}`fig-forecasts` each panel is a model that the surrogates had never seen. Where a line leaves the grey
# curve, the forecast is wrong; what matters most is where the fall begins.

# %% mystnb={"figure": {"caption": "Forecasts for models left out of training, percentile axis, global scope. Grey and thick: the sweep.", "name": "fig-forecasts"}, "image": {"alt": "One panel a model: the measured curve in thick grey, and over it the forecasts of the LSTM, the straight line and the mean curve."}} tags=["hide-input"]
drawn = ("lstm", "straight_line", "mean_curve")
unseen = forecasts[0].query("protocol == @hard and scope == 'global' and surrogate in @drawn")
_ = curves.draw_forecasts(unseen, list(models["model"]))

# %% [markdown]
# ## What this shows
#
# - Under *{glue:text}`easy`* the LSTM's error is {glue:text}`easy_mae:.4f`, under *{glue:text}`hard`*
#   {glue:text}`hard_mae:.4f`, on the same {glue:text}`models_learned_from` models. A split by points says how well a
#   curve can be interpolated, one that leaves models out how well one can be forecast.
# - These models are few and were trained on two tasks; the page {doc}`surrogate` judges on the campaign.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("protocols", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). Under the protocol *points* a straight line between the two neighbours of a hidden
# point is hard to beat. Why does that say nothing about a forecast for a model that was never pruned?
#
# :::{dropdown} Solution
# The neighbours of the hidden point are measurements of the same curve at almost the same sparsity. That is interpolation: it
# needs no knowledge of other models. For a new model there are no neighbours, and all has to come from other models and from
# its weights. A split has to hide what will not be there when the forecast is used.
# :::
#
# **Exercise 2: Change** (10 minutes). Recompute an error from `predictions.csv.gz` of `data/measured/campaign` alone: of the
# surrogate `lstm`, take the measured rows, the mean absolute error of each curve (a model in a scope), and the mean over
# curves. Do so for `leave_one_architecture_out` and then for `points`. `answer` is the first divided by the second.
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.MEASURED / "campaign" / "predictions.csv.gz")
# rows = rows[(rows["surrogate"] == "lstm") & rows["measured"]]
# rows = rows.assign(error=(rows["predicted"] - rows["accuracy"]).abs())
# curves = rows.groupby(["protocol", "model", "scope"])["error"].mean()
# errors = curves.groupby("protocol").mean()
# answer = errors["leave_one_architecture_out"] / errors["points"]
# ```
# The surrogate is the same in both; only what it knew of the tested model differs.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write `folds(families)`: a list of pairs (training, test) of lists of indices, such that
# every model is tested exactly once, by a surrogate that saw no model of the same family. `families` is a list with the
# family of each model. `answer` is the function.
#
# :::{dropdown} Solution
# ```python
# def folds(families):
#     places = range(len(families))
#     return [
#         (
#             [place for place in places if families[place] != family],
#             [place for place in places if families[place] == family],
#         )
#         for family in dict.fromkeys(families)
#     ]
#
#
# answer = folds
# ```
# Relatives share weights, data or a recipe. One of them in the training set gives the tested one away.
# :::
