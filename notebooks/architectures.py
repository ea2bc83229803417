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
#       - data/measured/architectures/architectures.csv
#     writes: []
# ---

# %% [markdown]
# # Which architectures are supported
#
# Will a forecast for *your* checkpoint rest on right numbers? This page shows every text and image classifier of the
# transformers library, built small and with random weights, beside plain torch. The model's own answers to each text or
# image alone, computed without this package, are the labels; so its accuracy is 1 where the package loads it, pads its
# texts and evaluates it as it should.
#
# - **You will need** the page {doc}`your_model`.
# - **You will learn** which architectures agree, which are refused, and which weights of a model are never pruned.
# - **Run time**: seconds; `python benchmarks/architectures.py` makes the whole table anew in some minutes.
# - **Reading**: 5 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the page belongs to
measured: str = "architectures"  # folder of the table, in data/measured
classifier: str = "BertForSequenceClassification"  # the library's name of the classifier that is compared here

# %% tags=["hide-input"]
import pandas as pd
import seaborn as sns
from myst_nb import glue
from prunecast import paths, tables
from prunecast.experiments import architectures
from prunecast.forecasting.subjects import open_subject
from prunecast.plotting import style

style.use_style()

# %%
found = tables.read("architectures", paths.tables(measured))
counts = found.groupby(["kind", "outcome"]).size().unstack(fill_value=0).loc[["text", "image"]]

# %% [markdown]
# ## What is compared
#
# | Column | Plain torch | This package |
# |---|---|---|
# | `dense` | logits of each text or image alone, without padding | logits in padded batches, and the accuracy |
# | `counted` | weights seen to enter a matrix product or convolution while the model runs | prunable weights, each counted once |
# | `pruned` | half of the weights set to zero, of the whole model and of each layer | the same by the masks of the package |
# | `read back` | the pruned model | the same, saved and opened again like a checkpoint of a user |
# | `removed` | | heads, neurons and a layer removed, saved and read back |
#
# One classifier is compared here, so that you can see its row being made; `classifier` names another.

# %%
chosen = found.set_index("classifier").loc[classifier]
row = architectures.compared(classifier, chosen["architecture"], chosen["kind"], open_subject)
style.table(pd.DataFrame([row]).set_index("classifier").drop(columns=["kind", "sentence"]))

# %% [markdown]
# ## All classifiers
#
# {numref}`fig-outcomes` counts the outcomes: the length of a bar is the number of classifiers.

# %% mystnb={"figure": {"caption": "Classifiers of the transformers library by outcome: those that agree with plain torch in everything, those that are refused in one sentence, and those that cannot be built on a machine without a GPU or another library.", "name": "fig-outcomes"}, "image": {"alt": "Bars of the number of text and image classifiers that agree, are refused or were not built; those that agree are by far the longest."}} tags=["hide-input"]
bars = {"kind": "count", "hue": "kind", "hue_order": ["text", "image"], "order": list(counts)}
grid = sns.catplot(found, y="outcome", **bars, palette=[style.BLUE, style.ORANGE], height=2.4, aspect=2)
for container, hatch in zip(grid.ax.containers, ("", "///"), strict=True):
    _ = grid.ax.bar_label(container), [bar.set_hatch(hatch) for bar in container]
    container.set_label(("text", "image")[hatch != ""])
_ = style.finish(grid, "classifiers", "")

# %% [markdown]
# ## What is refused, and what was not built
#
# A refusal is one sentence before anything is measured, the same that `prunecast predict` prints.

# %% tags=["hide-input"]
others = found[found["outcome"] != "agrees"].set_index("classifier")
style.table(others[["kind", "outcome", "sentence"]])

# %% [markdown]
# ## What is said of those that agree
#
# Where answers change with padding, texts of equal length are evaluated together. Where weights enter products but are in
# no layer of a kind that is pruned, such as those that choose an expert, or where prunable weights take no part in the
# answers, such as a vision tower in a classifier of texts, `predict` says their share.

# %% tags=["hide-input"]
agree = found[found["outcome"] == "agrees"].set_index("classifier")
glue("padding", int(agree["sentence"].str.contains("padding", na=False).sum()), display=False)
glue("partly", int((agree["counted_share"] < 1).sum()), display=False)
glue("least", float(agree["counted_share"].min()), display=False)
glue("idle", int(agree["sentence"].str.contains("take no part", na=False).sum()), display=False)
glue("removed", int((agree["removed"] == "agrees").sum()), display=False)
for kind, row in counts.iterrows():
    glue(f"{kind}_agree", int(row["agrees"]), display=False)
    glue(f"{kind}_all", int(row.sum()), display=False)
style.table(agree.loc[agree["sentence"].notna(), ["prunable", "counted_share", "sentence"]])

# %% [markdown]
# ## What this shows
#
# - {glue:text}`text_agree` of {glue:text}`text_all` text classifiers and {glue:text}`image_agree` of
#   {glue:text}`image_all` image classifiers agree with plain torch in every number; the others are refused or need
#   another library or a GPU.
# - The answers of {glue:text}`padding` text classifiers change with padding. In batches of mixed lengths their accuracy
#   would be wrong without a word.
# - In {glue:text}`partly` classifiers some weights are never pruned; the prunable ones are at least the share
#   {glue:text}`least:.2f` of all.
# - In {glue:text}`idle` classifiers some prunable weights take no part in the answers, so a ratio says less than it seems.
# - Heads, neurons and layers can be removed from {glue:text}`removed` classifiers.
# - The models are small and random. That an architecture agrees does not say how far a trained one can be pruned; see
#   {doc}`campaign`.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("architectures", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). The answers of some classifiers change with the padding of a batch, although an
# attention mask is given. Which parts of a network can read padding nevertheless, and why is the accuracy then wrong without
# a word?
#
# :::{dropdown} Solution
# A recurrence or a convolution passes on what stands beside a token, padding included; a mean or a maximum over all positions
# counts it, and so may the choice of the last token. None of these raises an error: the shapes are right, and only the numbers
# depend on which other texts happen to be in the batch.
# :::
#
# **Exercise 2: Change** (10 minutes). The page counts text classifiers first. In `architectures.csv` of
# `data/measured/architectures` count *image* classifiers by `outcome`: `answer` is a dictionary from outcome to number. Read
# the sentences of those that are refused: is it better to refuse or to warn?
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.MEASURED / "architectures" / "architectures.csv")
# image = rows[rows["kind"] == "image"]
# answer = image["outcome"].value_counts().to_dict()
# ```
# Refused is what would give a wrong number. A warning is for numbers that are right but mean less than one might think.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write `prunable(network, output)` for a torch network: the number of weights of all
# `Linear` and `Conv2d` layers except the layer named `output`; no biases, and a weight that two layers share counts once.
# `answer` is the function.
#
# :::{dropdown} Solution
# ```python
# from torch import nn
#
#
# def prunable(network, output):
#     layers = network.named_modules()
#     weights = {
#         id(layer.weight): layer.weight.numel()
#         for name, layer in layers
#         if isinstance(layer, nn.Linear | nn.Conv2d) and name != output
#     }
#     return sum(weights.values())
#
#
# answer = prunable
# ```
# Counted twice, a shared weight would make a ratio mean something else than what the mask does. Whether the output layer
# shares its weight with another layer is a case of its own: pruning the one then prunes the other.
# :::
