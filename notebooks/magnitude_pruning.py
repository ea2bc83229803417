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
#       - tables/sweeps.csv
#     writes: []
# ---

# %% [markdown]
# # Magnitude pruning
#
# Which weights are pruned first, and what exactly is a threshold? This page analyses one model: the distribution of its
# weights, the sparsity that each of three threshold axes causes, and the accuracy that is left.
#
# - **You will need** the page {doc}`collect_sweeps`.
# - **You will learn** to read a curve on any axis, and what global and layer scope do to single layers.
# - **Run time**: seconds once the model is trained and swept, minutes otherwise.
# - **Reading**: 6 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder holds the trained model
model: str = "docstrings_distilbert"  # name of a model in data/models.yml
points: int = 101  # thresholds on each axis, from 0 to 10
seed: int = 0  # seed of initialisation, training and random scores

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from myst_nb import glue
from prunecast.models import checkpoints
from prunecast.plotting import curves, style
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import AXES, cut, masks, pruned_counts, rank
from prunecast.sweeps import axes, collect

style.use_style()

# %%
subject = checkpoints.trained_classifier(model, run, seed)
plan = collect.plan_of(points=points, criteria=["magnitude", "random"], exact=[model], precision="float32", seed=seed)
sweeps = collect.swept(subject, plan).sweeps
weights = subject.weights
flat = torch.cat([weight.detach().flatten() for weight in weights.values()]).double().cpu()

# %% [markdown]
# ## The weights
#
# Prunable are the weights of every linear and convolution layer except the output layer; embeddings, norms and biases
# stay. {numref}`fig-weights` compares their distribution with a normal one: where the bars stand above the line near
# zero, magnitude pruning finds more small weights than the normal law predicts.

# %% mystnb={"figure": {"caption": "Distribution of all prunable weights of the model in units of their standard deviation, beside the standard normal density.", "name": "fig-weights"}, "image": {"alt": "Histogram of standardised weights with the bell curve of the normal distribution drawn over it."}} tags=["hide-input"]
bars = {"stat": "density", "color": style.LIGHT_GREY, "label": "weights", "height": 2.8, "aspect": 1.6}
grid = sns.displot(x=(flat / flat.std()).numpy(), bins=np.linspace(-4, 4, 81), **bars)
_ = grid.ax.plot(*style.normal_density(4), color=style.BLUE, label="normal")
_ = grid.set(title=f"{model}, all prunable weights")
_ = style.finish(grid, "weight, standard deviations", "density")

# %% [markdown]
# ## Three axes
#
# A threshold $t$ from 0 to 10 can mean three things: prune below $t\,\sigma$ (**sigma**), below $t/100$
# (**absolute**), or the smallest $10\,t$ per cent (**percentile**). The sparsity a threshold causes is counted on the
# weights, never estimated. For normal weights the sigma axis would give $1 - \operatorname{erfc}(t/\sqrt{2})$.

# %% tags=["hide-input"]
counted = sweeps[(sweeps["scope"] == "global") & (sweeps["criterion"] == "magnitude")]
whole = counted[counted["threshold"] % 1 == 0]
realised = whole.pivot(index="threshold", columns="axis", values="sparsity")[list(AXES)]
realised["sigma, if normal"] = torch.erf(torch.from_numpy(realised.index.to_numpy() / np.sqrt(2))).numpy()
glue("normal_gap", float((realised["sigma"] - realised["sigma, if normal"]).abs().max()), display=False)
style.table(realised)

# %% [markdown]
# The realised sparsity differs from the normal law by up to {glue:text}`normal_gap:.3f`. {numref}`fig-axes` draws the
# same measured curve against each axis. Compare the panels: the curve is one, but the share of an axis on which
# anything happens differs widely.

# %% mystnb={"figure": {"caption": "One model's accuracy against the threshold on each of the three axes, both scopes.", "name": "fig-axes"}, "image": {"alt": "Three panels with accuracy against threshold: on the sigma axis the curve collapses early, on the absolute axis it depends on the scale of the weights, on the percentile axis it falls late."}} tags=["hide-input"]
_ = curves.draw_axes(sweeps, subject.task.majority_accuracy)

# %% [markdown]
# A curve is measured once per scope, over sparsity, and read on the other axes by interpolation; such a row
# has `measured = false`. In layer scope that is an approximation, because a sigma threshold prunes each layer by
# its own share. How good is it? Here the model is pruned and evaluated natively at sigma thresholds.

# %%
natively = {"axis": "sigma", "thresholds": [1.0, 2.0, 3.0]}
check = axes.check_reading(subject.model, weights, subject.examples, sweeps, **natively)
check["difference"] = check["read"] - check["native"]
glue("reading_error", float(check["difference"].abs().max()), display=False)
style.table(check.set_index(["scope", "threshold"]))

# %% [markdown]
# The largest difference between reading and measuring is {glue:text}`reading_error:.3f` of accuracy.
#
# ## What the scope does to layers
#
# At one overall sparsity, global scope prunes more of layers whose weights are small, layer scope the same share
# of each. In {numref}`fig-layers` each bar is one layer, in the order of the model.

# %% mystnb={"figure": {"caption": "Share of each layer's weights that global magnitude pruning removes when half of all prunable weights are pruned. The dotted line is the share that layer scope takes from every layer.", "name": "fig-layers"}, "image": {"alt": "Bars of the share pruned in each layer under global scope, around a dotted line at one half."}} tags=["hide-input"]
ranking = rank(weights, magnitude, "global")
half = masks(weights, magnitude, ranking.groups, cut(ranking, pruned_counts(ranking, "percentile", 5.0)))
layers = pd.Series({name: 1 - float(mask.float().mean()) for name, mask in half.items()})
glue("layer_lowest", float(layers.min()), display=False)
glue("layer_highest", float(layers.max()), display=False)
bars = {"kind": "bar", "errorbar": None, "native_scale": True, "color": style.LIGHT_GREY, "edgecolor": style.GREY}
grid = sns.catplot(x=range(1, len(layers) + 1), y=layers.to_numpy(), **bars, height=2.8, aspect=1.6)
grid.refline(y=0.5, color=style.GREY, linestyle=":", label="layer scope")
_ = grid.set(title="global scope, half of all weights pruned", ylim=(0, 1))
_ = style.finish(grid, "layer", "share pruned")

# %% [markdown]
# Under global scope a layer loses between {glue:text}`layer_lowest:.2f` and {glue:text}`layer_highest:.2f` of its
# weights.
#
# ## What this shows
#
# - A threshold without its axis and its scope means nothing. The study this book starts from gives thresholds from
#   0 to 10 and no unit; this page is what that leaves open.
# - The axis changes how much of a grid is informative, the scope which layers lose weights. What that does to the
#   accuracy of real classifiers, and what random pruning shows, is on the page {doc}`campaign`.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("magnitude_pruning", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). On the absolute axis both scopes prune the very same weights. Why? And why do they
# not on the percentile axis?
#
# :::{dropdown} Solution
# An absolute threshold compares each weight with one fixed number, so it does not matter which weights stand beside it. A
# percentile is counted within a group: in global scope the group is the whole model, in layer scope each layer has its own,
# so that every layer loses the same share.
# :::
#
# **Exercise 2: Change** (10 minutes). Take two layers of normally distributed weights and multiply all weights of *one* by
# ten. On which axes (`"sigma"`, `"absolute"`, `"percentile"`) and in which scopes (`"global"`, `"layer"`) does the same
# threshold now prune other weights? Predict, then try. `answer` is a set of pairs such as `("sigma", "layer")`.
#
# :::{dropdown} Solution
# ```python
# import torch
# from prunecast.pruning import masks
# from prunecast.pruning.criteria import magnitude
#
# draws = torch.Generator().manual_seed(0)
# names = ("first", "second")
# layers = {name: torch.randn(200, 50, generator=draws) for name in names}
# scaled = layers | {"first": 10 * layers["first"]}
#
#
# def kept(weights, axis, scope):
#     ranking = masks.rank(weights, magnitude, scope)
#     counts = masks.pruned_counts(ranking, axis, 1.0)
#     cuts = masks.cut(ranking, counts)
#     return masks.masks(weights, magnitude, ranking.groups, cuts)
#
#
# def changed(*where):
#     before, after = kept(layers, *where), kept(scaled, *where)
#     return any((before[name] != after[name]).any() for name in names)
#
#
# pairs = [(axis, scope) for axis in masks.AXES for scope in masks.SCOPES]
# answer = {pair for pair in pairs if changed(*pair)}
# ```
# Within a layer, the standard deviation and the percentiles scale with the weights; a fixed threshold does not, and neither
# does a comparison with the weights of another layer.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write `keep(layers, sparsity)` without this package: `layers` are arrays by name, the
# result boolean arrays by name, true where a weight stays. Prune the smallest magnitudes of the *whole* model, exactly the
# share `sparsity` of all weights (a whole number of them), also where many magnitudes are equal. `answer` is the function.
#
# :::{dropdown} Solution
# ```python
# import numpy as np
#
#
# def keep(layers, sparsity):
#     flat = np.concatenate([np.abs(layer).ravel() for layer in layers.values()])
#     stays = np.ones(len(flat), dtype=bool)
#     order = np.argsort(flat, kind="stable")
#     stays[order[: round(sparsity * len(flat))]] = False
#     ends = np.cumsum([layer.size for layer in layers.values()])[:-1]
#     parts = np.split(stays, ends)
#     return {
#         name: part.reshape(layer.shape)
#         for (name, layer), part in zip(layers.items(), parts, strict=True)
#     }
#
#
# answer = keep
# ```
# A mask made by comparing with a quantile prunes too many or too few where magnitudes are equal; the order decides exactly.
# :::
