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
#     writes: [sensitivity.csv]
# ---

# %% [markdown]
# # Sensitivity of layers
#
# Which ratio for which layer? This page prunes one part of a checkpoint at a time, measures what the accuracy loses, and
# compares it with a forecast from a few examples without labels. {cite:t}`li2017` and {cite:t}`han2015` examine single
# layers in this way. Here the unit is what belongs together: all projections of one attention, the matrices of one
# feed-forward network, or convolutions that a shortcut joins.
#
# - **You will need** the page {doc}`your_model`.
# - **You will learn** which units of a model are sensitive, how well that can be forecast without labels, and why a ratio of
#   parameters is not a ratio of channels.
# - **Run time**: seconds for a small model; an evaluation of the checkpoint for each unit and ratio.
# - **Reading**: 6 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the table goes to
checkpoint: str = ""  # folder or hub id; empty: a small model trained on this machine
task: str = "docstrings"  # task the checkpoint was trained for
ratios: list = [0.3, 0.5, 0.7, 0.9]  # shares of the weights of a unit that are pruned
epsilon: float = 0.01  # accuracy you would give up
sampled: int = 64  # unlabelled examples of the forecast
examples: int = 2000  # examples evaluated, at most
recalibrate: int = 0  # unlabelled images on which batch norms are recalibrated after each pruning; 0: none
max_length: int = 128  # tokens of a text, at most
seed: int = 0  # seed of the choice of examples, and of that small model

# %% tags=["hide-input"]
from myst_nb import glue
from prunecast import paths, tables
from prunecast.datasets import tasks
from prunecast.forecasting import subjects
from prunecast.models import checkpoints
from prunecast.plotting import style
from prunecast.plotting.sensitivity import draw_sensitivity
from prunecast.selection import sensitivity

style.use_style()

# %% [markdown]
# ## Prune one unit at a time
#
# In a unit, the weights of smallest magnitude of each matrix are set to zero; all others keep their values. The weights are
# restored before the next unit.

# %%
folder = checkpoint or str(checkpoints.trained_classifier("docstrings_bert", "laptop", seed).folder)
settings = {"examples": examples, "max_length": max_length, "seed": seed}
subject = subjects.open_subject(folder, tasks.load_task(task), recalibrate=recalibrate, **settings)
found = sensitivity.measure(subject.model, subject.answers, ratios, sampled)
rows = tables.validate("sensitivity", found.rows)
_ = tables.write("sensitivity", rows, paths.outputs(run))

# %% [markdown]
# ## Forecast without labels
#
# Where the pruned model chooses another class than the dense one, the accuracy is expected to fall by the probability that
# the dense model gave its own class, less the one it gave the other. The mean over a few examples is the forecast. It is
# right as far as the probabilities of the dense model are calibrated {cite:p}`guo2017`. To count each changed example as
# lost would exaggerate: most of those that change were uncertain, and some become correct.
#
# The table has what each unit loses at each ratio: *lost* is measured on all examples, *forecast* and *agreement* on
# {glue:text}`sampled:d` without labels.

# %% tags=["hide-input"]
style.table(rows.set_index("unit")[["kind", "ratio", "lost", "forecast", "agreement"]])

# %% [markdown]
# ## The largest ratio of each unit
#
# {numref}`fig-sensitivity` shows for each unit the largest tested ratio up to which no tested one loses more than epsilon.
# The further right a mark, the less sensitive the unit; two marks of a row at the same ratio are a forecast that was right.

# %% mystnb={"figure": {"caption": "Largest tested ratio within epsilon of each unit, pruned alone: forecast without labels, and measured.", "name": "fig-sensitivity"}, "image": {"alt": "A row for each unit of the model, from the first at the top, with a round mark at the forecast ratio and a triangle at the measured one. The marks of most rows coincide; those of the last feed-forward network and of the pooler lie furthest right."}} tags=["hide-input"]
units = sensitivity.within(rows, epsilon)
_ = draw_sensitivity(units)

# %% [markdown]
# The *share* is that of the prunable weights of the model. The *channel ratio* is the share of the heads or neurons whose
# removal takes as many weights away as the measured ratio sets to zero. In a transformer both are equal up to rounding to
# whole heads. In a convolutional network the next layer loses inputs too, so that half of the weights of a layer are far
# fewer than half of its channels. It is empty where nothing can be removed as a whole.

# %% tags=["hide-input"]
style.table(units.set_index("unit").drop(columns="matrices"), precision=2)

# %% tags=["hide-input"]
error = (rows["forecast"] - rows["lost"]).abs().mean()
changed = (1 - rows["agreement"] - rows["lost"]).abs().mean()
order = units.sort_values("measured", kind="stable")
for name, value in {
    "sampled": found.sampled, "units": len(units), "error": float(error), "changed": float(changed),
    "evaluations": found.evaluations, "cheap": found.forecast_evaluations, "epsilon": epsilon,
    "same": int((units["forecast"] == units["measured"]).sum()), "above": int((units["forecast"] > units["measured"]).sum()),
    "least": float(order["measured"].iloc[0]), "most": float(order["measured"].iloc[-1]),
}.items():  # fmt: skip
    glue(name, value, display=False)
for name, place in {"sensitive": 0, "robust": -1}.items():
    glue(name, order["unit"].iloc[place], display=False)

# %% [markdown]
# ## What this shows
#
# - Of {glue:text}`units` units, {glue:text}`sensitive` is among the most sensitive: {glue:text}`least:.0%` of its weights
#   can be pruned with at most {glue:text}`epsilon` of accuracy lost. {glue:text}`robust` is among the least sensitive, with
#   {glue:text}`most:.0%`.
# - The forecast misses the loss by {glue:text}`error:.3f` on average over units and ratios, and counting changed examples by
#   {glue:text}`changed:.3f`. Its largest ratio is the measured one for {glue:text}`same` units, and too large for
#   {glue:text}`above`.
# - Measuring took {glue:text}`evaluations` evaluations of all examples; the forecast alone takes
#   {glue:text}`cheap:.1f`.
# - Each unit was pruned alone. Losses add up, so that the ratios of this page are not safe together: measure the whole model,
#   as on {doc}`your_model`.
# - The same in one command, on examples of your own: `prunecast sensitivity CHECKPOINT --data FILE`; `--forecast-only`
#   measures nothing.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("layer_sensitivity", NUMBER, answer)` says whether it is
# right: {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). Each unit loses less than epsilon at its own ratio. Somebody prunes all of them at these
# ratios at once. Why may the model lose far more than epsilon?
#
# :::{dropdown} Solution
# Each unit was measured in an otherwise dense model. Together the losses add up, and a later unit now receives inputs that are
# wrong already. The ratios say in which order to prune, not how far: measure the whole model.
# :::
#
# **Exercise 2: Change** (10 minutes). A convolution has 64 input and 128 output channels, the one after it has 256 output
# channels; all kernels are three by three. Half of the weights of the first are set to zero. `answer` is the share of its output
# channels whose removal takes as many weights away from both layers.
#
# :::{dropdown} Solution
# ```python
# first, second = 64 * 128 * 9, 128 * 256 * 9
# answer = 0.5 * first / (first + second)
# ```
# A removed channel takes its kernels in the first layer and those that read it in the second, which are four times as many.
# That is why a ratio of parameters is not a ratio of channels.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write the forecast: `forecast(dense, pruned)` takes the logits of the dense and of the
# pruned model, arrays (examples, classes), and returns the loss of accuracy that is expected without any label. `answer` is the
# function. When is it too high?
#
# :::{dropdown} Solution
# ```python
# import numpy as np
#
#
# def forecast(dense, pruned):
#     shifted = np.exp(dense - dense.max(1, keepdims=True))
#     probabilities = shifted / shifted.sum(1, keepdims=True)
#     rows = np.arange(len(dense))
#     own = probabilities[rows, dense.argmax(1)]
#     return float((own - probabilities[rows, pruned.argmax(1)]).mean())
#
#
# answer = forecast
# ```
# An overconfident dense model gives its own class too high a probability, and each changed example then counts for too much.
# :::
