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
#       - data/measured/campaign/models.csv
#       - data/measured/campaign/sweeps.csv
#       - data/measured/campaign_base/models.csv
#       - data/measured/campaign_base/sweeps.csv
#       - data/measured/campaign_seed_1/sweeps.csv
#       - data/measured/campaign_seed_2/sweeps.csv
#     writes: []
# ---

# %% [markdown]
# # The campaign
#
# What decides how far a classifier can be pruned: its architecture, its task, or how it was trained? This page shows
# the curves of many real classifiers. They took longer to measure than a page may run, so their tables are checked in
# under `data/measured/` with their provenance.
#
# - **You will need** the page {doc}`magnitude_pruning`.
# - **You will learn** what a pretrained parent, a task and a way of training change, and what random pruning shows.
# - **Run time**: seconds.
# - **Reading**: 8 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the page belongs to
measured: str = "campaign"  # study to show: checked in under data/measured, or a run
base_size: str = "campaign_base"  # study under data/measured with checkpoints of base size
seeds: list = ["campaign_seed_1", "campaign_seed_2"]  # studies with the same models under other seeds

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue
from prunecast import paths, tables
from prunecast.plotting import curves, style
from prunecast.sweeps import curve_metrics

style.use_style()

# %%
real_models = tables.read("models", paths.tables(measured)).set_index("model", drop=False)
real_sweeps = tables.read("sweeps", paths.tables(measured))
safe = curve_metrics.safe_sparsities(real_sweeps, epsilon=0.01).add_prefix("safe, ")
safe["safe, random"] = curve_metrics.safe_sparsities(real_sweeps, epsilon=0.01, criterion="random")["global"]
real = real_models.join(safe)
bases = real[real["base"] == real["model"]]
text = bases[bases["kind"] == "text"]

# %% [markdown]
# ## The models
#
# Transformers of many architectures, fine-tuned from MiniLM (some with layers removed before) or trained from scratch,
# and image classifiers. Each was evaluated on at most 2,000 examples it was not trained on. The columns *safe* give the
# sparsity up to which no more than one hundredth of accuracy is lost, read off the curve; {doc}`pareto` sets it beside
# what a search for it finds. The answers of ConvBERT change with padding: its curves are those of padded batches.

# %% tags=["hide-input"]
facts = ["architecture", "initialisation", "task", "classes", "prunable_parameters", "dense_accuracy"]
style.table(bases[[*facts, "majority_accuracy", *safe]])

# %% [markdown]
# ## All curves
#
# Read {numref}`fig-real` from left to right. The solid line compares weights across the whole model, the dashed one
# within each layer. The dotted line is the control: weights drawn at random. Accuracy that random pruning preserves,
# any criterion would.

# %% mystnb={"figure": {"caption": "Accuracy against sparsity of real classifiers without retraining. Solid: smallest weights of the whole model first. Dashed: smallest weights of each layer first. Dotted: weights drawn at random.", "name": "fig-real"}, "image": {"alt": "One panel a classifier. Each shows accuracy against sparsity, magnitude pruning in global scope solid, in layer scope dashed, random pruning dotted, from the plateau down to the thin line of the majority class."}} tags=["hide-input"]
_ = curves.draw_curves(bases, real_sweeps)

# %% [markdown]
# ## What architecture and task change
#
# Each row below gathers the text classifiers that share one thing, and shows how far apart their safe sparsities in
# global scope still are: where a range is narrow, what is shared decides.

# %% tags=["hide-input"]
groups = {"pretrained": text["initialisation"] == "pretrained", "from scratch": text["initialisation"] == "scratch"}
groups |= {task: text["task"] == task for task, count in text["task"].value_counts().items() if count > 1}
ranges = pd.DataFrame({name: text.loc[rows, "safe, global"].describe() for name, rows in groups.items()}).T
glue("text_models", len(text), display=False)
glue("text_architectures", text["architecture"].nunique(), display=False)
glue("text_tasks", text["task"].nunique(), display=False)
for start, rows in text.groupby("initialisation"):
    for column in ("global", "layer", "random"):
        glue(f"{start}_{column}_safe", float(rows[f"safe, {column}"].mean()), display=False)
style.table(ranges[["count", "min", "mean", "max"]].astype({"count": int}), precision=2)

# %% [markdown]
# ## What training changes
#
# The same model trained more briefly, with a batch four times as large, or with far stronger weight decay. These are
# temperature-like settings: they change how noisy and how long training is, and with it how much can be pruned.
# {numref}`fig-variants` shows the curves; where the lines of a panel part, the training and not the architecture
# decides.

# %% mystnb={"figure": {"caption": "Magnitude pruning in global scope of the same models trained otherwise. Thick grey: as in the figure above. Dashed: fewer epochs. Dash-dotted: larger batches. Dotted: stronger weight decay.", "name": "fig-variants"}, "image": {"alt": "One panel a model with four falling curves of accuracy against sparsity, one for each way of training."}} tags=["hide-input"]
_ = curves.draw_variants(real["base"], real_sweeps)

# %% tags=["hide-input"]
varied = real[real["base"].isin(real.loc[real["base"] != real["model"], "base"])]
spread = varied.groupby("base", sort=False)["safe, global"].agg(["min", "max"])
glue("variant_spread", float((spread["max"] - spread["min"]).max()), display=False)
glue("variants", int((varied["base"] != varied["model"]).sum()), display=False)
style.table(varied[["epochs", "batch_size", "weight_decay", "dense_accuracy", "safe, global", "safe, layer"]])

# %% [markdown]
# ## A second parent, and the noise of a seed
#
# The second part of the campaign: classifiers fine-tuned from a checkpoint of base size, whole and with layers removed
# before, evaluated in bfloat16. No point of theirs is exact; all examples were evaluated at about a tenth of the points.
# A model that answers like the majority class cannot be harmed: it is left out of the means below.

# %% tags=["hide-input"]
base_models, base_sweeps = (tables.read(name, paths.MEASURED / base_size) for name in ("models", "sweeps"))
base_safe = curve_metrics.safe_sparsities(base_sweeps, epsilon=0.01).add_prefix("safe, ")
of_base = base_models.set_index("model", drop=False).join(base_safe)
able = of_base[curve_metrics.learned(of_base)]
for scope in ("global", "layer"):
    glue(f"base_{scope}_safe", float(able[f"safe, {scope}"].mean()), display=False)
glue("base_models", len(able), display=False)
glue("base_tasks", able["task"].nunique(), display=False)
matrices = of_base.rename(columns={"layers": "prunable matrices"})
style.table(matrices[["task", "prunable matrices", "prunable_parameters", "dense_accuracy", *base_safe]])

# %% [markdown]
# Some models of the first part were trained again under one or two other seeds. *curve* is how far two seeds of one model lie
# apart on the mean over the curve, each as a loss from its own dense accuracy; *safe* is the distance of the safe
# sparsities, both as means over pairs of seeds. A forecast cannot be better than that.

# %% tags=["hide-input"]
noise = curve_metrics.seed_noise([tables.read("sweeps", paths.MEASURED / study) for study in (measured, *seeds)], 0.01)
for column in ("curve", "safe"):
    glue(f"noise_{column}", float(noise[column].mean()), display=False)
style.table(noise.unstack("scope"))

# %% [markdown]
# ## What this shows
#
# - Of {glue:text}`text_models` text classifiers over {glue:text}`text_architectures` architectures and
#   {glue:text}`text_tasks` tasks, those fine-tuned from a pretrained parent are safe up to a mean sparsity of
#   {glue:text}`pretrained_global_safe:.2f` in global scope and {glue:text}`pretrained_layer_safe:.2f` in layer scope;
#   those trained from scratch up to {glue:text}`scratch_global_safe:.2f` and {glue:text}`scratch_layer_safe:.2f`.
# - Random pruning is safe up to {glue:text}`pretrained_random_safe:.2f` in the first and {glue:text}`scratch_random_safe:.2f`
#   in the second: the difference is the effect of the magnitude criterion.
# - Training alone moves the safe sparsity of one and the same architecture by up to {glue:text}`variant_spread:.2f` in
#   global scope ({glue:text}`variants` variants).
# - The {glue:text}`base_models` classifiers of base size over {glue:text}`base_tasks` tasks are safe up to a mean sparsity
#   of {glue:text}`base_global_safe:.2f` in global and {glue:text}`base_layer_safe:.2f` in layer scope.
# - Another seed alone moves a curve by {glue:text}`noise_curve:.3f` on the mean, and the safe sparsity by
#   {glue:text}`noise_safe:.2f`.
# - Some tasks share sentences: most of the validation sentences of `sst2` stand in the training set of `mr`. No model is
#   scored on a task whose sentences it was trained on, but curves of the two are not independent.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("campaign", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). Why is random pruning measured at all, although nobody would prune like that? What
# could you not say about the magnitude criterion without it?
#
# :::{dropdown} Solution
# It is the control: it says how much any network of that size bears if the choice of weights does not matter. Only the
# difference between the two is due to the criterion. Without the control, a large safe sparsity might come from the criterion
# or just from a network that is much too large for its task.
# :::
#
# **Exercise 2: Change** (10 minutes). On what share of the models of `data/measured/campaign` is pruning in *layer* scope
# safe at least as far as in global scope, with an epsilon of one hundredth? Then ask the same for five hundredths, which is
# `answer`.
#
# :::{dropdown} Solution
# ```python
# from prunecast import paths, tables
# from prunecast.sweeps import curve_metrics
#
# sweeps = tables.read("sweeps", paths.MEASURED / "campaign")
# safe = curve_metrics.safe_sparsities(sweeps, epsilon=0.05)
# answer = (safe["layer"] >= safe["global"]).mean()
# ```
# Neither scope is always better. Global scope can empty a layer of small weights, which every class has to pass through;
# layer scope takes as much from a layer that has nothing to spare.
# :::
#
# **Exercise 3: Extend** (20 minutes). How much of a difference between two models is noise? The models of
# `data/measured/campaign_seed_1` were also trained under another seed in `data/measured/campaign`. `answer` is the mean
# absolute difference of their safe sparsities in layer scope, with an epsilon of one hundredth. Which statements of this page
# are differences larger than that?
#
# :::{dropdown} Solution
# ```python
# from prunecast import paths, tables
# from prunecast.sweeps import curve_metrics
#
# first, second = (
#     curve_metrics.safe_sparsities(
#         tables.read("sweeps", paths.MEASURED / study), epsilon=0.01
#     )["layer"]
#     for study in ("campaign", "campaign_seed_1")
# )
# answer = (first - second).dropna().abs().mean()
# ```
# The difference between pretrained and from scratch is a mean over many models and larger than this noise; a difference
# between two single variants of one model often is not.
# :::
