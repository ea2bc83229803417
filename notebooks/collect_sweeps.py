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
#       - data/tasks.yml
#       - data/schemas.yml
#       - data/measured/campaign_seed_1/engines.csv
#       - data/measured/benchmarks/speed.csv
#     writes: [models.csv, sweeps.csv, engines.csv, safe_searches.csv]
# ---

# %% [markdown]
# # Collecting pruning curves
#
# How much accuracy is left when the smallest weights of a classifier are set to zero, one per cent after another?
# This page trains the models of the study, or reuses them, prunes each at every threshold, and writes three tables that
# every later page reads: `models.csv`, `sweeps.csv` and `engines.csv`; `safe_searches.csv` holds what searches for a safe
# ratio would have found on the exact curves.
#
# - **You will need** to know what a classifier and its accuracy are.
# - **You will learn** what a pruning curve looks like, that most of it is flat, and what that saves.
# - **Run time**: minutes for the default study; an exact curve costs as many evaluations of a model as it has points.
# - **Reading**: 8 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the tables go to
models: list = ["docstrings_distilbert"]  # names of models in data/models.yml
exact: list = []  # those among them to be measured at every point; the others adaptively
criteria: list = ["magnitude"]  # what decides which weights are pruned first: magnitude, random
points: int = 11  # thresholds on each axis, from 0 to 10
precision: str = "float32"  # arithmetic of the evaluation: float32, bfloat16
recalibrate: int = 0  # unlabelled training images on which batch norms are recalibrated after each pruning; 0: none
seed: int = 0  # seed of initialisation, training and random scores
measured: str = "campaign_seed_1"  # study of real classifiers to show: under data/measured, or a run

# %% tags=["hide-input"]
from myst_nb import glue
from prunecast import paths, tables
from prunecast.plotting import curves, style
from prunecast.pruning.masks import AXES
from prunecast.sweeps import collect, curve_metrics

style.use_style()

# %% [markdown]
# ## Train and sweep
#
# Each model is trained once and saved as safetensors. A model whose settings, data and {term}`stage version` are
# unchanged is not trained again. The outcome of every evaluation of a pruned model is on disk before the next one, so a
# sweep that was interrupted or killed goes on where it stopped, and ends in the same table. With `recalibrate`, networks
# with batch norms take their running statistics anew at every point but the dense one; the table `engines` says so.

# %%
settings = {"points": points, "criteria": criteria, "exact": exact, "precision": precision, "seed": seed}
plan = collect.plan_of(**settings, recalibrate=recalibrate)
collected = collect.collect(models, run, plan)
model_table, sweeps = collected.models, collected.sweeps
for name in ("models", "sweeps", "engines", "safe_searches"):
    _ = tables.write(name, getattr(collected, name), paths.outputs(run))

# %% tags=["hide-input"]
glue("models_collected", len(model_table), display=False)
glue("curves_collected", len(collected.engines), display=False)
unlearned = model_table.loc[~curve_metrics.learned(model_table), "model"]
glue("unlearned", ", ".join(unlearned) or "none", display=False)
columns = ["architecture", "task", "source", "classes", "prunable_parameters", "dense_accuracy", "majority_accuracy"]
style.table(model_table.set_index("model")[columns])

# %% [markdown]
# This run holds {glue:text}`models_collected` models with {glue:text}`curves_collected` curves. The column *source*
# says where a task's data came from: built in (made from packages that are installed anyway), a local folder, or the hub.
# A model that is not clearly above the majority class has no curve worth forecasting and is left out of all training
# sets; here: {glue:text}`unlearned`.
#
# ## The curves
#
# {numref}`fig-curves` shows every curve. Read a panel from left to right: with more weights pruned the accuracy stays
# on its **plateau**, falls through a **transition**, and ends **collapsed** near the thin line, the accuracy of
# always answering the commonest class. What matters is where the fall begins.

# %% mystnb={"figure": {"caption": "Accuracy against sparsity for every model of this run, no retraining. Solid: smallest weights of the whole model first. Dashed: smallest weights of each layer first. Dotted: weights drawn at random. Thin: always answering the commonest class.", "name": "fig-curves"}, "image": {"alt": "One panel a model. Each shows falling curves of accuracy against sparsity: magnitude pruning in global scope solid, in layer scope dashed, random pruning dotted and falling first; all end near the thin line of the majority class."}} tags=["hide-input"]
_ = curves.draw_curves(model_table, sweeps)

# %% [markdown]
# How far is safe? The table gives the largest sparsity up to which no point of the magnitude curve lies more than one
# hundredth below the dense accuracy.

# %% tags=["hide-input"]
safe = curve_metrics.safe_sparsities(sweeps, epsilon=0.01)
glue("safe_lowest", float(safe.min(axis=None)), display=False)
glue("safe_highest", float(safe.max(axis=None)), display=False)
glue("global_longer", int((safe["global"] >= safe["layer"]).sum()), display=False)
style.table(safe.add_prefix("safe sparsity, "), precision=2)

# %% [markdown]
# The safe sparsity lies between {glue:text}`safe_lowest:.2f` and {glue:text}`safe_highest:.2f`: it depends on the
# model and the scope. Whether a forecast of it beats one ratio for all is asked on {doc}`effective_number`.
#
# ## What a curve costs
#
# The **exact** engine evaluates every example at every point. The **adaptive** engine is a {term}`bracketing search`:
# it halves brackets of the grid until each is narrow and its ends agree within a {term}`tolerance`. An example that
# both ends classify alike is evaluated between them only if its margin is among the smallest, or if it is drawn at
# random among the others, the {term}`audit sample`; the outcome of the rest is inferred. The share of audited examples
# whose outcome would have been inferred wrongly bounds that of all examples {cite:p}`clopper1934`, though not the error
# at points without any evaluation. The first table is of models of the campaign that were measured at every point: the
# adaptive engine is replayed on their outcomes. *evaluations* counts whole evaluations of the model a curve, and the
# errors are those against the exact curve. Without pruning, and without any weight, a model is evaluated once for both
# scopes; the table counts these for each. A spike of a single point behind the collapse is what it may miss. The
# campaign itself was measured by earlier versions of the engine: see the provenance of each study.

# %% tags=["hide-input"]
campaign = tables.read("engines", paths.tables(measured))
campaign["evaluations"] = campaign["adaptive_examples"] / campaign["eval_examples"]
both = campaign[campaign["engine"] == "exact"]
costs = campaign.groupby(["criterion", "scope"])["evaluations"].agg(["count", "mean", "min", "max"])
costs["models with both"] = both.groupby(["criterion", "scope"]).size()
costs[["largest error", "mean error"]] = both.groupby(["criterion", "scope"])[["largest_error", "mean_error"]].max()
glue("largest_error", float(both["largest_error"].max()), display=False)
glue("both_models", both["model"].nunique(), display=False)
glue("adaptive_share", float(campaign["evaluations"].sum() / campaign["points"].sum()), display=False)
style.table(costs)

# %% [markdown]
# The adaptive engine needs {glue:text}`adaptive_share:.0%` of the evaluations of the exact one, and on the
# {glue:text}`both_models` models that have both it is nowhere further than {glue:text}`largest_error:.4f` from it.
# The second table is time: each engine on one machine in one run, beside the common way, which masks with
# `torch.nn.utils.prune` and evaluates with the Trainer of the transformers library. That one was timed at as many
# points as the column *timed* says; its time for all points is in proportion.

# %% tags=["hide-input"]
speed = tables.read("speed", paths.tables("benchmarks")).set_index(["scope", "engine"])
for scope, engine in speed.index:
    glue(f"speed_{scope}_{engine}", float(speed.loc[(scope, engine), "ratio"]), display=False)
style.table(speed[["model", "points", "timed", "seconds", "ratio", "largest_difference", "memory_mb"]], precision=4)

# %% [markdown]
# ## How much of a curve is informative?
#
# On some axes most of a grid lies behind the collapse, where any forecast has a small error. The table counts, on each
# axis, the share of points of this run's magnitude curves in every segment.

# %% tags=["hide-input"]
referenced = curve_metrics.with_references(sweeps[sweeps["criterion"] == "magnitude"], model_table)
shares = (
    referenced.assign(segment=curve_metrics.segment(referenced)).groupby("axis")["segment"].value_counts(normalize=True)
)
segments = shares.unstack(fill_value=0).reindex(index=AXES, columns=curve_metrics.SEGMENTS, fill_value=0)
glue("sigma_collapsed", float(segments.loc["sigma", "collapsed"]), display=False)
style.table(segments, precision=2)

# %% [markdown]
# ## What this shows
#
# - A curve is flat, falls once, and is flat again. On the sigma axis {glue:text}`sigma_collapsed:.0%` of the points
#   are collapsed: an error averaged over that axis says little, so errors in this book are also given by segment.
# - Global and layer scope fall at different sparsities: of {glue:text}`models_collected` models,
#   {glue:text}`global_longer` are safe at least as far in global scope as in layer scope.
# - Because a curve is flat for most of its length, measuring all of it is waste: against the common way the exact
#   engine is {glue:text}`speed_global_exact:.1f` times faster, the adaptive one {glue:text}`speed_global_adaptive:.0f`
#   times in global and {glue:text}`speed_layer_adaptive:.0f` times in layer scope.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("collect_sweeps", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). On the sigma axis most thresholds lie where accuracy has already collapsed. A
# forecast that says "the majority class" at every threshold has a small mean error on that axis. Is it a good forecast?
# What would you report in place of one mean over the axis?
#
# :::{dropdown} Solution
# It is useless: it is right only where nobody wants to prune, and it never says where the fall is. Report the error by
# segment (plateau, transition, collapsed), or on the percentile axis, where every step prunes equally many weights. A mean
# over a grid depends on where the grid has its points.
# :::
#
# **Exercise 2: Change** (10 minutes). The safe sparsity depends on what you would give up. In the table `sweeps` of
# `data/measured/campaign_seed_1` take `trec6_bert` in layer scope, first with an epsilon of one hundredth, then of five
# hundredths. `answer` is the second safe sparsity minus the first.
#
# :::{dropdown} Solution
# ```python
# from prunecast import paths, tables
# from prunecast.sweeps import curve_metrics
#
# sweeps = tables.read("sweeps", paths.MEASURED / "campaign_seed_1")
# strict, mild = (
#     curve_metrics.safe_sparsities(sweeps, epsilon=epsilon)
#     for epsilon in (0.01, 0.05)
# )
# answer = mild.loc["trec6_bert", "layer"] - strict.loc["trec6_bert", "layer"]
# ```
# The gain is small beside the fivefold loss, because a curve falls steeply once it falls.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write `search(loss, points)`: it returns the last point at which the loss is at most
# one hundredth. Points are numbered from 0, where nothing is pruned; `loss(point)` measures one, and each call counts. Assume
# that the loss never falls again. For 101 points call `loss` at most eight times. `answer` is the function.
#
# :::{dropdown} Solution
# ```python
# def search(loss, points):
#     safe, unsafe = 0, points
#     while unsafe - safe > 1:
#         middle = (safe + unsafe) // 2
#         if loss(middle) <= 0.01:
#             safe = middle
#         else:
#             unsafe = middle
#     return safe
#
#
# answer = search
# ```
# Bisection halves the bracket with every evaluation. Real curves may dip and recover; so the engine of this page also draws
# audit samples inside a bracket before it interpolates there.
# :::
