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
# # Collecting pruning curves
#
# How much accuracy is left when the smallest weights of a classifier are set to zero, one per cent after another?
# This page trains the models of the study, or reuses them, prunes each at every threshold in two scopes, and writes
# two tables that every later page reads: `models.csv` and `sweeps.csv`.
#
# - **You will need** to know what a classifier and its accuracy are.
# - **You will learn** what a pruning curve looks like, and that most of it is flat.
# - **Run time**: minutes for the default study; a curve costs as many evaluations of a model as it has points.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the tables go to
models: list = ["docstrings_distilbert"]  # names of models in data/models.yml
points: int = 11  # thresholds on each axis, from 0 to 10
seed: int = 0  # seed of initialisation and training

# %% tags=["hide-input"]
from myst_nb import glue
from prunecast import collect, curves, figures, paths, tables
from prunecast.pruning.masks import AXES

figures.use_house_style()

# %% [markdown]
# ## Train and sweep
#
# Each model is trained once and kept as safetensors. A model whose settings, data and code are unchanged is not
# trained again, and a sweep that was interrupted goes on where it stopped.

# %%
model_table, sweeps = collect.collect(models, run, points, seed)
_ = tables.write("models", model_table, paths.outputs(run))
_ = tables.write("sweeps", sweeps, paths.outputs(run))

# %% tags=["hide-input"]
glue("models_collected", len(model_table), display=False)
glue("evaluations", int((sweeps["measured"] & (sweeps["axis"] == "percentile")).sum()), display=False)

# %% [markdown]
# This run holds {glue:text}`models_collected` models and {glue:text}`evaluations` measured evaluations. The column
# *door* says where a task's data came from: built in (made from packages that are installed anyway), a local folder,
# or the hub.

# %% tags=["hide-input"]
shown = ["architecture", "task", "door", "classes", "prunable_parameters", "dense_accuracy", "majority_accuracy"]
figures.table(model_table.set_index("model")[shown])

# %% [markdown]
# ## Look
#
# {numref}`fig-curves` shows every curve. Read a panel from left to right: with more weights pruned the accuracy stays
# on its **plateau**, falls through a **transition**, and ends **collapsed** at the dotted line, the accuracy of
# always answering the commonest class. What matters is where the fall begins.

# %% mystnb={"figure": {"caption": "Accuracy against sparsity for every model of this run, magnitude pruning, no retraining. Solid: weights compared across the whole model. Dashed: within each layer. Dotted: always answering the commonest class.", "name": "fig-curves"}, "image": {"alt": "One panel a model. Each shows two falling curves of accuracy against sparsity, global scope solid and layer scope dashed; both stay flat at first, then drop to the dotted line of the majority class."}} tags=["hide-input"]
_ = figures.draw_curves(model_table, sweeps)

# %% [markdown]
# How far is safe? The table gives the largest measured sparsity up to which no point lies more than one hundredth
# below the dense accuracy.

# %% tags=["hide-input"]
safe = curves.safe_sparsities(sweeps, epsilon=0.01)
glue("safe_lowest", float(safe.min(axis=None)), display=False)
glue("safe_highest", float(safe.max(axis=None)), display=False)
glue("global_longer", int((safe["global"] >= safe["layer"]).sum()), display=False)
figures.table(safe.add_prefix("safe sparsity, "), precision=2)

# %% [markdown]
# The safe sparsity lies between {glue:text}`safe_lowest:.2f` and {glue:text}`safe_highest:.2f`: it depends on the
# model and the scope far more than any rule of thumb allows, which is why forecasting it is worth a book.

# %% [markdown]
# ## How much of a curve is news?
#
# On some axes most of a grid lies behind the collapse, where any forecast looks good. The table counts, on each
# axis, the share of points in every segment.

# %% tags=["hide-input"]
known = curves.with_references(sweeps, model_table)
shares = known.assign(segment=curves.segment(known)).groupby("axis")["segment"].value_counts(normalize=True)
segments = shares.unstack(fill_value=0).reindex(index=AXES, columns=curves.SEGMENTS, fill_value=0)
glue("sigma_collapsed", float(segments.loc["sigma", "collapsed"]), display=False)
figures.table(segments, precision=2)

# %% [markdown]
# ## What this shows
#
# - A curve is flat, falls once, and is flat again. On the sigma axis {glue:text}`sigma_collapsed:.0%` of the points
#   are collapsed: an error averaged over that axis says little, so errors in this book are also given by segment.
# - Global and layer scope fall at different sparsities: of {glue:text}`models_collected` models,
#   {glue:text}`global_longer` are safe at least as far in global scope as in layer scope.

# %% [markdown]
# ## Exercises
#
# 1. Measure a finer grid for one model: `prunecast run collect_sweeps -p points=201`. Does the safe sparsity change?
# 2. Add a model with twice the layers to `data/models.yml` and sweep it. Does depth move the transition?
# 3. Train with another seed: `-p seed=1`. Which is larger, the change of the dense accuracy or of the safe sparsity?
