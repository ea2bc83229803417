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
#       - data/models.yml
#       - tables/models.csv
#       - data/pretrained/surrogate.json
#       - data/pretrained/surrogate.safetensors
#       - data/measured/campaign/models.csv
#       - data/measured/campaign/sweeps.csv
#       - data/measured/campaign/signals.csv.gz
#       - data/measured/campaign/recommendations.csv
#       - data/measured/campaign_base/models.csv
#       - data/measured/campaign_base/sweeps.csv
#       - data/measured/campaign_base/signals.csv.gz
#       - data/measured/campaign_seed_1/models.csv
#       - data/measured/campaign_seed_1/sweeps.csv
#       - data/measured/campaign_seed_1/safe_searches.csv
#     writes: []
# ---

# %% [markdown]
# # Your model
#
# How far can *this* checkpoint be pruned? This page takes one, forecasts its curve from the weights and eight unlabelled
# examples, measures from there how far it really is safe to go, and saves the pruned model as a folder that
# `from_pretrained` reads.
#
# - **You will need** a checkpoint folder with safetensors, and its task or a file of examples; by default a model of
#   {doc}`collect_sweeps`.
# - **You will learn** how to use the forecast, and when not to trust it.
# - **Run time**: a few evaluations of the checkpoint.
# - **Reading**: 6 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the pruned model goes to
checkpoint: str = ""  # folder or hub id; empty: a small model trained on this machine
task: str = "docstrings"  # task the checkpoint was trained for
data: str = ""  # examples of your own in place of a task: CSV, JSON lines, parquet, or a folder of images by class
text: str = "text"  # column of the texts in that file
pair: str = ""  # column of the second texts, where an example is a pair of texts
label: str = "label"  # column of the classes, as words or numbers
split: str = ""  # rows of this split only; empty: validation or test, where there is a column of splits
scope: str = "layer"  # compare weights across the whole model (global) or within each layer (layer)
epsilon: float = 0.01  # accuracy you would give up
examples: int = 2000  # examples evaluated, at most
recalibrate: int = 0  # unlabelled images on which batch norms are recalibrated after each pruning; 0: none
max_length: int = 128  # tokens of a text, at most
save: str = ""  # new folder for the pruned model; empty: one named after its content, in the folder of the run
seed: int = 0  # seed of the choice of examples, and of that small model

# %% tags=["hide-input"]
from pathlib import Path

import pandas as pd
from myst_nb import glue
from prunecast import paths, tables
from prunecast.datasets import tasks, user_files
from prunecast.forecasting import predict, pretrained, recommendation, subjects
from prunecast.models import checkpoints
from prunecast.plotting import curves, style

style.use_style()
campaign = paths.MEASURED / "campaign"

# %% [markdown]
# ## Load and measure once
#
# The dense accuracy is the one input that has to be measured; it costs one evaluation. Classes are matched by their names
# where checkpoint and data both have names. Saving is tried at once, so that it cannot fail after the measurement.

# %%
columns = {"text": text, "pair": pair, "label": label, "split": split}
examined = user_files.read_data(Path(data), **columns) if data else tasks.load_task(task)
folder = checkpoint or str(checkpoints.trained_classifier("docstrings_bert", "laptop", seed).folder)
settings = {"examples": examples, "max_length": max_length, "seed": seed}
subject = subjects.open_subject(folder, examined, recalibrate=recalibrate, **settings)
model, processor = subject.model, subject.processor
pruned = Path(save or paths.run(run) / "pruned" / model.name)
predict.check_saving(model, processor, pruned)

# %% [markdown]
# ## Forecast
#
# The surrogate was trained on the curves of both parts of {doc}`the campaign <campaign>`.

# %%
surrogate = pretrained.load()
prediction = predict.predict(subject, surrogate, epsilon)

# %% [markdown]
# What was evaluated, and what speaks against the forecast:

# %% tags=["hide-input"]
notes = pd.DataFrame({"kind": "note", "sentence": subject.notes})
warnings = pd.DataFrame({"kind": "warning", "sentence": prediction.warnings})
style.table(pd.concat([notes, warnings], ignore_index=True))

# %% [markdown]
# ## Measure
#
# A recommendation is a forecast; only measuring shows whether it is safe. A search starts at the recommended ratio,
# goes up or down until it has a safe and an unsafe ratio, and halves the bracket between them. Each ratio is tested on
# the examples in the order of their {term}`fragility`: at a safe ratio few change their outcome, and most of these have small
# margins. Then all examples are evaluated at the ratio found, and ratios below are tested, since a curve may dip and
# recover. {numref}`fig-your-model` shows the forecast with a 90 % interval, and over it what was measured. The wider the
# band, the less certain the forecast.

# %%
recommended = prediction.recommended[scope]
ratio, safe = predict.largest_safe(model, scope, epsilon, recommended, subject.dense)

# %% mystnb={"figure": {"caption": "Forecast accuracy with its 90 % interval, the recommended sparsity, and the points that were measured.", "name": "fig-your-model"}, "image": {"alt": "Two panels, global and layer scope: the forecast accuracy falling with sparsity inside its band, a vertical dashed line at the recommended sparsity, and in one scope two marks, without pruning and at the ratio found."}} tags=["hide-input"]
found = {"scope": scope, "sparsity": [0.0, ratio], "accuracy": [prediction.dense_accuracy, safe.accuracy]}
_ = curves.draw_prediction(prediction.curve, prediction.recommended, prediction.dense_accuracy, pd.DataFrame(found))

# %% [markdown]
# ## What a safe ratio costs
#
# {numref}`fig-safe-ratios` compares ways to a safe ratio on models of the campaign under another seed, measured at every point:
# the lower left corner is cheap and leaves nothing unused. Replayed on these curves, a search that may spend one
# evaluation (`--budget 1` on the command line) leaves {glue:text}`at_one:.3f` unused and is safe on
# {glue:text}`safe_at_one:.0%` of the curves; the exact answer costs {glue:text}`exact_cost:.1f` evaluations and is the
# right one on {glue:text}`same:.0%`. In the table, *low* and *high* are the 90 % interval of *unused* over groups of
# relatives, *same* is the share of curves on which the exact answer was found, and *held out* is explained below it.

# %% mystnb={"figure": {"caption": "Sparsity left unused, and share of curves on which the loss stays within epsilon, against the cost in evaluations; a point a limit.", "name": "fig-safe-ratios"}, "image": {"alt": "Two panels over evaluations. Searches by fragility leave little unused from half an evaluation on, halving needs three or more; one ratio for all and the forecasts cost nearly nothing and leave about a fifth unused."}} tags=["hide-input"]
exact_curves = paths.MEASURED / "campaign_seed_1"
replayed = [tables.read(name, exact_curves) for name in ("safe_searches", "sweeps")]
models = tables.read("models", exact_curves)
costs = recommendation.safe_ratio_costs(*replayed, tables.read("recommendations", campaign), models)
costs["series"] = costs["method"].where(costs["confidence"].isna(), "search with a confidence")
_ = curves.draw_safe_ratios(costs)

# %% tags=["hide-input"]
by_way = costs.set_index("way").sort_values("evaluations")
exact, one = by_way.loc["search, exact"], by_way.loc["search, at most 1"]
confident = by_way.loc["search, exact, confidence 0.9"]
for name, value in {
    "at_one": one["unused"], "safe_at_one": one["safe"], "exact_cost": exact["evaluations"], "same": exact["same"],
    "held_out": exact["held_out"], "held_out_confident": confident["held_out"], "confidence_costs": confident["unused"],
}.items():  # fmt: skip
    glue(name, float(value), display=False)
style.table(by_way[["evaluations", "unused", "low", "high", "safe", "same", "held_out"]], precision=2)

# %% [markdown]
# An answer that is exact for the examples need not hold for others: a ratio found on one half of the examples loses at
# most epsilon on the other half in {glue:text}`held_out:.0%` of divisions. The option `--confidence`, here nine tenths,
# asks for a ratio whose loss in the population is within epsilon with that probability: {glue:text}`held_out_confident:.0%` hold on the other
# half, and {glue:text}`confidence_costs:.2f` of the sparsity is the price.
#
# ## Save
#
# The pruned weights are zeros in a folder of the ordinary format. Masked is not smaller or faster: that takes another
# form of the model. Where batch norms are recalibrated, the folder holds their new statistics. It is named after the
# model, the scope, the per cent pruned and a digest of the weights, so that no result replaces another.

# %%
if not save:
    pruned = pruned.with_name(predict.pruned_name(model, scope, ratio))
if save or not pruned.exists():  # else the same weights were pruned alike before
    predict.save_pruned(model, processor, scope, ratio, pruned)
again = subjects.open_subject(str(pruned), examined, **settings)

# %% tags=["hide-input"]
for name, value in {
    "dense": prediction.dense_accuracy, "recommended": recommended, "ratio": ratio, "accuracy": safe.accuracy,
    "epsilon": epsilon, "evaluations": safe.evaluated / len(model.examples), "saved": again.dense_accuracy,
}.items():  # fmt: skip
    glue(name, float(value), display=False)
for name, word in {"scope": scope, "folder": pruned.name}.items():
    glue(name, word, display=False)

# %% [markdown]
# ## What this shows
#
# - The model has accuracy {glue:text}`dense:.3f`. In {glue:text}`scope` scope the surrogate recommends to prune
#   {glue:text}`recommended:.0%`; measured, {glue:text}`ratio:.0%` is the last hundredth before the accuracy first falls
#   by more than {glue:text}`epsilon`. A ratio of zero is the dense model.
# - There it has accuracy {glue:text}`accuracy:.3f`, and, saved as {glue:text}`folder` and read back,
#   {glue:text}`saved:.3f`.
# - Beside the dense evaluation, finding it cost as much as {glue:text}`evaluations:.1f` evaluations of all examples.
#   Over many models see {doc}`pareto`.
# - The same in one command, on examples of your own: `prunecast predict CHECKPOINT --data FILE --save FOLDER`.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("your_model", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). The forecast curve loses epsilon at some sparsity, and the recommended ratio lies
# below it. Why? What would happen to the recommendation of a perfect surrogate?
#
# :::{dropdown} Solution
# If the forecast were right on average, its own crossing would be too far for about half of the models. A margin is subtracted
# that was learned from errors on models left out, such that nine of ten are safe. For a perfect surrogate the margin would be
# zero. The price of the margin is weights that could have gone: measuring is how to get them back.
# :::
#
# **Exercise 2: Change** (10 minutes). A search may be given less. In `safe_searches.csv` of `data/measured/campaign_seed_1` take
# the method `search` without a `confidence`, first with a `budget` of one evaluation, then of a quarter. What it leaves unused
# is `optimum` minus `recommended`. `answer` is the mean for a quarter minus the mean for one.
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.MEASURED / "campaign_seed_1" / "safe_searches.csv")
# rows = rows[(rows["method"] == "search") & rows["confidence"].isna()]
# unused = (rows["optimum"] - rows["recommended"]).groupby(rows["budget"]).mean()
# answer = unused[0.25] - unused[1.0]
# ```
# Each further evaluation buys less than the one before: the first finds roughly where the curve falls, the others refine it.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write the margin: `margin(forecast, measured, share)` returns the smallest number that is
# not negative such that at least the share `share` of the models satisfy forecast − margin ≤ measured. Both are arrays of safe
# sparsities. `answer` is the function. Why must the forecasts come from models that the surrogate was not trained on?
#
# :::{dropdown} Solution
# ```python
# import math
#
# import numpy as np
#
#
# def margin(forecast, measured, share):
#     excess = np.sort(np.asarray(forecast) - np.asarray(measured))
#     needed = math.ceil(share * len(excess) - 1e-9)
#     return max(0.0, float(excess[needed - 1])) if needed else 0.0
#
#
# answer = margin
# ```
# On its own training models a surrogate errs less than on yours, and the margin would be too small.
# :::
