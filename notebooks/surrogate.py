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
#       - data/published/lstm_surrogate.csv
#       - data/measured/campaign/predictions.csv.gz
#       - data/measured/campaign/forecast_errors.csv
#       - data/measured/both_parts/forecast_errors.csv
#     writes: []
# ---

# %% [markdown]
# # The surrogate
#
# Can a pruning curve be forecast without measuring it? The study this book starts from says that an LSTM maps
# thresholds to accuracy with a mean absolute error of {glue:text}`published_mae:.4f`, {glue:text}`published_gain:.0%`
# better than a straight line. It leaves open the unit of the threshold, the inputs of the LSTM, and how its
# {glue:text}`published_models:.0f` models were split. This page judges such an LSTM on {glue:text}`models:d` models of
# {doc}`the campaign <campaign>`, in every interpretation, beside its cost and beside ten others.
#
# - **You will need** the pages {doc}`zero_cost_proxies` and {doc}`protocols`, which explain inputs and splits.
# - **You will learn** which proxy is worth its cost; how far to trust a forecast is on {doc}`coverage`.
# - **Run time**: seconds; the forecasts were made before, by the page {doc}`protocols`.
# - **Reading**: 10 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the tables go to
measured: str = "campaign"  # study under data/measured whose forecasts are judged
seed: int = 0  # seed of the forecasts that are judged

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue
from prunecast import paths, tables
from prunecast.forecasting import ablation
from prunecast.plotting import curves, style

style.use_style()
predictions, errors = (tables.read(name, paths.MEASURED / measured) for name in ("predictions", "forecast_errors"))
whole = errors[errors["inputs"] == ablation.AS_IT_IS]
board = whole[(whole["axis"] == "percentile") & (whole["seed"] == seed)].set_index(["protocol", "surrogate"])
published = pd.read_csv(paths.PUBLISHED / "lstm_surrogate.csv").set_index("quantity")["value"]

# %% [markdown]
# ## The surrogates
#
# **lstm**: its inputs at each threshold are the sparsity, the depletion of the layers, the number of layers and
# classes, and the scope: nothing that costs a forward pass. **lstm curvature** and **lstm agreement** have one proxy
# more. Each LSTM is the prior of a {term}`curve posterior`, which conditions the forecast on measured points.
# **extra trees**, **gradient boosting** and the **nearest curve** have the inputs of the first LSTM.
# **Gaussian process**, **logistic**, **isotonic** and **mean curve** are fitted to other models' curves alone; the
# **straight line** is the source's baseline, drawn from the dense accuracy on, as every forecast begins there.
# **agreement** is no surrogate at all: dense accuracy times the share of unlabelled examples that are classified as by
# the dense model.
#
# ## Error by protocol
#
# An error is the mean absolute error of a curve over its *measured* points, at which all examples were evaluated, then
# the mean over curves; the dense point is known and not scored. The first four columns measure nothing of the tested
# model: mostly, the fewer of its relatives are trained on, the larger the error. *one evaluation* is judged on examples whose labels the forecast has not used, *one evaluation
# reused* on all. *few shot* gives and judges points of the curves alone on which every point was measured, so compare
# it with the column *exact* of the second table. That table is the LSTM's own, with its 90 % bootstrap interval over
# groups of relatives, the error on the exact curves and, as it would be with interpolated points as truth, on all
# points; the lowest and highest error over seeds, the gain over the straight line, and two segments of the curve.

# %% tags=["hide-input"]
order = ["points", "leave_one_model_out", "leave_one_architecture_out", "leave_one_task_out"]
spent = ["one_evaluation", "one_evaluation_reused", "few_shot_1", "few_shot_3"]
wide = board["mae"].unstack("protocol")[[*order, *spent]]
style.table(wide.sort_values("leave_one_architecture_out"), precision=4)

# %% tags=["hide-input"]
own = board.xs("lstm", level="surrogate").join(ablation.seed_spread(whole, "lstm"))
columns = ["mae", "low", "high", "exact", "all_points", "lowest seed", "highest seed", "gain", "plateau", "transition"]
style.table(own.loc[[*order, *spent[2:]], columns], precision=3)

# %% [markdown]
# With architectures left out, the difference of each surrogate from the LSTM on the same curves, its interval from the
# same draws of groups for both. Where an interval contains zero, these models do not decide between the two.

# %% tags=["hide-input"]
fair = board.loc["leave_one_architecture_out"].sort_values("mae")
mean, agreeing = (fair.loc[name] for name in ("mean_curve", "lstm_agreement"))
figures = {
    "mean_difference": mean["difference"],
    "mean_low": mean["difference_low"],
    "mean_high": mean["difference_high"],
}
figures |= {"agreement_gain": -agreeing["difference"], "agreement_least": -agreeing["difference_high"]}
for name, figure in figures.items():
    glue(name, float(figure), display=False)
style.table(
    fair[["mae", "low", "high", "difference", "difference_low", "difference_high", "exact", "all_points"]], precision=4
)

# %% [markdown]
# ## Over both parts of the campaign
#
# Trained on the second part too, with checkpoints of base size from a second parent: with each task left out, and with
# each pretrained parent, or all models from scratch, left out. A forecast for a parent that was never seen is the one
# that somebody with another checkpoint gets.

# %% tags=["hide-input"]
both = tables.read("forecast_errors", paths.MEASURED / "both_parts").query("axis == 'percentile'")
of_both = both.set_index(["protocol", "surrogate"])[["mae", "low", "high", "all_points", "models"]].sort_values("mae")
for name in ("lstm", "lstm_agreement"):
    glue(f"parent_{name}", float(of_both.loc[("leave_one_parent_out", name), "mae"]), display=False)
    glue(f"parent_{name}_all", float(of_both.loc[("leave_one_parent_out", name), "all_points"]), display=False)
style.table(of_both.sort_index(level="protocol", sort_remaining=False), precision=4)

# %% [markdown]
# ## Error against cost
#
# In {numref}`fig-leaderboard` each mark is a surrogate in a protocol without siblings in training. Its height is its
# error, its horizontal position its cost in evaluations of the model. Low and left is good; the thin line is the error
# that the source study printed. Named are the best of each protocol and a few to compare it with.

# %% mystnb={"figure": {"caption": "Mean absolute error against cost, architectures left out. One evaluation is one pass over the evaluation set.", "name": "fig-leaderboard"}, "image": {"alt": "Scatter of error against cost in evaluations. At no cost all surrogates but the straight line lie close together; with a fifth of an evaluation for agreement the LSTM lies lower; at one evaluation the LSTM that spends labelled examples lies far below plain agreement; three and five measured points lie lowest."}} tags=["hide-input"]
shown = board[board.index.get_level_values("protocol").isin([*order[2:], *spent[::2], "few_shot_3", "few_shot_5"])]
_ = curves.draw_leaderboard(shown.reset_index(), published=float(published["validation_mae"]))

# %% [markdown]
# ## Which input is worth its cost?
#
# Inputs removed from the LSTM, and added to it, with architectures left out; what agreement and curvature cost is in
# {numref}`fig-leaderboard`. Where the training curves were permuted among the models, a surrogate that still beat the mean curve would
# indicate a leak from test to training data.

# %% tags=["hide-input"]
ablations = errors[errors["inputs"] != ablation.AS_IT_IS]
style.table(ablations.set_index(["inputs", "surrogate"])[["mae", "low", "high"]].sort_index(), precision=4)

# %% [markdown]
# ## On every axis
#
# The source does not say what its thresholds count. On the sigma axis most of the grid lies behind the collapse, where
# any forecast has a small error. Curves are read on the other axes, so the errors here are over all points.

# %% tags=["hide-input"]
on_axes = whole[(whole["seed"] == seed) & whole["surrogate"].isin(["lstm", "straight_line"])]
style.table(on_axes.pivot(index=["protocol", "surrogate"], columns="axis", values="all_points").loc[order[1:]])

# %% tags=["hide-input"]
rows = ablation.beside_paper(predictions, published)
style.table(rows.set_index("row")[["published", "ours", "note"]], precision=4)

# %% tags=["hide-input"]
for name, quantity in ablation.PRINTED.items():
    glue(name, float(published[quantity]), display=False)
for protocol in [*order, *spent]:
    row = board.loc[(protocol, "lstm_agreement" if protocol.startswith("one_evaluation") else "lstm")]
    for column in ("mae", "low", "high", "gain", "exact"):
        glue(f"{protocol}_{column}", float(row[column]), display=False)
cheap, plain = board.loc[("leave_one_architecture_out", "lstm_agreement")], board.loc[("one_evaluation", "agreement")]
glue("cheap_mae", float(cheap["mae"]), display=False)
glue("cheap_cost", float(cheap["cost"]), display=False)
glue("agreement_mae", float(plain["mae"]), display=False)
glue("models", int(board["models"].max()), display=False)
glue("relatives", int(board["relatives"].max()), display=False)

# %% [markdown]
# ## What this shows
#
# - Published is {glue:text}`published_mae:.4f` with an undisclosed split. Split by points we reach
#   {glue:text}`points_mae:.4f`, which is interpolation; with the model left out {glue:text}`leave_one_model_out_mae:.4f`
#   ({glue:text}`leave_one_model_out_low:.4f` to {glue:text}`leave_one_model_out_high:.4f` over
#   {glue:text}`relatives` groups of relatives); with architecture and parent left out
#   {glue:text}`leave_one_architecture_out_mae:.4f` ({glue:text}`leave_one_architecture_out_low:.4f` to
#   {glue:text}`leave_one_architecture_out_high:.4f`), with the task left out {glue:text}`leave_one_task_out_mae:.4f`. All
#   but the first use weights and the dense accuracy, no pruned model.
# - At no cost the LSTM is not separated from the mean curve of the other models: its error is lower by
#   {glue:text}`mean_difference:.4f`, with an interval from {glue:text}`mean_low:.4f` to {glue:text}`mean_high:.4f`. With
#   agreement it is lower than without by {glue:text}`agreement_gain:.4f` ({glue:text}`agreement_least:.4f` at least).
# - Agreement on eight unlabelled examples, {glue:text}`cheap_cost:.0%` of an evaluation, brings the error to
#   {glue:text}`cheap_mae:.4f`; plain agreement with a whole one reaches {glue:text}`agreement_mae:.4f`. A whole
#   evaluation spent on labelled examples where the fall is brings it to {glue:text}`one_evaluation_mae:.4f` on all other
#   examples ({glue:text}`one_evaluation_reused_mae:.4f` if those that were used count again). On exact curves three
#   measured points bring it from {glue:text}`leave_one_architecture_out_exact:.4f` to {glue:text}`few_shot_3_mae:.4f`.
# - With the pretrained parent left out, over both parts of the campaign, the error is {glue:text}`parent_lstm:.3f` with no
#   forward pass and {glue:text}`parent_lstm_agreement:.3f` with eight samples; over whole curves, interpolated points
#   included, {glue:text}`parent_lstm_all:.3f` and {glue:text}`parent_lstm_agreement_all:.3f`.
# - None of this is a reproduction: models, axis and inputs are ours, because the source does not give its own.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("surrogate", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). The interval of a difference between the errors of two surrogates contains zero.
# May you say that they are equally good? Why is the interval drawn over groups of relatives and not over points?
#
# :::{dropdown} Solution
# No: it says that these models do not tell which is better; the difference may be small or the sample too small. Points of
# one curve, and curves of relatives, err together. Taken as independent they would count one observation many times, and the
# interval would be much too narrow.
# :::
#
# **Exercise 2: Change** (10 minutes). Replace the LSTM by the mean curve of the other models, which needs no training. From
# `predictions.csv.gz` of `data/measured/campaign`, protocol `leave_one_architecture_out`, measured rows: the mean absolute
# error of each curve, then the mean over curves. `answer` is the error of `mean_curve` minus that of `lstm`. What do you
# conclude?
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.MEASURED / "campaign" / "predictions.csv.gz")
# rows = rows[(rows["protocol"] == "leave_one_architecture_out") & rows["measured"]]
# rows = rows.assign(error=(rows["predicted"] - rows["accuracy"]).abs())
# curves = rows.groupby(["surrogate", "model", "scope"])["error"].mean()
# errors = curves.groupby("surrogate").mean()
# answer = errors["mean_curve"] - errors["lstm"]
# ```
# The page gives the interval of this difference. A trivial surrogate belongs into every such comparison: without it, any
# error looks like an achievement.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write a surrogate of your own: `forecast(others, dense, majority)` returns accuracies
# at 101 sparsities. `others` (C, 101) are the curves of other models as shares of the way from majority to dense accuracy that
# is left; `dense` and `majority` are the accuracies of the tested model. On whole families left out it has to beat the straight
# line from dense to majority accuracy. `answer` is the function.
#
# :::{dropdown} Solution
# ```python
# import numpy as np
#
#
# def forecast(others, dense, majority):
#     return majority + (dense - majority) * np.median(others, axis=0)
#
#
# answer = forecast
# ```
# Even the median of the others is far better than a line, because all curves are flat, fall, and are flat again.
# :::
