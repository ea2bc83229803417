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
#       - data/published/edge_surrogates.csv
#       - data/published/edge_surrogate_predictions.csv.gz
#       - data/measured/structure/edges.csv
#       - data/measured/structure/pruned_structure.csv
#       - data/measured/structure_minilm/pruned_structure.csv
#       - data/measured/structure_gemma/pruned_structure.csv
#     writes: [edges.csv, pruned_structure.csv]
# ---

# %% [markdown]
# # Structure
#
# A network can also be pruned by whole connections: an edge of its {term}`computation graph`, a residual block, an
# attention head. Which of them can go, and can that be forecast from a few evaluations, instead of trying every
# combination? {cite:t}`ivanov2026` forecast the loss of a network with edges removed by a flow through its graph. This
# page trains such a network, recomputes the published table, and sets the flow beside methods from the field that asks
# the same question of language models: component modelling {cite:p}`shah2024` and circuit attribution
# {cite:p}`syed2023,hanna2024,mueller2025`.
#
# - **You will need** nothing but the idea of a {term}`surrogate`.
# - **You will learn** what a mask of edges says about a loss by itself, what one more evaluation is worth, and which
#   parts of a network can be removed.
# - **Run time**: under a minute; the measured study takes hours.
# - **Reading**: 14 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the tables go to
task: str = "digits"  # images that the random networks classify
iterations: list = [2]  # of the random graphs: each adds four edges
nets: list = [1, 1, 1]  # networks of each size; seeds of each; those of them with the fair protocol
images: list = [1000, 20, 400, 250]  # of training; epochs; on which losses are observed; on which they are judged
masks: list = [200, 40, 60]  # of the published protocol; of the fair one, for each keep rate; observed, at most
keep_rates: list = [0.5, 0.9]  # of the fair protocol
multiples: list = [1, 2]  # observed masks, in multiples of the edges
others: list = []  # a residual network and a language model of the registries, whose edges are judged as well
pruned: list = ["digits_preresnet14", "digits", ""]  # network to prune; its task; the task it is transferred to
shares: list = [0.6]  # of the operations of all removable edges that stay
tuning: list = [1, 500, 32, 0.003]  # training after pruning: epochs, examples, batch size, learning rate
choices: list = [["leave_one_out", "random"], 2, ["leave_one_out"], 1]  # methods, random draws; the same, trained
sizes: list = [128, 16, 64, 5]  # examples that forecasts use; blocks of a text; their tokens; timed repetitions
measured: list = ["structure", "structure_minilm", "structure_gemma"]  # studies under data/measured that are drawn

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import display
from myst_nb import glue
from prunecast import paths, tables
from prunecast.datasets.tasks import load_task
from prunecast.edge_experiments import edge_removal, edge_results, edge_scores, edge_subjects, structure_pruning
from prunecast.edge_surrogates import catalogue
from prunecast.graph import edge_masks
from prunecast.plotting import graph, style
from prunecast.seeding import generator

style.use_style()

# %% [markdown]
# ## A network and its graph
#
# The network of {numref}`fig-graph` is made at random, as in the paper: each iteration takes two earlier vertices, a
# block of a linear layer and ReLU follows each, a third takes their sum. Every edge has a {term}`gate`, a factor of what it
# carries. A mask says for each edge whether it is kept (1) or removed (0). The **flow** has one coefficient an edge; those
# that leave a vertex sum to one, so that what enters a vertex leaves it. Its forecast is what arrives at the output. It
# learns the coefficients from the {term}`leave-one-out masks`.

# %% mystnb={"figure": {"caption": "The graph of a random network, from the input (left) to the output. Colour and width of an edge: the coefficient that the flow learned for it.", "name": "fig-graph"}, "image": {"alt": "A directed graph in layers from left to right. Thick dark edges carry most of the flow, thin light ones little."}} tags=["hide-input"]
folder, data = paths.run(run), load_task(task)
networks, protocols = edge_removal.settings_of(iterations, nets, images, masks, keep_rates, multiples)
subject = edge_subjects.random_network(data, networks, 2, 0, 0)
design, network = subject.judged.graph, subject.observed
few = edge_masks.leave_one_out(len(design.edges))
observed = network.losses(few)
names = ["flow", "gate_integrated_gradients", "live_edges"]
fitted = {name: catalogue.unfitted(name, network, 0).fit(few, observed) for name in names}
_ = graph.draw_graph(design.vertices, design.edges, fitted["flow"].coefficients, "coefficient of the flow")

# %% [markdown]
# ## Forecast and truth
#
# {numref}`fig-scatter` compares forecasts of random masks with their true losses, on images that nothing was fitted
# on. Where no kept path leads from input to output, the logits are constant: the loss is known from the biases and the
# frequencies of the classes, with one example. **Integrated gradients** expand the loss in the gates
# {cite:p}`syed2023,hanna2024`. **Live edges** are ours: a Gaussian process on the edges that still matter under a mask,
# those from which the output can be reached, and on those of them that carry anything of the input. A forecast
# is good where marks of the same kind rise from left to right.

# %% mystnb={"figure": {"caption": "True loss of random masks against three forecasts. A forecast is used for its order alone.", "name": "fig-scatter"}, "image": {"alt": "Three scatter plots of true loss against forecast, with different marks for masks whose output is connected and disconnected. Disconnected ones have few different losses."}} tags=["hide-input"]
drawn = (
    edge_masks.connected(design, 0.7, 60, generator(0, "page")),
    edge_masks.at_random(len(design.edges), 0.5, 60, generator(0, "page")),
)
rows = [
    pd.DataFrame(
        {"forecast": each.predict(those), "true": subject.judged.losses(those), "surrogate": style.words(name)}
    ).assign(connected=design.connected(those))
    for name, each in fitted.items()
    for those in drawn
]
_ = graph.draw_scatter(pd.concat(rows), "surrogate")

# %% [markdown]
# ## The published table
#
# The paper's code keeps the forecasts of its five surrogates for every mask, so that its table can be computed again.
# Three of five rows agree. `L1` and `Taylor` have the **opposite sign**: both are means over the edges that are kept,
# forecasts of how good a mask is, and the code reverses them before it compares. And most of its masks disconnect
# the output, between {glue:text}`least_disconnected:.0%` and {glue:text}`most_disconnected:.0%` by size of the network.
# Where they do, the graph surrogate is zero, and only there. This one bit, {term}`reachability`, which needs neither
# training nor an evaluation, is the last row: it scores as much as the surrogate does, and no published comparison has it.

# %% tags=["hide-input"]
predictions = edge_scores.of_predictions(pd.read_csv(paths.PUBLISHED / "edge_surrogate_predictions.csv.gz"))
printed = edge_scores.beside_printed(pd.read_csv(paths.PUBLISHED / "edge_surrogates.csv"), predictions)
by_size = predictions.groupby(["surrogate", "iterations", "subset"])[["spearman", "connected"]].mean()
shares = 1 - by_size.xs("Graph").xs("all", level="subset")["connected"]
within = by_size.xs("Graph").xs("connected", level="subset")["spearman"]
for name, value in {
    "least_disconnected": shares.min(), "most_disconnected": shares.max(),
    "least_within": within.min(), "most_within": within.max(),
}.items():  # fmt: skip
    glue(name, float(value), display=False)
style.table(printed.xs("spearman").drop(columns="printed std"))

# %% [markdown]
# ## The same with our networks
#
# Ours, on networks trained here, with the protocol of the paper: masks that keep an edge with probability one half.
# Surrogates that learn were given as many masks as the paper's, the {term}`leave-one-out masks` or, where the column says
# so, random ones. *Chosen* masks are those whose live edges are most frequent among random masks. *Few examples* is no
# surrogate: it evaluates every mask on as few images as the budget of the others allows, and on one where the output is
# disconnected. *Other examples* evaluates every mask on other images, which bounds what can be reached. There are ten
# networks of each size, and {glue:text}`nets_largest:d` of the largest. The first table is over all masks, with the 90 %
# interval over networks, the second over the connected ones among them.

# %% tags=["hide-input"]
own = edge_removal.measure(data, networks, protocols, folder / "edges")
own = pd.concat([own, edge_removal.measure_others(others, run, images[3], protocols, folder / "edges")])
_ = tables.write("edges", own, paths.outputs(run))
edges = tables.read("edges", paths.MEASURED / measured[0])
whole, among_connected = edge_results.shown(edge_results.published_table(edges).rename(index=style.words))
display(style.table(whole))
display(style.table(among_connected, precision=2))

# %% [markdown]
# ## What an evaluation is worth
#
# The fair protocol: losses observed on training images, judged on others, all masks with a connected output, several
# {term}`keep rates <keep rate>`. {numref}`fig-cost` sets the score of each surrogate against the number of
# {term}`evaluations <evaluation>` that it spent. A surrogate is worth its price where it is above all that lie further left.
#
# What is learned from masks that keep most edges need not hold where few are kept, and pruning moves from one to the
# other. {numref}`fig-keep-rates` shows the score for every pair of keep rates; the diagonal is what studies usually report.

# %% mystnb={"figure": {"caption": "Spearman correlation of forecast and true loss against the evaluations that the surrogate spent, by number of edges; fair protocol, mean over keep rates, observed and judged masks of one keep rate. Bands: 90 % interval over networks.", "name": "fig-cost"}, "image": {"alt": "A panel for each size of the network, a line for each surrogate. Scores rise with the number of evaluations; live edges and the flow with channels are highest at few."}} tags=["hide-input"]
costs = edge_results.by_cost(edges)
_ = graph.draw_scores_by_cost(costs, "Spearman correlation", "size")

# %% mystnb={"figure": {"caption": "Spearman correlation by the keep rate of the masks that a surrogate learned from (rows) and of those that it forecast (columns); two observed masks for each edge.", "name": "fig-keep-rates"}, "image": {"alt": "Heat maps, one for each surrogate: scores are highest near the diagonal and fall away from it, most of all for regressions on the mask."}} tags=["hide-input"]
_ = graph.draw_transfer(edge_results.transferred(edges), "Spearman correlation")

# %% [markdown]
# ## Pruning with it
#
# {numref}`fig-pruned` and {numref}`fig-perplexity` remove blocks and branches greedily, those first that are forecast to cost least for the operations
# they save. What is removed is really gone: the networks are smaller. Beside it stand random removal, magnitude, and
# channels, neurons or heads thinned with their dependency graph {cite:p}`fang2023`, at equal operations.
# `prunecast layers CHECKPOINT --task TASK` says which blocks a checkpoint of yours can do without; below the table it does
# so for a small classifier, by a forecast and by measurement.

# %% mystnb={"figure": {"caption": "Accuracy of pruned classifiers against the operations that are left, as pruned, fine-tuned, and after transfer to a second task. Mean over draws; thin line: the dense network.", "name": "fig-pruned"}, "image": {"alt": "A panel for each network and stage, a mark for each method of choosing what to remove. Accuracy falls as operations are saved, and less after fine-tuning."}} tags=["hide-input"]
small = structure_pruning.of_settings(pruned, shares, tuning, choices, sizes, run)
_ = tables.write("pruned_structure", small, paths.outputs(run))
smaller = pd.concat([tables.read("pruned_structure", paths.MEASURED / study) for study in measured])
smaller = smaller.sort_values(["network", "stage"], ascending=[True, False], kind="stable")
drawn_methods = ["leave_one_out", "verified", "gate_gradient", "random", "magnitude", "dependency_graph"]
methods = {name: style.words(name) for name in drawn_methods}
_ = graph.draw_pruned(smaller[smaller["metric"] == "accuracy"], "flops", methods)

# %% mystnb={"figure": {"caption": "The same for a language model, by perplexity, lower is better.", "name": "fig-perplexity"}, "image": {"alt": "Perplexity on a logarithmic scale against the share of operations left. Removing blocks by forecast raises it least; random removal and thinned layers raise it far more."}} tags=["hide-input"]
_ = graph.draw_pruned(smaller[smaller["metric"] == "perplexity"], "flops", methods)

# %% tags=["hide-input"]
display(style.table(structure_pruning.summary(smaller).rename(index=lambda each: style.words(str(each))), precision=3))
for name, value in edge_results.headline(edges).items():
    glue(name, value, display=False)

# %% tags=["hide-input", "nbval-ignore-output"]
from textwrap import fill

from prunecast.forecasting import layers, layers_report
from prunecast.models.checkpoints import trained_classifier

blocks = layers.open_classifier(str(trained_classifier("docstrings_bert", run, 0).folder), load_task("docstrings"))
print(
    "\n".join(
        fill(line, 80, subsequent_indent="    ") for line in layers_report.lines(blocks, layers.find_layers(blocks))
    )
)

# %% [markdown]
# ## What this shows
#
# - Most of the published score can be had without a network: the one bit scores as much as the published surrogate does,
#   there and on our networks, where it scores {glue:text}`published_reachability_least:.2f` to
#   {glue:text}`published_reachability_most:.2f` by size and the flow {glue:text}`published_flow_least:.2f` to
#   {glue:text}`published_flow_most:.2f`. Among connected masks the published forecasts do say more:
#   {glue:text}`least_within:.2f` to {glue:text}`most_within:.2f`.
# - At the price of the paper's masks, masks that are *chosen* for their live edges give
#   {glue:text}`published_chosen_least:.2f` to {glue:text}`published_chosen_most:.2f`, without a pass of the network for
#   a forecast; among connected masks only {glue:text}`connected_least:.2f` to {glue:text}`connected_most:.2f`. And who may
#   evaluate needs no surrogate: the same budget, spent on a few images for every mask, gives at
#   least {glue:text}`published_few_least:.3f`.
# - Under the fair protocol, with as many random masks as edges, mean over sizes and keep rates: ridge
#   {glue:text}`ridge:.2f`, live edges {glue:text}`live:.2f`, flow with channels {glue:text}`channels:.2f`. With twice as
#   many: ridge {glue:text}`ridge_two:.2f`, boosted trees {glue:text}`trees_two:.2f`, flow with channels
#   {glue:text}`channels_two:.2f`, live edges {glue:text}`live_two:.2f`. Without observed masks, gate integrated gradients
#   {glue:text}`gradients:.2f`, and {glue:text}`carrying:.2f` where an edge that carries nothing counts as removed.
# - What the live edges were tried out on are the graphs of the first two networks of each size, with other weights; without
#   these two the figures are {glue:text}`live_new:.2f` and {glue:text}`live_two_new:.2f`.
# - As pruned, blocks and branches that are chosen by measured losses are better than random ones, and than those of small
#   weights, on all three networks. After a little training that is no longer so for the text classifier, where random
#   removals end up higher. At equal operations, layers that are all thinned are better on the text classifier, on the
#   residual network only after training, and not on the language model; but a removed block saves more time.
#
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("structure", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). A regression on the mask has one coefficient for each edge. Why is it a poor forecast
# where few edges are kept, while a forecast from the *live* edges is not?
#
# :::{dropdown} Solution
# With few edges kept, most kept edges are on no path from the input to the output: they are in the mask, and change nothing.
# The coefficient of an edge would have to depend on the other edges, which a sum cannot express. The live edges are those that
# still matter, so equal live edges mean the same network and the same loss.
# :::
#
# **Exercise 2: Change** (10 minutes). In `data/published/edge_surrogate_predictions.csv.gz` compute for each network
# (`iterations`, `net`) the Spearman correlation of a column of forecasts with `true`, and the mean over all networks. Do so for
# the published surrogate `Graph`, then for `Graph > 0`, the one bit whether the output can be reached. `answer` is the mean
# for the bit, without networks whose bit is the same for all masks.
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.PUBLISHED / "edge_surrogate_predictions.csv.gz")
# rows = rows.assign(bit=(rows["Graph"] > 0).astype(float))
# scores = [
#     part["bit"].corr(part["true"], method="spearman")
#     for _, part in rows.groupby(["iterations", "net"])
#     if part["bit"].nunique() > 1
# ]
# answer = sum(scores) / len(scores)
# ```
# Most of the score is in the one bit, so a surrogate has to be judged among connected masks as well.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write `live(edges, kept)`: `edges` is a list of pairs (source, target) of numbered
# vertices with source < target, `kept` a list of booleans; 0 is the input, the largest number the output. Return a list of
# booleans: which edges are kept *and* lie on a path of kept edges from input to output. `answer` is the function.
#
# :::{dropdown} Solution
# ```python
# def live(edges, kept):
#     output = max(target for _, target in edges)
#     reached, needed = {0}, {output}
#     alive = [edge for edge, stays in zip(edges, kept, strict=True) if stays]
#     for source, target in sorted(alive):
#         if source in reached:
#             reached.add(target)
#     for source, target in sorted(alive, key=lambda edge: -edge[1]):
#         if target in needed:
#             needed.add(source)
#     return [
#         stays and source in reached and target in needed
#         for (source, target), stays in zip(edges, kept, strict=True)
#     ]
#
#
# answer = live
# ```
# One pass forwards and one backwards suffice, because every edge leads to a larger number.
# :::
