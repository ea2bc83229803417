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
#       - data/measured/campaign/sweeps.csv
#       - data/measured/campaign/predictions.csv.gz
#       - data/measured/safe_ratios/scans.csv
#       - data/measured/selection/candidates.csv
#       - data/measured/compression_base/candidates.csv
#       - data/measured/selection/searches.csv
#       - data/measured/selection/selections.csv
#       - data/measured/selection_docstrings/searches.csv
#     writes: [scans.csv, candidates.csv, searches.csv, selections.csv]
#     all_cores: true
# ---
# %% [markdown]
# # Selection
#
# What would you deploy? The source study's Algorithm 1 searches for the largest ratio that costs no more than epsilon of
# accuracy. This page runs it as printed, finds the same ratio with fewer measurements, and then selects more than a
# ratio: form, removed parts and training, such that no cost can be reduced without increasing another.
#
# - **You will need** the pages {doc}`schedules` and {doc}`energy`.
# - **You will learn** to read a front, to choose from it by a stated rule, and to search it with few measurements.
# - **Run time**: about a minute.
# - **Reading**: 9 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the tables and the chosen models go to
measured: list = ["selection", "compression_base"]  # studies under data/measured whose fronts are shown as well
forecasts: str = "campaign"  # study under data/measured with curves, and forecasts of models the surrogate had not seen
models_from: str = "laptop"  # study whose models are configured here
models: list = ["docstrings_bert"]  # models of that study
epsilon: float = 0.01  # accuracy you would give up
ratios: list = [0.3, 0.6, 0.9]  # shares set to zero, in the masked and the sparse form
removed: list = [[0.0, 0.5], [0.0, 0.5], [0, 1]]  # shares of the heads, shares of the neurons, layers
trained_ratios: list = [0.6]  # shares set to zero where the model is trained on after it
examples: int = 2000  # training examples, at most
learning_rate: float = 2.0e-4  # highest learning rate
evaluations: int = 15  # configurations a search may measure
seeds: list = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]  # seeds of the searches
watts_per_core: float = 4.2  # for the estimate of energy, where there is no sensor; 0: no estimate
seed: int = 0  # seed of the models

# %% tags=["hide-input"]
import pandas as pd
import torch
from myst_nb import glue
from prunecast import paths, tables
from prunecast.cost import energy
from prunecast.models import checkpoints
from prunecast.plotting import deployment as deployment_figures
from prunecast.plotting import style
from prunecast.pruning.finetuning import budget_of
from prunecast.selection import deployment, pareto, search
from prunecast.selection.evaluator import BATCHES, ConfigurationEvaluator
from prunecast.selection.space import space_of
from prunecast.sweeps import curve_metrics

style.use_style()

# %% [markdown]
# ## Algorithm 1, and the same answer for less
#
# As printed: begin at a ratio of {glue:text}`start`, go back by {glue:text}`step` while the accuracy falls by more than
# epsilon; as its step VIII requires the *largest* ratio, go on while it does not. In steps of a hundredth this **scan**
# needs many evaluations. **Halves** measures half-way between the largest ratio found safe and the smallest found unsafe;
# **guided** measures where a forecast of the curve makes both equally probable. Both then measure two ratios a little
# below their answer, since a curve may dip there. **Adaptive** starts at the forecast and halves as well, but mostly
# evaluates only examples whose class can still change, as the sweeps of {doc}`collect_sweeps` do; so it can afford to
# check the whole curve below its answer. Its evaluations are counted in examples, divided by how many there are.
#
# In the table the first column is of this page's models. The others were measured on all models of {doc}`the campaign <campaign>`
# with an epsilon of {glue:text}`kept_epsilon`, each forecast with its architecture left out. For a model without such a
# forecast there is no guided search, and the adaptive one starts half-way.

# %%
subjects = [checkpoints.trained_classifier(name, models_from, seed) for name in models]
unseen_forecasts = tables.read("predictions", paths.MEASURED / forecasts).query(deployment.UNSEEN)
scans = pd.concat([deployment.scan_safe_ratios(subject, unseen_forecasts, epsilon) for subject in subjects])
_ = tables.write("scans", scans, paths.outputs(run))

# %% tags=["hide-input"]
measured_scans = tables.read("scans", paths.MEASURED / "safe_ratios")
wide = measured_scans.pivot(index=["model", "scope"], columns="method")
counts, answers = wide["evaluations"], wide["ratio"]
same_answer = answers.sub(answers["scan"], axis=0).abs().lt(0.005).mean()
style.table(
    pd.DataFrame(
        {
            "evaluations here": scans.groupby("method")["evaluations"].mean(),
            "evaluations": counts.mean(),
            "share of the scan's": counts.sum() / counts["scan"].sum(),
            "same ratio as the scan": same_answer,
            "mean ratio": answers.mean(),
        }
    ).reindex(["algorithm_1", "scan", "halves", "guided", "adaptive"])
)

# %% [markdown]
# ## Every configuration, measured
#
# Ratio, criterion, scope, form and training together. Each configuration is built for real and measured: accuracy on all
# examples, effective operations, latency at batch 1, energy at batch 32, as shares of the dense model's in the same run.

# %%
heads, neurons, layers = removed
space = space_of(ratios=ratios, heads=heads, neurons=neurons, layers=layers, trained_ratios=trained_ratios)
budget = budget_of(epochs=1, examples=examples, learning_rate=learning_rate, distilled=1)
meter = energy.meter(torch.device("cuda" if torch.cuda.is_available() else "cpu"), watts_per_core or None)
rounds = 10  # calls timed at each batch size
evaluators = {subject.name: ConfigurationEvaluator(subject, budget, meter, rounds) for subject in subjects}
candidates = pd.concat(
    [evaluator.candidates(space.configurations()) for evaluator in evaluators.values()], ignore_index=True
)
_ = tables.write("candidates", candidates, paths.outputs(run))

# %% [markdown]
# ## Searching instead
#
# Measuring them all is expensive. Three searches may measure {glue:text}`evaluations:d` of them: at random, by NSGA-II
# {cite:p}`deb2002`, and **guided** by a Gaussian process whose inputs include the operations of a configuration and how
# often it agrees with the dense model on sixteen unlabelled examples, the cost of which is counted; it starts with the
# cheapest of each form and continues with the largest expected gain of hypervolume {cite:p}`emmerich2006`. The result
# is the hypervolume {cite:p}`zitzler1999` of what was measured, as a share of the whole.
#
# {numref}`fig-searches` shows this, the same with all configurations of that model, and for MiniLM on the two tasks of
# the source study, with {glue:text}`kept_candidates:d` configurations each. The higher a line, the better the front found by then; the band
# spans all seeds.

# %%
majorities = {subject.name: subject.task.majority_accuracy for subject in subjects}
searches = pd.concat(
    [
        search.benchmark(part, majorities[name], evaluations, seeds).assign(model=name)
        for name, part in candidates.groupby("model")
    ]
)
_ = tables.write("searches", searches, paths.outputs(run))

# %% mystnb={"figure": {"caption": "Hypervolume found after each number of measurements, mean and range over all seeds.", "name": "fig-searches"}, "image": {"alt": "A panel a model. The guided search starts late, having spent measurements on the agreement, then rises above NSGA-II and random search."}} tags=["hide-input", "nbval-ignore-output"]
measured_searches = tables.read("searches", paths.MEASURED / measured[0])
third_searches = tables.read("searches", paths.MEASURED / "selection_docstrings")
of_study = third_searches.assign(model=third_searches["model"] + ", as measured")
_ = deployment_figures.draw_searches(pd.concat([searches, of_study, measured_searches]))

# %% [markdown]
# ## The front
#
# In {numref}`fig-front` every mark is a model that could be deployed. Up and to the left is better. Opaque marks were
# trained on after pruning. The step line is the front in these two figures; the names are choices, explained below: each
# from the {glue:text}`kept_budget:d` configurations that one guided search measured, not from all.

# %% mystnb={"figure": {"caption": "The measured configurations of MiniLM and of mpnet-base on SST-2: accuracy against latency, at batch 1 and at batch 32.", "name": "fig-front"}, "image": {"alt": "Three scatters of accuracy against latency as a share of the dense model's. Masked models stand in a column at one. Removed models reach left; those trained on lie highest. Sparse kernels scatter around one."}} tags=["hide-input"]
measured_candidates = tables.read("candidates", paths.MEASURED / measured[0])
sst2 = measured_candidates[measured_candidates["model"] == "sst2_minilm"].reset_index(drop=True)
measured_selections = tables.read("selections", paths.MEASURED / measured[0])
sst2_selections = measured_selections[measured_selections["model"] == "sst2_minilm"]
rules = sst2_selections.groupby("configuration", sort=False)["method"].agg(", ".join)
picked = {rule: int((sst2["configuration"] == name).argmax()) for name, rule in rules.items()}
dense = float(sst2.loc[sst2["form"] == "dense", "accuracy"].iloc[0])
larger = tables.read("candidates", paths.MEASURED / measured[1])
fronts = [sst2.assign(panel="MiniLM, batch 1", latency=sst2["latency_ratio_1"])]
fronts += [
    larger.assign(panel=f"mpnet-base, batch {size}", latency=larger[f"latency_ratio_{size}"]) for size in BATCHES
]
_ = deployment_figures.draw_front(pd.concat(fronts, ignore_index=True), "latency", picked)

# %% [markdown]
# ## The choice
#
# Algorithm 1 ends with a ratio, and names no rule for a choice among costs. Ours are stated: the **knee** is the point
# of the front nearest to the ideal one, whatever it loses; for a **phone** the latency at batch 1 is minimised, for a
# **server** that at batch 32, for a **batch** job the energy, each among models that lose no more than epsilon. The
# best few are timed again beside the dense one, longer and in one run; the best of these is chosen and saved with its
# four figures.

# %%
chosen = pd.concat(
    [deployment.deploy(evaluators[name], part, searches, epsilon) for name, part in candidates.groupby("model")]
)
_ = tables.write("selections", chosen, paths.outputs(run))

# %% tags=["hide-input", "nbval-ignore-output"]
all_selections = pd.concat([chosen, measured_selections])
columns = ["configuration", "accuracy", "dense_accuracy", "flops_effective", "latency_ratio", "energy_j", "evaluations"]
style.table(all_selections.set_index(["model", "method"])[columns])

# %% tags=["hide-input"]
last, third_last = (int(table["evaluations"].max()) for table in (measured_searches, third_searches))
points = measured_searches[measured_searches["evaluations"].isin([last // 2, last])]
third_won = search.seeds_won(third_searches)[third_last]
hypervolume = points.pivot_table("hypervolume", ["evaluations", "model"], "search")
won = search.seeds_won(points)
best = sst2_selections.set_index("method").loc["phone"]
from_scan = answers["adaptive"] - answers["scan"]
masked_latency = measured_candidates.loc[measured_candidates["form"] == "masked", "latency_ratio_1"]
campaign_epsilon = measured_scans["epsilon"].iloc[0]
swept = curve_metrics.safe_sparsities(tables.read("sweeps", paths.MEASURED / forecasts), campaign_epsilon)
difference = (swept - answers["adaptive"].unstack()).abs().to_numpy()
glue("phone", str(best["configuration"]), display=False)
style.table(hypervolume.assign(**{"seeds won by guided": won}))

# %% tags=["hide-input"]
for name, value in {
    "start": pareto.START, "step": pareto.STEP, "kept_epsilon": campaign_epsilon, **same_answer.add_prefix("same_"),
    "fewer": counts["scan"].sum() / counts["adaptive"].sum(), "printed_ratio": answers["algorithm_1"].mean(),
    "adaptive_ratio": answers["adaptive"].mean(), "latency": best["latency_ratio"], "phone_accuracy": best["accuracy"],
    "dense": dense, "phone_sparsity": best["ratio"], "near": (difference < 0.015).mean(), "off": difference.max(),
    "alike_low": masked_latency.min(), "alike_high": masked_latency.max(), **counts.mean().add_prefix("count_"),
}.items():  # fmt: skip
    glue(name, float(value), display=False)
for name, count in {
    "evaluations": evaluations, "kept_candidates": len(sst2), "eval_examples": sst2["eval_examples"].iloc[0],
    "kept_budget": last, "half": last // 2, "wins": won[last].min(), "wins_half": won[last // 2].min(),
    "seeds": points["seed"].nunique(), "third_seeds": third_searches["seed"].nunique(), "third_won": third_won.min(),
    "third_last": third_last, "curves": len(wide), "smaller": sum(from_scan < -0.005), "larger": sum(from_scan > 0.005),
}.items():  # fmt: skip
    glue(name, int(count), display=False)

# %% [markdown]
# ## What this shows
#
# - As printed, in steps of a tenth, Algorithm 1 takes {glue:text}`count_algorithm_1:.1f` evaluations and ends at
#   {glue:text}`printed_ratio:.3f` on average. In steps of a hundredth its scan takes {glue:text}`count_scan:.1f`. The
#   adaptive search takes {glue:text}`count_adaptive:.1f` at the same resolution, {glue:text}`fewer:.1f` times fewer,
#   and ends at {glue:text}`adaptive_ratio:.3f`, with the scan's own ratio on {glue:text}`same_adaptive:.1%` of
#   {glue:text}`curves:d` curves. On {glue:text}`smaller:d` its answer is smaller, since a ratio below, which the scan
#   never measured, is unsafe; on {glue:text}`larger:d` it is larger.
# - Halving with whole evaluations takes {glue:text}`count_halves:.1f` and gives the scan's ratio on
#   {glue:text}`same_halves:.1%` of them; guided by the forecast it takes {glue:text}`count_guided:.1f`, and gives it on
#   {glue:text}`same_guided:.1%`. Where they differ, the curve dips and recovers.
# - Read off the adaptively swept curves of {doc}`the campaign <campaign>`, safe ratios are within a hundredth of these on
#   {glue:text}`near:.0%` of the curves, and at most {glue:text}`off:.2f` away: a sweep measures the curve, a search
#   its safe end.
# - For a phone, the choice for MiniLM on SST-2 is *{glue:text}`phone`*: {glue:text}`latency:.2f` of the dense latency,
#   {glue:text}`phone_sparsity:.0%` of the prunable weights zero or removed, accuracy {glue:text}`phone_accuracy:.3f`
#   against {glue:text}`dense:.3f`. That is on {glue:text}`eval_examples:d` examples, chosen and reported on the same
#   ones: one hundredth is about one standard error.
# - Brief timings are noisy: masked models, which all take the dense model's time, were timed at
#   {glue:text}`alike_low:.2f` to {glue:text}`alike_high:.2f` of it. The hypervolumes rest on these timings, the choices
#   on longer ones.
# - With {glue:text}`half:d` measurements the guided search has found more hypervolume than NSGA-II and random search in
#   at least {glue:text}`wins_half:d` of {glue:text}`seeds:d` seeds on either task; with {glue:text}`kept_budget:d` in
#   {glue:text}`wins:d`, because some searches have found the whole front by then. It was tuned on these two tasks. On
#   a third model, for which nothing was tuned, it wins {glue:text}`third_won:d` of {glue:text}`third_seeds:d` seeds with
#   {glue:text}`third_last:d` measurements.
# - Masks alone cut effective operations and no milliseconds. Which front matters depends on what will run the model.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("pareto", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). A weighted sum of costs always chooses a configuration on the front. Can every
# configuration of the front be chosen by some weights?
#
# :::{dropdown} Solution
# No. A sum has straight lines of equal cost, so it finds only configurations on the convex hull of the front. One that lies in
# a hollow is beaten for any weights, though nothing dominates it. A budget on one cost finds those, too: `pareto.within`.
# :::
#
# **Exercise 2: Change** (10 minutes). In `candidates.csv` of `data/measured/selection` take `sst2_minilm`. Among the
# configurations whose accuracy is at most one hundredth below that of the dense one, which has the lowest `latency_ratio_1`?
# Now accept a loss of five hundredths: the name of that configuration is `answer`. Which form is it, and why no masked one?
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.MEASURED / "selection" / "candidates.csv")
# rows = rows[rows["model"] == "sst2_minilm"].set_index("configuration")
# dense = rows.loc[rows["form"] == "dense", "accuracy"].item()
# allowed = rows[rows["accuracy"] >= dense - 0.05 - 1e-9]
# answer = allowed["latency_ratio_1"].idxmin()
# ```
# A masked model takes the dense model's time, so no loss of accuracy buys time with masks alone.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write `front(costs)`: for an array (n, k) of n configurations and k costs, all to be
# low, a boolean array that is true where no other configuration is at least as good in every cost and better in one. Rows that
# are equal do not dominate each other. `answer` is the function.
#
# :::{dropdown} Solution
# ```python
# import numpy as np
#
#
# def front(costs):
#     costs = np.asarray(costs)
#     as_good = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)
#     better = (costs[:, None, :] < costs[None, :, :]).any(axis=2)
#     return ~(as_good & better).any(axis=0)
#
#
# answer = front
# ```
# It compares all pairs, which is fast enough for some thousand configurations. Forgetting *better in one* makes equal rows
# dominate each other, and both vanish from the front.
# :::
