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
# - **You will need** a checkpoint folder with safetensors, and its task or a file of examples; by default a model of
#   {doc}`collect_sweeps`.
# - **You will learn** how to use the forecast, and when not to trust it.
# - **Run time**: a few evaluations of the checkpoint.

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
from prunecast import paths
from prunecast.datasets import tasks, user_files
from prunecast.forecasting import predict, pretrained, subjects
from prunecast.models import checkpoints
from prunecast.plotting import curves, style

style.use_style()

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
# The surrogate was trained on the curves of the {doc}`campaign`. {numref}`fig-your-model` shows its forecast with a 90 %
# interval. The wider the band, the less certain the forecast.

# %%
surrogate = pretrained.load()
prediction = predict.predict(subject, surrogate, epsilon)

# %% mystnb={"figure": {"caption": "Forecast accuracy with its 90 % interval, and the recommended sparsity.", "name": "fig-your-model"}, "image": {"alt": "Two panels, global and layer scope: the forecast accuracy falling with sparsity inside its band, a vertical dashed line at the recommended sparsity."}} tags=["hide-input"]
_ = curves.draw_prediction(prediction.curve, prediction.recommended, prediction.dense_accuracy)

# %% [markdown]
# What was evaluated, and what speaks against the forecast:

# %% tags=["hide-input"]
notes = pd.DataFrame({"kind": "note", "sentence": subject.notes})
warnings = pd.DataFrame({"kind": "warning", "sentence": prediction.warnings})
style.table(pd.concat([notes, warnings], ignore_index=True))

# %% [markdown]
# ## Measure
#
# A recommendation is a forecast; only measuring shows whether it is safe. A {term}`bracketing search` starts at the
# recommended ratio, goes up until a ratio is unsafe, and halves the bracket between them; then it checks the ratios
# below, since a curve may dip and recover. Most of it evaluates only examples whose class can still change.

# %%
recommended = prediction.recommended[scope]
ratio, safe = predict.largest_safe(model, scope, epsilon, recommended, subject.dense)

# %% [markdown]
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
# 1. Take an epsilon of 0.05. How much more is recommended, and how much more is safe?
# 2. Start the search at another ratio, by the fourth argument of `predict.largest_safe`. What does a good forecast
#    save?
