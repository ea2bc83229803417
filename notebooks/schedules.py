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
#       - data/measured/selection/schedules.csv
#       - data/measured/compression/schedules.csv
#       - data/measured/compression_cola/schedules.csv
#       - data/measured/compression_base/schedules.csv
#       - data/measured/compression_base_cola/schedules.csv
#       - data/measured/base_long/schedules.csv
#       - data/measured/base_long_cola/schedules.csv
#       - data/measured/compression_base/candidates.csv
#     writes: [schedules.csv]
#     all_cores: true
# ---

# %% [markdown]
# # Schedules
#
# *When* should the weights be pruned: all at once, in rounds, or little by little while the network is trained on? And
# how much of the lost accuracy does the training recover? This page prunes the same model to the same sparsity under
# four schedules, each with the same training, and sets them beside two controls.
#
# - **You will need** the page {doc}`collect_sweeps`.
# - **You will learn** what fine-tuning after pruning recovers, and what a fair comparison of schedules holds equal.
# - **Run time**: about a minute.
# - **Reading**: 7 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the table goes to
measured: list = ["selection", "compression", "compression_cola"]  # studies under data/measured, shown as well
base_size: list = ["compression_base", "compression_base_cola", "base_long", "base_long_cola"]  # a model of base size
models_from: str = "laptop"  # study whose models are pruned here
models: list = ["docstrings_bert"]  # models of that study
schedules: list = ["none", "dense", "one_shot", "iterative", "gradual", "regrow"]  # what is compared
sparsities: list = [0.82]  # shares of the prunable weights that are pruned
removed: list = [0.0, 0.0, 0]  # shares of the heads and of the neurons, and layers, that are removed before
scope: str = "layer"  # compare weights across the whole model (global) or within each layer (layer)
examples: int = 3000  # training examples, at most
epochs: float = 1.0  # passes over them
learning_rate: float = 3.0e-4  # highest learning rate
distilled: float = 1.0  # share of the dense model's answers in the targets; the rest are labels
seeds: list = [0, 1, 2]  # seeds of the training
seed: int = 0  # seed of the models

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue
from prunecast import paths, tables
from prunecast.models import checkpoints
from prunecast.plotting import deployment, style
from prunecast.pruning.finetuning import Retraining, budget_of
from prunecast.pruning.structured import Removal

style.use_style()

# %% [markdown]
# ## Four schedules on one loop
#
# **One-shot** prunes before the training {cite:p}`han2015`. **Iterative** prunes in rounds, and before each resets the
# unpruned weights to their values before pruning and restarts the learning rate {cite:p}`frankle2019,renda2020`.
# **Gradual** prunes while it trains, fast at first, by a cubic law {cite:p}`zhu2017`; **regrow** does the same, and
# each time prunes some more weights and regrows as many pruned ones, those of largest gradient
# {cite:p}`evci2020,liu2021`. {numref}`fig-plan` shows the sparsity over the training: where the curve rises early, the
# sparse network is trained longer; where it rises late, weights are trained longer before they are pruned.

# %% mystnb={"figure": {"caption": "Sparsity during the training, as each schedule plans it.", "name": "fig-plan"}, "image": {"alt": "Sparsity against the share of the training. One-shot is flat at the target, iterative rises in three equal-ratio steps, gradual and regrow follow one cubic curve that reaches the target at seven tenths."}} tags=["hide-input"]
_ = deployment.draw_plans(sparsities[-1])

# %% [markdown]
# ## The comparison
#
# Every run starts from the same trained model and sees the same examples as often, at the same highest learning rate;
# the three rounds of *iterative* see a third each. Two controls: **none** is pruned and not trained on, **dense** is
# not pruned but trained on as long. What a pruned network loses against *dense* is the cost of pruning; what it gains
# on *none* is the benefit of training.

# %%
budget = budget_of(epochs=epochs, examples=examples, learning_rate=learning_rate, distilled=distilled)
removal = Removal(*removed, "taylor")
subjects = [checkpoints.trained_classifier(name, models_from, seed) for name in models]
outcomes = pd.concat(
    [Retraining(subject, budget, removal).compared(schedules, sparsities, scope, seeds) for subject in subjects]
)
_ = tables.write("schedules", outcomes, paths.outputs(run))

# %% tags=["hide-input"]
measures = ["accuracy", "f1", "matthews"]
by_schedule = outcomes.groupby(["model", "sparsity", "schedule"], sort=False)
spread = by_schedule["accuracy"].agg(lowest="min", highest="max")
means = outcomes[outcomes["sparsity"].isin([0.0, sparsities[-1]])].groupby("schedule")["accuracy"].mean()
trained = means.drop(["none", "dense"], errors="ignore")
style.table(by_schedule[measures].mean().join(spread))

# %% [markdown]
# ## On a pretrained transformer
#
# The same on MiniLM, fine-tuned on the two tasks of the source study. Each mark in {numref}`fig-schedules` is a run;
# the line is the accuracy of the model before pruning. Read a column: its height is the accuracy under the schedule,
# its length the spread over seeds. The table below has another recipe as well, with *removed* parts and far more
# training: half of the heads and neurons and one layer of MiniLM, or half of the neurons and of the twelve layers of
# mpnet-base, are removed first, then weights of the rest are set to zero. Where parts are removed, *dense* has no other zeros.

# %% mystnb={"figure": {"caption": "Accuracy under each schedule, at the same budget of training; a mark a seed.", "name": "fig-schedules"}, "image": {"alt": "A panel a model. On SST-2 all schedules lie between the pruned model without training and dense training, about half-way; on CoLA they lie near the majority class, well below dense training."}} tags=["hide-input"]
compared, of_base = (
    pd.concat([tables.read("schedules", paths.MEASURED / study) for study in studies])
    for studies in (measured, base_size)
)
_ = deployment.draw_schedules(compared[compared["removed"] == "nothing"])

# %% tags=["hide-input"]
measured_outcomes = pd.concat([compared, of_base])
lost = measured_outcomes.assign(loss=100 * (measured_outcomes["dense_accuracy"] - measured_outcomes["accuracy"]))
columns = ["model", "removed", "sparsity", "schedule", "examples", "epochs", "learning_rate"]
losses = lost.groupby(columns, sort=False)["loss"].agg(["mean", "min", "max", "count"])
losses["matthews"] = measured_outcomes.groupby(columns, sort=False)["matthews"].mean()
pruned = losses.reset_index().query("sparsity > 0.8").sort_values("mean").groupby("model")
of_tasks = pruned.nth(0).set_index("model")
longest, cola = of_tasks.loc[["sst2_minilm", "cola_minilm"]].to_dict("records")
base, base_cola = of_tasks.loc[["sst2_mpnet_base", "cola_mpnet_base"]].to_dict("records")
brief = pruned.get_group("cola_minilm").query("removed == 'nothing' and schedule != 'none'")
named = losses.rename(columns={"mean": "points lost", "count": "seeds"})
how = ["sparsity", "examples", "epochs", "learning_rate", "removed"]
style.table(named.reset_index(how)[[*named, *how]], precision=2)

# %% tags=["hide-input"]
for name in ("none", "dense"):
    glue(f"here_{name}", float(means.get(name, float("nan"))), display=False)
for name, value in {
    "sparsity": sparsities[-1], "here_best": trained.max(), "cola_brief": brief["matthews"].max()
}.items():  # fmt: skip
    glue(name, float(value), display=False)
glue("here_name", str(trained.idxmax()).replace("_", "-") if len(trained) else "none", display=False)
for name, row in {"best": longest, "base": base, "cola": cola, "base_cola": base_cola}.items():
    for column, value in row.items():
        shown = value.replace("_", "-") if isinstance(value, str) else float(value)
        glue(f"{name}_{column}", shown, display=False)

# %% tags=["hide-input"]
collapsed = of_base.query("model == 'sst2_mpnet_base' and removed == 'nothing'")["accuracy"]
smaller = losses.reset_index().query("model == 'sst2_mpnet_base' and schedule == 'dense'").nsmallest(1, "mean").iloc[0]
configurations = tables.read("candidates", paths.MEASURED / base_size[0]).set_index("configuration")
times = configurations.loc["removed taylor heads-0 neurons-0.5 layers-3 one_shot"]
for name, value in {
    "collapsed_low": collapsed.min(), "collapsed_high": collapsed.max(), "smaller_loss": smaller["mean"],
    "smaller_most": smaller["max"], "smaller_sparsity": smaller["sparsity"],
    "faster_1": 1 - times["latency_ratio_1"], "faster_32": 1 - times["latency_ratio_32"],
}.items():  # fmt: skip
    glue(name, float(value), display=False)

# %% [markdown]
# ## What this shows
#
# - Here, at {glue:text}`sparsity:.0%` sparsity, the model that is pruned and not trained on has accuracy
#   {glue:text}`here_none:.3f`; with the same training the best schedule, {glue:text}`here_name`, has
#   {glue:text}`here_best:.3f`, and the dense model trained on as long {glue:text}`here_dense:.3f`.
# - MiniLM on SST-2 loses {glue:text}`best_mean:.1f` points ({glue:text}`best_min:.1f` to {glue:text}`best_max:.1f` over
#   {glue:text}`best_count:.0f` seeds) at {glue:text}`best_sparsity:.0%` sparsity, under the best of what was tried:
#   {glue:text}`best_schedule`, one pass over {glue:text}`best_examples:.0f` examples, removed before:
#   {glue:text}`best_removed`. That is another budget than the comparison's, so it does not rank the schedules.
# - On CoLA the same recipe, with {glue:text}`cola_epochs:.0f` passes over its fewer sentences, loses
#   {glue:text}`cola_mean:.1f` points and leaves a Matthews correlation of {glue:text}`cola_matthews:.2f`. Under the
#   comparison's brief training no schedule exceeds {glue:text}`cola_brief:.2f`: the model answers with the majority
#   class, which accuracy and F1 hide.
# - mpnet-base, as large as the source's BERT-base, loses {glue:text}`base_mean:.1f` points on SST-2
#   ({glue:text}`base_min:.1f` to {glue:text}`base_max:.1f` over {glue:text}`base_count:.0f` seeds) with
#   {glue:text}`base_epochs:.0f` passes over {glue:text}`base_examples:.0f` examples, and
#   {glue:text}`base_cola_mean:.1f` points on CoLA, where a Matthews correlation of
#   {glue:text}`base_cola_matthews:.2f` is left. Removed before: {glue:text}`base_removed`.
# - With half of the neurons and three of the twelve layers removed, {glue:text}`smaller_sparsity:.0%` of the prunable weights,
#   and as many passes, it loses {glue:text}`smaller_loss:.1f` points on SST-2, at most {glue:text}`smaller_most:.1f`, and is
#   {glue:text}`faster_1:.0%` faster at batch 1 and {glue:text}`faster_32:.0%` at batch 32, on one core.
# - The source study prints a gain in accuracy on SST-2 at four fifths removed. What we measure is a loss. For mpnet-base,
#   zeros alone with nothing removed were tried for as long, too: its accuracy is between {glue:text}`collapsed_low:.2f` and
#   {glue:text}`collapsed_high:.2f`, so where to take the weights from matters more than when.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("schedules", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). Someone prunes in ten rounds with one pass of training after each, and compares with
# one-shot pruning and one pass. What is wrong, and which control of this page would show it?
#
# :::{dropdown} Solution
# One has ten times the training of the other; the difference may be due to that alone. A fair comparison gives every schedule
# the same passes, examples and learning rates. The dense model, trained on as long, shows what training alone brings, and the
# model without any shows what pruning alone costs.
# :::
#
# **Exercise 2: Change** (10 minutes). In `schedules.csv` of `data/measured/selection` take the task `sst2` and the schedules
# `one_shot`, `iterative`, `gradual` and `regrow`. `answer` is a pair: the mean accuracy of the best minus that of the second
# best, and the largest minus the smallest accuracy of the best over its seeds. Which of the two is larger, and what follows?
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.MEASURED / "selection" / "schedules.csv")
# names = ["one_shot", "iterative", "gradual", "regrow"]
# rows = rows[(rows["task"] == "sst2") & rows["schedule"].isin(names)]
# by_schedule = rows.groupby("schedule")["accuracy"].agg(["mean", "min", "max"])
# first, second = by_schedule.sort_values("mean", ascending=False).index[:2]
# best = by_schedule.loc[first]
# answer = (best["mean"] - by_schedule.loc[second, "mean"], best["max"] - best["min"])
# ```
# The seeds of one schedule differ more than the two schedules do. Three seeds do not say which of them is better.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write the cubic law of gradual pruning: `sparsity(progress, last)` for a progress from 0
# to 1, with sparsity 0 at the beginning, `last` at the end and afterwards, most of the pruning early: last · (1 − (1 −
# progress)³). `answer` is the function. At which progress is half of the pruning done?
#
# :::{dropdown} Solution
# ```python
# def sparsity(progress, last):
#     left = max(0.0, 1.0 - progress)
#     return last * (1.0 - left**3)
#
#
# answer = sparsity
# ```
# Half is done when (1 − progress)³ is one half, after about a fifth of the training: early on there is much to spare, and the
# rest of the time is for recovering.
# :::
