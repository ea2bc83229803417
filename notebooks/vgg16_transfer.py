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
#       - data/published/lstm_surrogate.csv
#       - data/measured/campaign/models.csv
#       - data/measured/campaign/sweeps.csv
#       - data/measured/campaign/signals.csv.gz
#       - data/measured/campaign/engines.csv
#       - data/measured/campaign/recalibration.csv
#       - data/measured/vision/models.csv
#       - data/measured/vision/sweeps.csv
#       - data/measured/vision/signals.csv.gz
#       - data/measured/vision/engines.csv
#       - data/measured/vision/transfer.csv
#     writes: [recalibration.csv]
#     all_cores: true
# ---

# %% [markdown]
# # From transformers to VGG16
#
# The source study trained its LSTM on transformers alone and reports {glue:text}`published:.4f` on VGG16, which it had
# never seen. This page tests ours in the same way on convolutional networks. A transformer normalises every example by
# itself; a batch norm divides by statistics that were collected while the network was dense. So the curves to be
# forecast are those of networks whose batch norms are *recalibrated* after each pruning: mean and variance are taken
# anew over some unlabelled training images, and nothing else is changed.
#
# - **You will need** the page {doc}`surrogate`.
# - **You will learn** how far a forecast transfers, and what batch normalisation has to do with pruning.
# - **Run time**: about a minute.
# - **Reading**: 5 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the tables go to
measured: str = "campaign"  # study under data/measured whose transformers are learned from
vision: str = "vision"  # study of recalibrated networks; where there is none, those of the other study
surrogates: list = []  # trained here, such as lstm; empty: the errors that the study has measured, or else the LSTM
models_from: str = "laptop"  # study whose models are recalibrated here
models: list = ["digits_vgg16"]  # models with batch normalisation
examples: int = 1000  # examples evaluated at each threshold, at most
points: int = 11  # thresholds at which it is recalibrated
images: int = 256  # unlabelled training images that give the statistics
seed: int = 0  # seed of the models and of the surrogate

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue
from prunecast import paths, tables
from prunecast.models import checkpoints
from prunecast.plotting import curves, style
from prunecast.surrogates import transfer
from prunecast.sweeps import recalibration
from prunecast.sweeps.sweeper import grid

style.use_style()
published = pd.read_csv(paths.PUBLISHED / "lstm_surrogate.csv").set_index("quantity")["value"]
glue("published", float(published["vgg16_mae"]), display=False)

# %%
campaign, study = paths.MEASURED / measured, paths.tables(vision)
study = study if study.exists() else campaign
judged = (study / tables.file_name("transfer")).exists() and not surrogates
transformers, networks = transfer.transformer_curves(campaign), transfer.recalibrated_curves(study)
forecasts = transfer.forecasts(transformers, networks, surrogates or ["lstm"], seed, with_others=not judged)
errors = tables.read("transfer", study) if judged else transfer.errors(forecasts)
both = tables.read("recalibration", campaign)
evenly = transfer.forecasts(transformers, transfer.recalibrated_curves(campaign), ["lstm"], seed, with_others=False)
if surrogates:
    _ = tables.write("transfer", errors, paths.outputs(run))

# %% [markdown]
# ## The forecast of a recalibrated network
#
# {numref}`fig-transfer` shows it *zero-shot*: from {glue:text}`learned_from` curves of transformers, and of the network
# itself the weights and the dense accuracy alone.

# %% mystnb={"figure": {"caption": "Zero-shot forecasts of recalibrated convolutional networks by the LSTM trained on transformers, global scope. Grey and thick: the recalibrated curve, interpolated between its measured points.", "name": "fig-transfer"}, "image": {"alt": "A panel for each network. The recalibrated accuracy stays near its dense value up to about eight tenths and falls then; the forecast of the LSTM falls near the same sparsity."}} tags=["hide-input"]
zero_shot = forecasts.query("training == @transfer.ALONE and surrogate == 'lstm'")
_ = curves.draw_forecasts(zero_shot.query("scope == 'global'"), sorted(zero_shot["model"].unique()))

# %% [markdown]
# Mean absolute error by what the surrogate was trained on: on transformers alone, or on all other convolutional networks
# as well. *measured* is over the points measured on all examples, which the sweep places where the curve falls; *whole* is
# over the whole curve, most of whose points are interpolated between them.

# %% tags=["hide-input"]
named = errors.rename(columns={"mae": "measured", "mae_whole": "whole"})
of_scope = named.set_index(["surrogate", "model", "scope", "training"])[["measured", "whole"]].unstack("training")
of_scope.columns = [f"{error}, from {training}" for error, training in of_scope.columns]
style.table(of_scope, precision=3)

# %% [markdown]
# ## Why it fails on a network as it is pruned
#
# The same, measured on networks trained here, each pruned, evaluated, recalibrated on {glue:text}`images` images and
# evaluated again.

# %%
subjects = [checkpoints.trained_classifier(name, models_from, seed) for name in models]
thresholds = grid(points)
recalibrated = pd.concat([recalibration.recalibrated(subject, thresholds, examples, images) for subject in subjects])
_ = tables.write("recalibration", recalibrated, paths.outputs(run))

# %% tags=["hide-input"]
glue("images", images, display=False)
here = recalibrated.query("scope == 'global' and threshold in [5, 6, 7, 8, 9]")
style.table(here.set_index(["model", "sparsity"])[["accuracy", "recalibrated"]])

# %% [markdown]
# In {numref}`fig-recalibrated`, both curves of the networks of the campaign, recalibrated on
# {glue:text}`campaign_images` images, and the forecast. Compare the dotted line with each of the other two.

# %% mystnb={"figure": {"caption": "Accuracy with stale and with recalibrated batch norms, and the zero-shot forecast of the LSTM.", "name": "fig-recalibrated"}, "image": {"alt": "Four panels, VGG16 and PreResNet-20 in both scopes. Recalibrated accuracy stays high to much larger sparsity than accuracy with stale statistics, near the forecast."}} tags=["hide-input"]
glue("campaign_images", int(both["images"].max()), display=False)
_ = curves.draw_recalibration(both, evenly)

# %% tags=["hide-input"]
stale = both.merge(evenly[["model", "scope", "threshold", "predicted"]], on=["model", "scope", "threshold"])
stale_error = (stale["predicted"] - stale["accuracy"]).abs().groupby(stale["model"]).mean()
against_fresh = transfer.errors(evenly).groupby("model")["mae"].mean()
by_model = errors.groupby(["surrogate", "training", "model"])[["mae", "mae_whole"]].mean()
alone, together = (by_model.loc["lstm", training] for training in (transfer.ALONE, transfer.WITH_OTHERS))
vgg = both.query("model == 'cifar10_vgg16' and scope == 'global' and threshold == 8").iloc[0]
for name, value in {
    "learned_from": len(transformers.names), "networks": len(alone), "stale": vgg["accuracy"], "points": len(both) // 4 - 1,
    "fresh": vgg["recalibrated"], "zero_shot": stale_error["cifar10_vgg16"], "against_fresh": against_fresh["cifar10_vgg16"],
    "against_fresh_resnet": against_fresh["cifar10_preresnet20"], "alone": alone["mae_whole"].mean(),
    "alone_measured": alone["mae"].mean(), "together": together["mae_whole"].mean(), "together_measured": together["mae"].mean(),
}.items():  # fmt: skip
    glue(name, value.item() if hasattr(value, "item") else value, display=False)

# %% [markdown]
# ## What this shows
#
# - Against the recalibrated curve of VGG16, at {glue:text}`points` evenly spaced thresholds, the zero-shot forecast of the
#   LSTM is off by {glue:text}`against_fresh:.3f`, against that of PreResNet-20 by
#   {glue:text}`against_fresh_resnet:.3f`; published for VGG16 is {glue:text}`published:.4f`.
# - Over {glue:text}`networks` networks that were trained and swept again, each curve recalibrated, the mean error is
#   {glue:text}`alone:.3f` over whole curves and {glue:text}`alone_measured:.3f` at the measured points, which lie where
#   curves fall; with the other convolutional networks in its training {glue:text}`together:.3f` and
#   {glue:text}`together_measured:.3f`. Where exactly a convolutional network breaks, transformers do not tell.
# - Against VGG16 as it is pruned the same forecast is off by {glue:text}`zero_shot:.3f`. At eight tenths sparsity in
#   global scope VGG16 has accuracy {glue:text}`stale:.3f`; recalibrated {glue:text}`fresh:.3f`. Most of the apparent
#   damage is due to stale statistics, not to pruning.
# - A sweep of a network with batch norms should say whether it recalibrates: the column `recalibrated` of the table
#   `engines` does. In a sweep the dense point keeps the network's own statistics, so that its accuracy is
#   the model's own; in {numref}`fig-recalibrated` it is recalibrated, too.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("vgg16_transfer", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). Recalibration takes means and variances anew over training images. Why does it need
# no labels, why is it not training, and why must a fair comparison say whether it was done?
#
# :::{dropdown} Solution
# Means and variances of activations depend on the images alone. No weight moves and no loss is computed. Pruning changes the
# activations that enter a batch norm, but not the statistics it divides by, so a sweep without recalibration measures two
# things at once: what the lost weights did, and that the statistics are stale.
# :::
#
# **Exercise 2: Change** (10 minutes). The page looks at global scope. In `recalibration.csv` of `data/measured/campaign` take
# `cifar10_vgg16` in *layer* scope: at which sparsity does recalibration gain most accuracy? That sparsity is `answer`. Is it
# larger or smaller than in global scope, and why?
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.MEASURED / "campaign" / "recalibration.csv")
# rows = rows[(rows["model"] == "cifar10_vgg16") & (rows["scope"] == "layer")]
# gain = rows["recalibrated"] - rows["accuracy"]
# answer = rows.loc[gain.idxmax(), "sparsity"]
# ```
# It gains most where the statistics are wrong but the weights still suffice. In layer scope the small first layers lose their
# weights early, so both come earlier.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write `recalibrate(network, images)` for a torch network with `BatchNorm1d` layers:
# afterwards their running means and variances are those over all of `images`, its weights are unchanged, and it is in
# evaluation mode. Two lines of torch's documentation help: what `momentum=None` means, and what `reset_running_stats` does.
# `answer` is the function.
#
# :::{dropdown} Solution
# ```python
# import torch
#
#
# def recalibrate(network, images):
#     norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d)]
#     for norm in norms:
#         norm.reset_running_stats()
#         norm.momentum = None
#     network.train()
#     with torch.no_grad():
#         network(images)
#     network.eval()
#
#
# answer = recalibrate
# ```
# With `momentum=None` the running statistics are plain means over all batches seen since the reset, not a moving average that
# still remembers the dense network.
# :::
