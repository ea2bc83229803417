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
#     writes: []
# ---

# %% [markdown]
# # Your model
#
# How far can *this* checkpoint be pruned? This page takes one, forecasts its curve from the weights and eight unlabelled
# examples, measures from there how far it really is safe to go, and saves the pruned model as a folder that
# `from_pretrained` reads.
#
# - **You will need** a checkpoint folder with safetensors, and its task; by default a model of {doc}`collect_sweeps`.
# - **You will learn** how to use the forecast, and when not to trust it.
# - **Run time**: a few evaluations of the checkpoint.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the pruned model goes to
checkpoint: str = ""  # folder or hub id; empty: a small model trained on this machine
task: str = "docstrings"  # task the checkpoint was trained for
scope: str = "layer"  # compare weights across the whole model (global) or within each layer (layer)
epsilon: float = 0.01  # accuracy you would give up
seed: int = 0  # seed of that small model

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue
from prunecast import paths
from prunecast.forecasting import predict, pretrained, subjects
from prunecast.models import checkpoints
from prunecast.models.evaluation import evaluate
from prunecast.plotting import curves, style
from prunecast.sweeps import curve_metrics

style.use_style()
_ = curve_metrics.check_epsilon(epsilon)

# %% [markdown]
# ## Load and measure once
#
# The dense accuracy is the one input that has to be measured; it costs one evaluation.

# %%
folder = checkpoint or str(checkpoints.trained_classifier("docstrings_bert", "laptop", seed).folder)
subject, tokenizer = subjects.subject_of(folder, task)
dense = evaluate(subject.model, subject.examples).accuracy

# %% [markdown]
# ## Forecast
#
# The surrogate was trained on the curves of the {doc}`campaign`. {numref}`fig-your-model` shows its forecast with a 90 %
# interval. The wider the band, the less certain the forecast.

# %%
surrogate = pretrained.load()
prediction = predict.predict(subject, surrogate, epsilon, dense)

# %% mystnb={"figure": {"caption": "Forecast accuracy with its 90 % interval, and the recommended sparsity.", "name": "fig-your-model"}, "image": {"alt": "Two panels, global and layer scope: the forecast accuracy falling with sparsity inside its band, a vertical dashed line at the recommended sparsity."}} tags=["hide-input"]
_ = curves.draw_prediction(prediction.curve, prediction.recommended, dense)

# %% tags=["hide-input"]
warnings = pd.DataFrame(
    {"warning": prediction.warnings or ["none: the model is like those that the surrogate was trained on"]}
)
style.table(warnings)

# %% [markdown]
# ## Measure
#
# A recommendation is a forecast; only measuring shows whether it is safe. A {term}`bracketing search` starts at the
# recommended ratio, goes up until a ratio is unsafe, and halves the bracket between them; then it checks the ratios
# below, since a curve may dip and recover. Most of it evaluates only examples whose class can still change.

# %%
recommended = prediction.recommended[scope]
ratio, safe = predict.largest_safe(subject, scope, epsilon, recommended)

# %% tags=["hide-input"]
for name, value in {
    "dense": dense, "recommended": recommended, "ratio": ratio, "accuracy": safe.accuracy, "epsilon": epsilon,
    "evaluations": safe.evaluated / len(subject.examples),
}.items():  # fmt: skip
    glue(name, float(value), display=False)
glue("scope", scope, display=False)

# %% [markdown]
# ## Save
#
# The pruned weights are zeros in a folder of the ordinary format. Masked is not smaller or faster: that takes another
# form of the model.

# %%
pruned = paths.run(run) / "pruned" / subject.name
predict.save_pruned(subject, tokenizer, scope, ratio, pruned)
again, _ = subjects.subject_of(str(pruned), task)
glue("saved", evaluate(again.model, again.examples).accuracy, display=False)

# %% [markdown]
# ## What this shows
#
# - The model has accuracy {glue:text}`dense:.3f`. In {glue:text}`scope` scope the surrogate recommends to prune
#   {glue:text}`recommended:.0%`; measured, {glue:text}`ratio:.0%` is the last hundredth before the accuracy first falls
#   by more than {glue:text}`epsilon`. A ratio of zero is the dense model.
# - There it has accuracy {glue:text}`accuracy:.3f`, and, saved and read back, {glue:text}`saved:.3f`.
# - Beside the dense evaluation, finding it cost as much as {glue:text}`evaluations:.1f` evaluations of all examples.
#   Over many models see {doc}`pareto`.
# - The forecast in one command: `prunecast predict CHECKPOINT --task TASK`.

# %% [markdown]
# ## Exercises
#
# 1. Take an epsilon of 0.05. How much more is recommended, and how much more is safe?
# 2. Start the search at another ratio, by the last argument of `predict.largest_safe`. What does a good forecast
#    save?
