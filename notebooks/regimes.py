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
#       - data/published/three_regimes.csv
#       - data/measured/regimes/regimes.csv
#       - studies/regimes.yml
#     writes: [regimes.csv]
#     all_cores: true
# ---

# %% [markdown]
# # The three regimes
#
# A network that is to be pruned can be trained too hot or too cold: stopped early or late, in small or large batches.
# Which way should the {term}`temperature` move, and can that be read off the pruned networks, without labels of a test
# set? {cite:t}`zhou2023` say so. This page trains a small grid of networks, prunes them, trains them again in pairs, and asks how well the pairs
# are connected and how similar they are.
#
# - **You will need** the page {doc}`magnitude_pruning`.
# - **You will learn** what the three regimes are, where their boundaries lie, and how far their advice can be trusted.
# - **Run time**: about three quarters of a minute; the measured study takes hours.
# - **Reading**: 15 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the table goes to
task: str = "digits"  # images to classify
epochs: list = [2, 4, 8, 16]  # of the dense networks, at which their training stops
batch_sizes: list = []  # of further dense networks, trained for as many steps
rhos: list = []  # radii of sharpness-aware minimisation of further dense networks
control_epochs: list = []  # of further dense networks, whose learning rate stays, or falls once, after three quarters
densities: list = [0.05, 0.1, 0.3]  # shares of the weights that pruning leaves, where epochs are varied
other_densities: list = [0.05, 0.3]  # the same, where something else is
seeds: list = [1, 2]  # dense networks for each temperature; networks trained from each pruned one
network: list = [8, 4]  # layers: 8, 14, 20, …; channels of the first stage
images: list = [8, 640, 640, 597]  # height and width in pixels; training, compared and validation images
training: list = [16, 8, 32, 0.03, 0.0005]  # epochs before, after pruning; batch size; learning rate; weight decay
options: list = []  # mirrored: half of the images are; bfloat16: of the products in training
measured: str = "regimes"  # study under data/measured that is drawn
pair: list = []  # two checkpoints of your own, trained from one pruned network; by default networks of this page

# %% tags=["hide-input"]
from dataclasses import astuple
from textwrap import fill

import pandas as pd
from IPython.display import display
from myst_nb import glue
from prunecast import paths, tables
from prunecast.datasets.tasks import load_task
from prunecast.experiments import three_regimes
from prunecast.forecasting import diagnosis
from prunecast.landscape import grid, regimes, temperature
from prunecast.plotting import landscape, style
from prunecast.workflow.studies import read_study

style.use_style()

# %%
values = {"epochs": epochs, "batch_size": batch_sizes, "rho": rhos}
values |= {"epochs_constant_rate": control_epochs, "epochs_late_milestone": control_epochs}
settings = temperature.settings_of(seeds, network, images, training, options)
grids = temperature.grids(values, densities, other_densities, **settings)
data, folder = load_task(task), paths.run(run) / "regimes"
rows = regimes.with_regimes(pd.concat([grid.measure(data, each, run, folder / each.kind) for each in grids]))
_ = tables.write("regimes", rows, paths.outputs(run))
ours = tables.read("regimes", paths.MEASURED / measured)

# %% [markdown]
# ## A small grid
#
# Each cell of {numref}`fig-small-grid` is a dense network, stopped after some epochs, of which magnitude pruning left a
# share of each convolution, and two networks trained from what was left, in different orders of the images.
# **Connectivity** {cite:p}`frankle2020` is the largest deviation of the error on the straight line between the two from
# the mean of both: 0 where the line is level, negative by the height of a barrier. At every point of the line the
# statistics of batch norms are taken anew, without which there is a barrier everywhere {cite:p}`jordan2023`. **CKA**
# {cite:p}`kornblith2019` compares their outputs, 1 where they agree. A cell that could not be measured is hatched.
#
# - Regime **I**: poorly connected. A hotter dense network, stopped earlier, should be pruned.
# - Regime **II-A**: connected, with dissimilar outputs. A colder one should be.
# - Regime **II-B**: connected and similar. It hardly matters.
#
# `prunecast diagnose FIRST SECOND --task TASK` finds the regime of two checkpoints that were trained from one pruned
# network, and so does this page for those that the parameter `pair` names. Below {numref}`fig-small-grid` it does for two
# networks of the coldest and sparsest cell, by the boundaries of the measured study of the next section.

# %% mystnb={"figure": {"caption": "A grid of small networks on the digits of scikit-learn. Black lines: boundaries of the regimes, learned from this grid. Last panel: the regime, and how many per cent of the boundaries learned from resampled densities agree.", "name": "fig-small-grid"}, "image": {"alt": "Four heat maps over epochs and density: error after pruning, linear mode connectivity, similarity, and regime. Error is highest at the lowest density; connectivity and similarity are lowest there."}} tags=["hide-input"]
small = regimes.with_agreement(rows[rows["temperature_kind"] == grids[0].kind], 0)
_ = landscape.draw_diagram(small, f"{style.words(grids[0].kind)}, hot to cold")

# %%
coldest = temperature.from_hot_to_cold(grids[0].kind, grids[0].temperatures)[-1]
cell = grid.Cell(0, coldest, min(grids[0].densities))
saved = pair or grid.save_pair(data, grids[0], cell, folder / grids[0].kind, folder / "pair")
own_task = data if pair else temperature.reduced(data, grids[0].side)
found = diagnosis.diagnose(*map(str, saved), own_task, ours)
print("\n".join(fill(line, 80, subsequent_indent="    ") for line in diagnosis.lines(found)))

# %% [markdown]
# ## The measured study
#
# The same on CIFAR-10, with more of everything, and still far smaller than in the paper: {glue:text}`layers` layers
# instead of 20, images reduced to {glue:text}`pixels` by {glue:text}`pixels` pixels, {glue:text}`images` training images
# instead of 50,000, {glue:text}`dense` epochs instead of 160 and {glue:text}`retrained` after pruning, no shifted
# images, and a weight decay ten times larger, since there are far fewer steps. So errors are far
# higher than in the paper. {numref}`fig-measured-grid` varies the epochs.
#
# Other settings are temperatures as well: the batch size ({numref}`fig-batch`, smaller is hotter), and the radius of
# sharpness-aware minimisation ({numref}`fig-rho`, larger is hotter).

# %% mystnb={"figure": {"caption": "The measured study on CIFAR-10 where the epochs are varied, in the form of the first figure. Mean over dense networks and pairs.", "name": "fig-measured-grid"}, "image": {"alt": "Four heat maps over epochs and density. Error falls with density and over the first twenty epochs, and hardly after them; connectivity is lowest at low density after many epochs; similarity grows with density."}} tags=["hide-input"]
study = read_study(paths.ROOT / "studies" / f"{measured}.yml").pages["regimes"]
shown = {"layers": ("network", 0), "pixels": ("images", 0), "images": ("images", 1)}
for name, (parameter, place) in (shown | {"dense": ("training", 0), "retrained": ("training", 1)}).items():
    glue(name, study[parameter][place], display=False)
drawn = ours[ours["temperature_kind"].isin(["epochs", "batch_size", "rho"])]
by_kind = {kind: regimes.with_agreement(part, 0) for kind, part in drawn.groupby("temperature_kind")}
_ = landscape.draw_diagram(by_kind["epochs"], "epochs of the dense network")

# %% mystnb={"figure": {"caption": "The same where the batch size is varied, at equal numbers of steps.", "name": "fig-batch"}, "image": {"alt": "Four heat maps over batch size and density: error, connectivity, similarity, regime."}} tags=["hide-input"]
_ = landscape.draw_diagram(by_kind["batch_size"], "batch size of the dense network")

# %% mystnb={"figure": {"caption": "The same where the radius of sharpness-aware minimisation is varied.", "name": "fig-rho"}, "image": {"alt": "Four heat maps over the radius and density: error, connectivity, similarity, regime."}} tags=["hide-input"]
_ = landscape.draw_diagram(by_kind["rho"], "radius rho, dense training")

# %% [markdown]
# ## The published grid
#
# The paper draws its boundaries by hand. As in a later work of its authors {cite:p}`zhou2024`, {numref}`fig-published`
# learns them by search, here from the digitised grid, and
# {numref}`fig-boundaries` shows in which cells the best temperature is hotter, colder or not different by more than the
# noise. A boundary is a threshold: left of the vertical line lies regime I, below the horizontal one II-A. Thin lines
# were learned from resampled densities; the wider they spread, the less a boundary means.

# %% mystnb={"figure": {"caption": "The published grid, seven of its sixteen epochs, with boundaries learned from all of it.", "name": "fig-published"}, "image": {"alt": "Four heat maps over epochs and density: regime I covers low density and many epochs, II-A low density and few epochs, II-B high density."}} tags=["hide-input"]
paper = three_regimes.published(pd.read_csv(paths.PUBLISHED / "three_regimes.csv"))
paper_cells = regimes.with_agreement(paper, 0)
some = paper_cells[paper_cells["temperature"].isin([10, 40, 60, 80, 90, 120, 160])]
_ = landscape.draw_diagram(some, "epochs of the dense network")

# %% mystnb={"figure": {"caption": "Cells of the published grid by connectivity and similarity, with the direction in which their best temperature lies. Thick: learned boundaries; thin: those of resampled densities.", "name": "fig-boundaries"}, "image": {"alt": "Scatter of CKA against connectivity. Cells whose best temperature is hotter lie at low connectivity, those whose best is colder at high connectivity and low CKA, those that should stay at the top right."}} tags=["hide-input"]
learned, others = regimes.learn(paper_cells), regimes.resampled(paper, 0)
_ = landscape.draw_boundaries(paper_cells, astuple(learned), [astuple(other) for other in others])

# %% [markdown]
# ## Three case studies
#
# Which dense network should be pruned? {numref}`fig-regrets` shows what a choice costs: the error of the chosen
# network above that of the best one at the same density. Nothing is judged by cells that it was learned from: each
# density is left out in turn. The choice by the *three regimes* follows their advice from the coldest network on. The
# *weighted* rule is ours: it regresses the error on CKA and connectivity. The *noise scale*, a cousin of that
# of {cite:t}`zhang2026`, takes the network whose learning rate over batch size and squared weights is nearest to what was
# best elsewhere.
#
# And in which direction should a temperature have moved? The first table below shows boundaries learned from one half of a
# grid and the share of the other half's cells in which temperature matters whose advice is right; the second the same
# with boundaries learned from other densities, from other temperatures, or from the published grid.

# %% mystnb={"figure": {"caption": "Mean regret of each rule, points of error, by the temperature that is varied. Bars: 90 % interval over dense networks, where there are five or more.", "name": "fig-regrets"}, "image": {"alt": "A panel for all temperatures and one for each kind; a mark for each rule. Always hotter and always colder are to the right, rules by similarity and the regimes to the left."}} tags=["hide-input"]
advice, chosen = three_regimes.judged(ours, "density")
costs = {kind: three_regimes.summary(part, 0) for kind, part in chosen.groupby("temperature_kind")}
panels = [costs[kind].assign(panel=style.words(kind)) for kind in ("epochs", "batch_size", "rho")]
marks = pd.concat([three_regimes.summary(chosen, 0).assign(panel="all"), *panels])
_ = landscape.draw_regrets(marks.rename_axis("rule").reset_index(), "panel")

# %% tags=["hide-input"]
halves = {"published": paper_cells, "measured, epochs": by_kind["epochs"]}
split = [
    three_regimes.halves(part, by).assign(grid=name)
    for name, part in halves.items()
    for by in ("density", "temperature")
]
learned_from = {
    "other densities": (advice, chosen),
    "other temperatures": three_regimes.judged(ours, "temperature_kind"),
}
table = regimes.cells(ours)
learned_from |= {"the published grid": three_regimes.judged_elsewhere(ours, paper_cells, table)}
by_source = three_regimes.by_source(learned_from, 0)
display(style.table(pd.concat(split).set_index(["grid", "by", "half"])))
display(style.table(by_source.loc[(slice(None), slice(None), ["all", "epochs"]), :], precision=2))

# %% [markdown]
# ## Epochs, or the learning rate?
#
# In the paper regime I begins right after the learning rate falls. Is it the epochs that make a network cold, or the
# learning rate? {numref}`fig-control` stops the same networks after the same epochs at a learning rate that stays, and at
# one that falls once and later.

# %% mystnb={"figure": {"caption": "Error after pruning against the epochs of the dense network, for three schedules of its learning rate.", "name": "fig-control"}, "image": {"alt": "A panel for each density, three lines each: the schedule of the paper, a constant learning rate, and one that falls late."}} tags=["hide-input"]
labels = {
    "epochs": "falls after 1/2 and 3/4",
    "epochs_constant_rate": "stays",
    "epochs_late_milestone": "falls after 3/4",
}
control = three_regimes.last_against_best(table, list(labels))
for name, value in three_regimes.headline(chosen, paper, by_source, control, 0).items():
    glue(name, value, display=False)
_ = landscape.draw_schedules(table, labels)

# %% [markdown]
# ## What this shows
#
# - Boundaries can be learned, and they move: the thin lines of {numref}`fig-boundaries` spread over much of the range of
#   both metrics. A cell near a boundary has a regime in name only.
# - On the published grid a sloping boundary, learned from half of the densities, is right more often than two thresholds,
#   and a choice by connectivity and CKA together costs {glue:text}`weighted_paper:.2f` points, by CKA alone
#   {glue:text}`similar_paper:.2f`, by the three regimes {glue:text}`guided_paper:.2f`.
# - Where our study varies epochs, the three regimes are right in {glue:text}`right_epochs:.0%` of the cells in which
#   temperature matters, the sloping boundary in {glue:text}`sloping_epochs:.0%`, both learned from other densities. A
#   choice by the regimes costs {glue:text}`guided_epochs:.2f` points beside the best one, by both metrics weighted
#   {glue:text}`weighted_epochs:.2f`, by CKA alone {glue:text}`similar_epochs:.2f`; the best dense network costs
#   {glue:text}`dense_choice_epochs:.2f`, always colder {glue:text}`cold_epochs:.2f`, always hotter
#   {glue:text}`hot_epochs:.2f`. Two dense networks are too few to separate the lowest of these.
# - Over all temperatures that were varied advice is worth less: that of the regimes is right in
#   {glue:text}`right_all:.0%` ({glue:text}`right_low:.0%` to {glue:text}`right_high:.0%`) of {glue:text}`cells` cells, of
#   the sloping boundary in {glue:text}`sloping_all:.0%` ({glue:text}`sloping_low:.0%` to {glue:text}`sloping_high:.0%`).
#   The network with the lowest error before pruning costs {glue:text}`dense_choice:.2f` points, both metrics weighted
#   {glue:text}`weighted:.2f`, the regimes {glue:text}`guided:.2f`, the noise scale {glue:text}`noise:.2f`, CKA
#   {glue:text}`similar:.2f`. The regimes do better than CKA and than either fixed direction; they do not do better than
#   asking which dense network is best, which needs nothing to be pruned.
# - The learning rate is not all: at a rate that stays, the full length costs {glue:text}`constant_cost:.1f` points at the
#   lowest density, more than the noise of {glue:text}`constant_noise:.1f`, and connectivity falls as well. With the rate
#   that falls the cost is {glue:text}`falling_cost:.1f`, within the noise of {glue:text}`falling_noise:.1f`.
# - Both networks of a pair share parent and mask. Networks that share neither are hardly ever connected without an
#   alignment of their neurons, so that a barrier between them says nothing about temperature.
#
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("regimes", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). Two networks lie at the ends of a straight line. Why are the statistics of batch
# norms taken anew at every point of it? What would the regimes look like if they were not?
#
# :::{dropdown} Solution
# At the middle of the line the weights are means of two networks; their activations have a smaller variance than those that
# either network collected. With stale statistics nearly every line has a barrier, so nearly every cell would count as badly
# connected, and one regime would swallow the others for a reason that has nothing to do with temperature.
# :::
#
# **Exercise 2: Change** (10 minutes). The densest and the sparsest networks may want different temperatures. In
# `data/published/three_regimes.csv` find for each density the number of epochs with the lowest `test_error` (the smaller
# number where two are equal). `answer` is a dictionary from density to epochs. In which direction do the best epochs move as
# more weights are pruned?
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.PUBLISHED / "three_regimes.csv")
# rows = rows.sort_values(["density", "test_error", "epochs"])
# best = rows.groupby("density")["epochs"].first()
# answer = best.to_dict()
# ```
# The fewer weights are left, the fewer epochs are best, that is, the hotter. A rule that always trains longest pays for it
# where most is pruned.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write linear CKA: `cka(first, second)` of two arrays (examples, features), columns
# centred, ‖X'Y‖² / (‖X'X‖ ‖Y'Y‖) in Frobenius norms. `answer` is the function. Check: it is 1 for a rotated copy. Which
# difference between two networks can it therefore not see?
#
# :::{dropdown} Solution
# ```python
# import numpy as np
#
#
# def cka(first, second):
#     first, second = (part - part.mean(axis=0) for part in (first, second))
#     norms = [np.linalg.norm(part.T @ part) for part in (first, second)]
#     return np.linalg.norm(first.T @ second) ** 2 / (norms[0] * norms[1])
#
#
# answer = cka
# ```
# It cannot see a rotation or a common factor of all features. For features that is a virtue, since the next layer could undo
# either; the outputs of a classifier, though, may be rotated into wrong answers.
# :::
