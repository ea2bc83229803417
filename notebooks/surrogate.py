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
# ---

# %% [markdown]
# # The surrogate
#
# Can a pruning curve be forecast without measuring it? The study this book starts from says that an LSTM maps
# thresholds to accuracy with a mean absolute error of {glue:text}`published_mae:.4f`, {glue:text}`published_gain:.0%`
# better than a straight line. It does not say how its models were split into training and test. This page trains such
# an LSTM on the curves of one study and shows how much the answer depends on that split.
#
# - **You will need** the page {doc}`collect_sweeps`.
# - **You will learn** why a split by points flatters, and which trivial forecasts any surrogate must beat.
# - **Run time**: a minute or two.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the tables go to
sweeps_from: str = "laptop"  # study to learn from: a run of this machine, or one under data/measured
seed: int = 0  # seed of the LSTM, of the split by points and of the bootstrap

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue
from prunecast import curves, figures, paths, tables
from prunecast.pruning.masks import AXES
from prunecast.surrogates import features, leaderboard, protocols
from prunecast.surrogates.baselines import MeanCurve, StraightLine
from prunecast.surrogates.lstm import LSTMSurrogate

figures.use_house_style()

# %% tags=["hide-input"]
claims = pd.read_csv(paths.PUBLISHED / "lstm_surrogate.csv").set_index("quantity")["value"]
glue("published_mae", float(claims["validation_mae"]), display=False)
glue("published_gain", float(claims["improvement_over_linear"]), display=False)
glue("published_models", int(claims["models"]), display=False)

# %%
models = tables.read("models", paths.tables(sweeps_from))
models = models[curves.learned(models)]
sweeps = tables.read("sweeps", paths.tables(sweeps_from))
on_axes = {axis: features.curves_on(axis, sweeps, models) for axis in AXES}

# %% [markdown]
# ## Two ways to split
#
# **By points**: a fifth of the points of every curve is hidden and forecast from the others. The neighbours of every
# hidden point are known, so this is interpolation. **By model** (leave one model out): a whole model is hidden. Only
# this says anything about a model never measured.
#
# The LSTM has one layer of {glue:text}`lstm_units` units. At each threshold it sees the threshold, the sparsity it
# causes, and what is known of the model before pruning: dense and majority accuracy, number of classes, number of
# prunable weights, scope. The straight line sees the threshold alone; the mean curve averages the other curves.

# %%
surrogates = {"lstm": lambda: LSTMSurrogate(seed), "straight_line": StraightLine, "mean_curve": MeanCurve}
predictions = {axis: protocols.forecast(known, surrogates, seed) for axis, known in on_axes.items()}
_ = tables.write("predictions", predictions["percentile"], paths.outputs(run))
board = leaderboard.errors(pd.concat(predictions.values()), models, seed)

# %% [markdown]
# ## Look
#
# The first table gives the mean absolute error (MAE) in accuracy on the percentile axis, with a 90 % bootstrap interval
# over models, the gain over the straight line (the share of its error that is avoided), and the error in each segment
# of the curve. The second compares the three axes.

# %% tags=["hide-input"]
named = board.rename(columns={"low": "5 %", "high": "95 %"})
figures.table(named.xs("percentile", level="axis"), precision=4)

# %% tags=["hide-input"]
figures.table(board["mae"].unstack("axis")[list(AXES)], precision=4)

# %% tags=["hide-input"]
from prunecast.surrogates.lstm import HIDDEN

glue("lstm_units", HIDDEN, display=False)
glue("models_learned_from", len(models), display=False)
for protocol in protocols.PROTOCOLS:
    for name in ("mae", "low", "high", "gain"):
        glue(f"{protocol}_{name}", float(board.loc[(protocol, "percentile", "lstm"), name]), display=False)

# %% [markdown]
# In {numref}`fig-forecasts` each panel is a model that the surrogates had never seen. Where a line leaves the grey
# curve, the forecast is wrong; look above all at where the fall begins.

# %% mystnb={"figure": {"caption": "Forecasts for models left out of training, percentile axis, global scope. Grey and thick: measured.", "name": "fig-forecasts"}, "image": {"alt": "One panel a model: the measured curve in thick grey, and over it the forecasts of the LSTM, the straight line and the mean curve."}} tags=["hide-input"]
unseen = predictions["percentile"].query("protocol == 'leave_one_model_out' and scope == 'global'")
figure, panels = figures.grid_of_panels(list(models["model"]))
for name, panel in panels:
    figures.draw_forecasts(panel, unseen[unseen["model"] == name])
figure.supxlabel("threshold, tens of per cent")
figure.supylabel("accuracy")
figures.legend_above(figure)

# %% tags=["hide-input"]
notes = {
    "points": f"split by points; {len(models)} models instead of 17; axis and inputs are our choice",
    "leave_one_model_out": f"split by model; {len(models)} models instead of 17; axis and inputs are our choice",
}
ours = board["mae"].xs(("percentile", "lstm"), level=("axis", "surrogate"))[list(notes)]
rows = {"row": [f"validation MAE, {protocol}" for protocol in notes], "ours": ours.to_list(), "note": notes.values()}
paper = {"source": "Predicting Model Performance Under Pruning", "table": "abstract", "unit": "accuracy, fraction"}
reproductions = pd.DataFrame(rows).assign(**paper, published=claims["validation_mae"], same_protocol=False)
_ = tables.write("reproductions", reproductions, paths.outputs(run))
figures.table(reproductions.set_index("row")[["published", "ours", "note"]], precision=4)

# %% [markdown]
# ## What this shows
#
# - Split by points, the LSTM's error is {glue:text}`points_mae:.4f` (90 % interval {glue:text}`points_low:.4f` to
#   {glue:text}`points_high:.4f`), {glue:text}`points_gain:.0%` better than the straight line. Split by model it is
#   {glue:text}`leave_one_model_out_mae:.4f` ({glue:text}`leave_one_model_out_low:.4f` to
#   {glue:text}`leave_one_model_out_high:.4f`), {glue:text}`leave_one_model_out_gain:.0%` better. Published is
#   {glue:text}`published_mae:.4f` with {glue:text}`published_models` models and an undisclosed split.
# - These {glue:text}`models_learned_from` models are few, and some share a task: the interval over models is wide,
#   and none of these figures is a reproduction in the strict sense.

# %% [markdown]
# ## Exercises
#
# 1. Learn from real classifiers: `prunecast run surrogate -p sweeps_from=campaign`. Take your time. What changes?
# 2. On the sigma axis all errors look better. Use the columns by segment to explain why.
# 3. Give the LSTM another seed. Is the spread larger or smaller than the interval over models?
