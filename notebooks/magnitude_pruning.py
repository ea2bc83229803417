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
# 1. Prune another model: `prunecast run magnitude_pruning -p model=docstrings_roberta`. Which layer loses most now?
# 2. On the absolute axis both scopes prune the very same weights. Why? Check it in the table `sweeps.csv`.
# 3. Multiply all weights of one layer by ten. On which of the three axes does the curve change, and in which scope?
