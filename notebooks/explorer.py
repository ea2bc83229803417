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
#       - data/measured/after_freeze/models.csv
#       - data/measured/after_freeze/sweeps.csv
#       - data/measured/after_freeze/signals.csv.gz
#     writes: []
# ---

# %% [markdown]
# # Explorer
#
# What does the {term}`surrogate` say of a model, how far can the model really be pruned, and what would one evaluation
# buy? Choose a model and how much accuracy you would give up. The surrogate runs in this page, without a network: also
# on a forecast of your own.
#
# - **You will need** nothing; for a checkpoint of your own, the JSON that `prunecast predict CHECKPOINT … --json` writes.
# - **You will learn** how a recommendation follows from a forecast, and what its band is for.
# - **Run time**: seconds.
# - **Reading**: 3 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the page belongs to
unseen: str = "after_freeze"  # study under data/measured with models that the surrogate was not trained on
exact: str = "campaign_seed_1"  # study under data/measured whose exact curves the ways to a ratio are replayed on
epsilon: float = 0.01  # accuracy to give up, where the replayed ways are compared
shown: str = "mpqa_bert"  # model of the figure below the explorer

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue
from prunecast import paths, tables
from prunecast.forecasting import ablation, pretrained, recommendation, report
from prunecast.plotting import curves, style
from prunecast.plotting.explorer import explorer
from prunecast.surrogates import features, lstm

style.use_style()

# %% [markdown]
# ## What the page holds
#
# The weights of the surrogate, and of each model what the surrogate reads: how much of the weights' squares each layer
# has lost at a sparsity, and how many of eight unlabelled examples keep their class. None of these models was among
# those that it learned from.

# %% tags=["hide-input"]
trained = pretrained.load()
models, sweeps, signals = (tables.read(name, paths.MEASURED / unseen) for name in ("models", "sweeps", "signals"))
truth = features.curves_on("percentile", sweeps, models, signals)
forecast = trained.forecast(truth.knowing(truth.sparsity < 0))
curve_values = {"sparsity": truth.sparsity, "accuracy": truth.accuracy, "measured": truth.measured} | vars(forecast)
curve_values |= {name: truth.signals[..., place] for place, name in enumerate(features.COLUMNS)}
points = pd.concat(
    pd.DataFrame({name: values[row] for name, values in curve_values.items()}).assign(model=model, scope=scope)
    for row, (model, scope) in enumerate(truth.names)
)
facts = models.rename(columns={"dense_accuracy": "dense", "majority_accuracy": "majority"})
points = points.merge(facts[["model", "dense", "majority", "classes", "layers", "prunable_parameters"]], on="model")

# %% tags=["hide-input"]
replayed = [tables.read(name, paths.MEASURED / exact) for name in ("safe_searches", "sweeps")]
others = tables.read("recommendations", paths.MEASURED / "campaign")
ways = recommendation.safe_ratio_costs(*replayed, others, tables.read("models", paths.MEASURED / exact))
settings = {
    "format": report.FORMAT, "margins": sorted(trained.safety_margins.items()), "ranges": trained.ranges,
    "outside_factor": pretrained.OUT_OF_RANGE_FACTOR, "edge": recommendation.EDGE, "steepest": features.STEEPEST,
    "stride": lstm.STRIDE, "members": lstm.MEMBERS,
}  # fmt: skip
weights = {name: tensor.numpy() for name, tensor in trained.surrogate.fitted.state().items()}

# %% [markdown]
# ## Try it
#
# The line is the forecast, the band its 90 % interval, the dashed line the sparsity that is recommended without a
# measurement, and the marks were measured. Below it stand ways to a ratio: the further left, the cheaper, the lower, the
# less is left unused. Drop the JSON of your own forecast anywhere on it.

# %% tags=["hide-input"]
explorer(points, ways.sort_values("evaluations"), weights, settings)

# %% [markdown]
# ## Without JavaScript
#
# {numref}`fig-explorer` shows what the explorer draws, for one of its models. Where marks lie inside the band, the
# interval held.

# %% mystnb={"figure": {"caption": "Forecast, interval, recommended sparsity and measured points of one of the models.", "name": "fig-explorer"}, "image": {"alt": "Two panels, global and layer scope: a forecast that falls with sparsity inside its band, a vertical dashed line at the recommended sparsity, and marks at the measured points."}} tags=["hide-input"]
one = points[points["model"] == shown]
judged = ablation.beside_measured(trained, truth, epsilon)
recommended = judged["recommended"].xs(shown, level="model").to_dict()
_ = curves.draw_prediction(one, recommended, float(one["dense"].iloc[0]), one[one["measured"]])

# %% tags=["hide-input"]
glue("models", len(models), display=False)
glue("weights", sum(values.size for values in weights.values()), display=False)
glue("epsilon", epsilon, display=False)
glue("safe", float((judged["recommended"] <= judged["optimum"]).mean()), display=False)
glue("unused", float((judged["optimum"] - judged["recommended"]).clip(lower=0).mean()), display=False)
gap = points.assign(error=(points["predicted"] - points["accuracy"]).abs()).groupby("scope")["error"].mean()
for scope, error in gap.items():
    glue(f"error_{scope}", float(error), display=False)
style.table(pd.DataFrame({"mean absolute error": gap}))

# %% [markdown]
# ## What this shows
#
# - The surrogate has {glue:text}`weights:,d` weights, few enough to run in a page at every move of a slider.
# - Over the curves of these {glue:text}`models:d` models its mean absolute error is {glue:text}`error_layer:.3f` in layer
#   scope and {glue:text}`error_global:.3f` in global scope. The recommendation for an epsilon of {glue:text}`epsilon` is
#   safe on {glue:text}`safe:.0%` of them, and leaves {glue:text}`unused:.2f` of the weights unused: the price of not
#   measuring.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("explorer", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). Set the number of classes of a model to a hundred. The forecast still draws a curve and
# a band. Why does the page warn, and what is the band worth there?
#
# :::{dropdown} Solution
# None of the models that the surrogate was trained on has so many classes, so it continues what it learned into a range where
# nothing supports it. The band was calibrated on errors within that range. Outside it is widened, but nobody has measured by how
# much it should be.
# :::
#
# **Exercise 2: Change** (10 minutes). Give up a tenth of accuracy in place of a hundredth. By how much does the *measured* safe
# sparsity rise on the mean over the models of `data/measured/after_freeze`, in layer scope? That is `answer`. Compare it with
# the rise of the recommendation as you move the slider.
#
# :::{dropdown} Solution
# ```python
# from prunecast import paths, tables
# from prunecast.sweeps import curve_metrics
#
# sweeps = tables.read("sweeps", paths.MEASURED / "after_freeze")
# strict, mild = (
#     curve_metrics.safe_sparsities(sweeps, epsilon=epsilon)["layer"]
#     for epsilon in (0.01, 0.1)
# )
# answer = (mild - strict).mean()
# ```
# On the mean over these models the recommendation rises by less than that. It has to be safe for nine of ten models it was not
# trained on, so it keeps a margin below the forecast at every epsilon.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write what the slider does: `recommend(sparsity, accuracy, epsilon, margin)` takes a
# forecast curve as two arrays, sparsity rising from zero, and returns the largest sparsity up to which *no* point lies more than
# epsilon below the first, minus the margin, and at least zero. `answer` is the function.
#
# :::{dropdown} Solution
# ```python
# import numpy as np
#
#
# def recommend(sparsity, accuracy, epsilon, margin):
#     accuracy = np.asarray(accuracy)
#     unsafe = accuracy < accuracy[0] - epsilon - 1e-9
#     last = unsafe.argmax() - 1 if unsafe.any() else len(accuracy) - 1
#     return max(0.0, float(sparsity[last]) - margin)
#
#
# answer = recommend
# ```
# A curve may dip and recover. Taking the largest sparsity with a small loss anywhere would jump over the dip.
# :::
