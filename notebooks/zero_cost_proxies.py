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
#       - data/measured/campaign/signals.csv.gz
#       - data/measured/campaign/sweeps.csv
#     writes: [signals.csv.gz, probes.csv.gz]
#     all_cores: true
# ---

# %% [markdown]
# # Zero-cost proxies
#
# What can be computed of a pruned model before it is evaluated? A {term}`zero-cost proxy` needs the weights alone, or a
# few forward and backward passes on unlabelled examples. This page measures three for the models of a study, and shows
# one that explains why the accuracy of a fine-tuned transformer can collapse at half its weights. The tables keep the
# names `signals`, a row of proxies for each threshold, and `probes`, the outcomes of single examples.
#
# - **You will need** the page {doc}`collect_sweeps`.
# - **You will learn** which inputs the surrogates of the next pages have, and what each proxy costs.
# - **Run time**: about a minute.
# - **Reading**: 4 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the tables go to
sweeps_from: str = "laptop"  # study whose models are measured; they are trained here if this machine has not done so
examples: int = 128  # examples evaluated at each of these thresholds
stride: int = 1  # of the 101 thresholds one in so many is evaluated: 1 or 5
recalibrate: int = 0  # unlabelled training images on which batch norms are recalibrated after each pruning; 0: none
measured: str = "campaign"  # study under data/measured whose depletion is drawn
seed: int = 0  # seed of the models and of the choice of examples

# %% tags=["hide-input"]
from myst_nb import glue
from prunecast import paths, tables
from prunecast.cost import samples
from prunecast.plotting import style
from prunecast.plotting.curves import draw_depletion
from prunecast.surrogates import features
from prunecast.sweeps import proxies

style.use_style()

# %%
models = tables.read("models", paths.tables(sweeps_from))
proxy_tables = proxies.probed(list(models["model"]), sweeps_from, 101, examples, stride, seed, recalibrate)
for table, frame in proxy_tables.items():
    _ = tables.write(table, frame, paths.outputs(run))

# %% [markdown]
# ## Three proxies and their cost
#
# **Depletion**: the share of a layer's sum of squares that is pruned. Global pruning empties the layers with small
# weights first, so the layer that loses most is more informative than the mean. It costs no forward pass.
#
# **Curvature**: how much the loss would rise to second order, from the gradients on
# {glue:text}`gradients` unlabelled examples. It costs {glue:text}`curvature_cost` forward passes, a backward pass
# counted as two {cite:p}`lecun1990`.
#
# **Agreement**: the share of {glue:text}`agreeing` unlabelled examples that are classified as before pruning, at every
# fifth threshold. It costs {glue:text}`agreement_cost` forward passes a scope. The table gives them at one sparsity.

# %% tags=["hide-input"]
glue("gradients", samples.GRADIENT_EXAMPLES, display=False)
glue("agreeing", samples.AGREEMENT_EXAMPLES, display=False)
glue("curvature_cost", features.samples([features.CURVATURE]), display=False)
glue("agreement_cost", features.samples([features.AGREEMENT]), display=False)

# %% tags=["hide-input"]
at_eight = proxy_tables["signals"].query("threshold == 8 and scope == 'global'").set_index("model")
style.table(at_eight[["sparsity", "lost_max", "lost_mean", "curvature", "agreement"]], precision=4)

# %% [markdown]
# ## Layer collapse
#
# {numref}`fig-depletion` shows, for models fine-tuned from one pretrained parent and for some trained from scratch, how
# much of its sum of squares the most depleted layer has lost (grey) beside the accuracy (blue), in global scope. Read it
# from left to right: where the grey line nears one, nearly all of that layer is pruned, and its output no longer depends
# on its input.

# %% mystnb={"figure": {"caption": "Accuracy, and the share that the most depleted layer has lost, against sparsity; magnitude pruning in global scope.", "name": "fig-depletion"}, "image": {"alt": "Six panels. In the three models fine-tuned from MiniLM the depletion of one layer reaches one near half sparsity, and accuracy falls there; in the three trained from scratch both happen much later."}} tags=["hide-input"]
folder = paths.MEASURED / measured
depletion = tables.read("signals", folder).query("scope == 'global'")
curves = tables.read("sweeps", folder).query("axis == 'percentile' and scope == 'global' and criterion == 'magnitude'")
names = ["sst2_minilm", "trec6_minilm", "cr_minilm_3_layers", "trec6_bert", "ag_news_roberta", "imdb_llama"]
names = [name for name in names if name in set(depletion["model"])]
_ = draw_depletion(curves, depletion, names)

# %% tags=["hide-input"]
half = depletion[depletion["threshold"] == 5].set_index("model")
last = half.loc["sst2_minilm", "lost_last"]
glue("pooler_lost", float(last), display=False)
glue("mean_lost", float(half.loc["sst2_minilm", "lost_mean"]), display=False)

# %% [markdown]
# ## What this shows
#
# - At half sparsity the MiniLM fine-tuned on SST-2 has lost {glue:text}`mean_lost:.0%` of the sum of squares of its
#   mean layer, but {glue:text}`pooler_lost:.0%` of that of its last one, the pooler: it was initialised anew, with
#   smaller weights than the pretrained layers, and every class has to pass through it. This is layer collapse
#   {cite:p}`tanaka2020`, visible in the weights alone. In layer scope no layer is emptied before
#   the others, and the accuracy of the same model holds to a larger sparsity.
# - So a forecast needs as input which layers a threshold empties, not only how many weights it prunes.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("zero_cost_proxies", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). The agreement of eight examples moves in steps of one eighth. How many examples
# would steps of one hundredth need, and why does that many not yet give the accuracy to one hundredth?
#
# :::{dropdown} Solution
# A hundred, for the steps. But the share of a sample also varies by chance: its standard error is the square root of
# p (1 − p) / n, for p near nine tenths and a hundred examples about three hundredths. For one hundredth about a thousand are
# needed, which is as much as an evaluation. A proxy need not be exact: the surrogate learns how much it says.
# :::
#
# **Exercise 2: Change** (10 minutes). The page looks at one model whose *last* layer is depleted first. Take all text models
# of `data/measured/campaign` that were trained from scratch, in global scope at half sparsity (threshold 5): on what share of
# them has the last layer lost more of its squares than the first (`lost_last`, `lost_first` of the table `signals`)? The share
# is `answer`. Compare it with the pretrained ones.
#
# :::{dropdown} Solution
# ```python
# from prunecast import paths, tables
#
# folder = paths.MEASURED / "campaign"
# models, signals = (tables.read(name, folder) for name in ("models", "signals"))
# half = signals[(signals["scope"] == "global") & (signals["threshold"] == 5.0)]
# rows = half.merge(models, on="model")
# text = rows[rows["kind"] == "text"]
# later = text["lost_last"] > text["lost_first"]
# answer = later[text["initialisation"] == "scratch"].mean()
# ```
# A layer initialised anew beside pretrained ones has smaller weights than they have. Where all layers were initialised alike,
# there is no such reason, and the proxy says so without an example.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write the proxy: `lost(layers, sparsity)` takes weights as arrays by name and returns,
# by name, the share of the sum of squares of each layer that magnitude pruning in global scope removes. `answer` is the
# function. Which layer is emptied first if one has weights ten times smaller than the others?
#
# :::{dropdown} Solution
# ```python
# import numpy as np
#
#
# def lost(layers, sparsity):
#     flat = np.concatenate([np.abs(layer).ravel() for layer in layers.values()])
#     pruned = round(sparsity * flat.size)
#     cut = np.sort(flat)[pruned - 1] if pruned else -1.0
#     shares = {}
#     for name, layer in layers.items():
#         squares = layer**2
#         shares[name] = squares[np.abs(layer) <= cut].sum() / squares.sum()
#     return shares
#
#
# answer = lost
# ```
# The layer with the small weights is the first to go, whatever it does in the network: magnitudes are compared, not effects.
# :::
