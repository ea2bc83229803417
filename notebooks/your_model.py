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
# # Your model
#
# How far can *this* checkpoint be pruned? This page takes one, forecasts its curve from the weights and eight unlabelled
# examples, recommends a ratio, checks it with one measurement, and saves the pruned model as a folder that
# `from_pretrained` reads.
#
# - **You will need** a checkpoint folder with safetensors, and its task; by default a model of {doc}`collect_sweeps`.
# - **You will learn** how to use the forecast, and how to doubt it.
# - **Run time**: a few seconds, and up to two minutes the first time, when the surrogate is trained.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the pruned model goes to
checkpoint: str = ""  # folder or hub id; empty: a small model trained on this machine
task: str = "docstrings"  # task the checkpoint was trained for
scope: str = "layer"  # compare weights across the whole model (global) or within each layer (layer)
epsilon: float = 0.01  # accuracy you would give up
seed: int = 0  # seed of the surrogate

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue
from prunecast import collect, figures, forecasting, paths
from prunecast.evaluation import evaluate
from prunecast.surrogates import frozen, recommend

figures.use_house_style()
_ = recommend.checked(epsilon)

# %% [markdown]
# ## Load and measure once
#
# The dense accuracy is the one thing that has to be known; it costs one evaluation.

# %%
folder = checkpoint or str(collect.trained("docstrings_bert", "laptop", seed).folder)
subject, tokenizer = forecasting.subject_of(folder, task)
dense = evaluate(subject.model, subject.examples).accuracy

# %% [markdown]
# ## Forecast
#
# The surrogate was trained on the curves of the {doc}`campaign`. {numref}`fig-your-model` shows its forecast with a 90 %
# interval. Look at where the band widens: there the forecast does not know.

# %%
surrogate = frozen.ready(seed=seed)
prediction = forecasting.predict(subject, surrogate, epsilon, dense)

# %% mystnb={"figure": {"caption": "Forecast accuracy with its 90 % interval, and the recommended sparsity.", "name": "fig-your-model"}, "image": {"alt": "Two panels, global and layer scope: the forecast accuracy falling with sparsity inside its band, a vertical dashed line at the recommended sparsity."}} tags=["hide-input"]
_ = figures.draw_prediction(prediction.curve, prediction.recommended, dense)

# %% tags=["hide-input"]
doubts = pd.DataFrame(
    {"the interval is widened, because": prediction.doubts or ["nothing: the model is like those trained on"]}
)
figures.table(doubts)

# %% [markdown]
# ## Verify
#
# A recommendation is a forecast. One measurement turns it into a fact: if more than epsilon is lost, step back and
# measure again.

# %%
ratio = prediction.recommended[scope]
accuracy = forecasting.measured_at(subject, scope, ratio)
holds = accuracy >= dense - epsilon

# %% tags=["hide-input"]
for name, value in {"dense": dense, "ratio": ratio, "accuracy": accuracy, "epsilon": epsilon}.items():
    glue(name, float(value), display=False)
glue("verdict", "it holds" if holds else "it does not hold: prune less", display=False)
glue("scope", scope, display=False)

# %% [markdown]
# ## Save
#
# The pruned weights are zeros in a folder of the ordinary format. Masked is not smaller or faster: that takes another
# form of the model.

# %%
pruned = paths.run(run) / "pruned" / subject.name
if holds:
    forecasting.save_pruned(subject, tokenizer, scope, ratio, pruned)
    again, _ = forecasting.subject_of(str(pruned), task)
    assert evaluate(again.model, again.examples).accuracy == accuracy

# %% [markdown]
# ## What this shows
#
# - The model has accuracy {glue:text}`dense:.3f`. In {glue:text}`scope` scope the surrogate recommends to prune
#   {glue:text}`ratio:.0%`; measured there it has {glue:text}`accuracy:.3f`, and with an epsilon of
#   {glue:text}`epsilon` {glue:text}`verdict`.
# - The same in one command: `prunecast predict CHECKPOINT --task TASK`.

# %% [markdown]
# ## Exercises
#
# 1. Take an epsilon of 0.05. How much more is recommended, and does it hold?
# 2. Search by halves between the recommendation and the end of the curve. How many measurements find the optimum?
