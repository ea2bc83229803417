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
#       - data/measured/selection/costs.csv
#       - data/measured/selection/meter.csv
#       - data/measured/break_even/break_even.csv
#     writes: [costs.csv, meter.csv]
#     all_cores: true
# ---
# %% [markdown]
# # Energy and cost
#
# "I pruned, and nothing got faster." This page shows why. The same model takes three forms: **masked**, with zeros in
# its weights; **removed**, where whole heads, neurons and layers are deleted; and with **sparse kernels**, which
# neither store nor multiply the zeros. Each is measured by what it costs, and every joule says where it comes from.
#
# - **You will need** the page {doc}`schedules`.
# - **You will learn** which form saves time on a processor, how joules are measured, and how they are not.
# - **Run time**: half a minute.
# - **Reading**: 8 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the tables go to
measured: str = "selection"  # study under data/measured whose costs are shown as well
models_from: str = "laptop"  # study whose models are measured here
models: list = ["docstrings_bert"]  # models of that study
ratios: list = [0.5, 0.9]  # shares of the prunable weights set to zero, in the masked and the sparse form
removed: list = [0.5, 0.5, 1]  # shares of the heads and of the neurons, and layers, that are removed
multiple: int = 1  # the neurons that stay in a layer are a multiple of it, rounded up, such as 8 or 16
zeros: float = 0.57  # share of what is left set to zero while the model is trained on
examples: int = 2000  # training examples of that, at most
learning_rate: float = 3.0e-4  # highest learning rate of that
rounds: int = 30  # calls timed at each batch size
watts_per_core: float = 4.2  # for the estimate, where there is no sensor; 0: no estimate
grams_per_kwh: float = 480.0  # carbon dioxide of the grid named next
grid: str = "the world's mean in 2023, as Ember gives it"  # whose intensity that is
seed: int = 0  # seed of the models

# %% tags=["hide-input"]
from functools import partial

import pandas as pd
import torch
from myst_nb import glue
from prunecast import paths, tables
from prunecast.cost import energy
from prunecast.cost.break_even import break_even
from prunecast.models import checkpoints
from prunecast.plotting import deployment, style
from prunecast.pruning.finetuning import budget_of
from prunecast.selection.evaluator import BATCHES, ConfigurationEvaluator
from prunecast.selection.space import Configuration

style.use_style()

# %% [markdown]
# ## How joules are measured, and how they are not
#
# | source | what is read | beware |
# |---|---|---|
# | **nvml** | the energy counter of a GPU, before and after | its *power* reading samples about a quarter of the time on an A100 or H100 {cite:p}`yang2023`: read the counter, over seconds |
# | **rapl** | the energy counters of the processor packages | they count every process, wrap around, and are often readable by the administrator alone |
# | **estimated** | CPU seconds of this process times a power that somebody states | leaves out memory, clock and idle power; valid for ratios only |
# | **not measured** | nothing | an empty cell, not a zero |
#
# Intel Power Gadget was withdrawn in October 2023. A number of parameters times a random number, as in the
# [code](https://github.com/nksmarts/Efficient-Model-Pruning) of a source study, is no measurement.
# The meter of this machine:

# %%
meter = energy.meter(torch.device("cuda" if torch.cuda.is_available() else "cpu"), watts_per_core or None)
style.table(pd.DataFrame({"source": [meter.source], "note": [meter.note]}))

# %% [markdown]
# ## Three forms, three costs
#
# All forms are timed in turn in one run, so that disturbances of the machine affect all alike. Operations are those of
# one inference; *effective* ones leave out the zeros. The joules are for 1,000 inferences. {numref}`fig-costs-here` shows
# the latency with its tenth and ninetieth percentile, which is cut off where it lies far beyond the bars. A bar left of the
# line is faster than the dense model.

# %%
masked = [
    Configuration(form=form, scope="layer", ratio=ratio) for form in ("masked", "sparse_kernel") for ratio in ratios
]
heads, neurons, layers = removed
parts = {"heads": heads, "neurons": neurons, "layers": layers, "multiple": multiple}
smaller = Configuration(form="removed", importance="taylor", **parts)
trained = smaller.model_copy(update={"scope": "layer", "ratio": zeros, "schedule": "gradual"})
forms = [Configuration(form="dense"), *masked, smaller, trained]
budget = budget_of(epochs=1, examples=examples, learning_rate=learning_rate, distilled=1)
evaluators = [
    ConfigurationEvaluator(checkpoints.trained_classifier(name, models_from, seed), budget, meter, rounds)
    for name in models
]
costs = pd.concat([evaluator.costs(forms, rounds) for evaluator in evaluators], ignore_index=True)
_ = tables.write("costs", costs, paths.outputs(run))

# %% tags=["hide-input", "nbval-ignore-output"]
columns = [
    "accuracy",
    "parameters_nonzero",
    "size_bytes",
    "flops_dense",
    "flops_effective",
    "latency_ms_median",
    "energy_j",
]
style.table(costs.set_index(["model", "batch", "configuration"])[columns].rename_axis(columns=None), precision=2)

# %% mystnb={"figure": {"caption": "Latency of each form over the dense model's, on this machine; whiskers from the 10th to the 90th percentile.", "name": "fig-costs-here"}, "image": {"alt": "Two bar charts, batch 1 and batch 32. Masked forms stand at one, sparse kernels at one or right of it, the removed form left of it."}} tags=["hide-input", "nbval-ignore-output"]
first = costs[costs["model"] == models[0]]
_ = deployment.draw_costs(first.assign(label=first["configuration"]))

# %% [markdown]
# ## The same for MiniLM, and 2:4 on a GPU
#
# {numref}`fig-costs` shows the forms of MiniLM on SST-2, on one core. GPUs have units for **2:4** sparsity, where two of
# every four weights in a row are zero {cite:p}`mishra2021`. {numref}`fig-break-even` says when they pay, for single layers
# called from PyTorch: where a cell says less than one, the sparse layer is faster.

# %% mystnb={"figure": {"caption": "Latency of each form of MiniLM on SST-2 over the dense model's, one core.", "name": "fig-costs"}, "image": {"alt": "Two bar charts, batch 1 and batch 32, for MiniLM. Masked forms stand at one; sparse kernels are slower at half sparsity, faster at 82 per cent and fastest of all at 95; removed forms take about half the time or less."}} tags=["hide-input"]
measured_costs = tables.read("costs", paths.MEASURED / measured)
minilm = measured_costs[measured_costs["model"] == "sst2_minilm"]
_ = deployment.draw_costs(minilm.assign(label=minilm["configuration"]))

# %% tags=["hide-input"]
style.table(minilm.set_index(["batch", "configuration"])[columns], precision=2)

# %% mystnb={"figure": {"caption": "Time of a linear layer with 2:4 sparsity over the dense layer's, in bfloat16; on this machine's GPU, or else on one that was measured before.", "name": "fig-break-even"}, "image": {"alt": "A grid of sizes and numbers of input vectors. Every layer of up to two thousand inputs is slower with 2:4 sparsity, small ones tens of times; only layers of four or eight thousand inputs with thousands of vectors are faster."}} tags=["hide-input", "nbval-ignore-output"]
timed = (
    break_even(meter.device) if torch.cuda.is_available() else tables.read("break_even", paths.MEASURED / "break_even")
)
_ = deployment.draw_break_even(timed)

# %% [markdown]
# ## Is the meter repeatable?
#
# The same inferences again and again, and the same time spent idle. A sensor of a whole processor has a reading
# above zero when idle; an estimate from CPU seconds has none, which is one of its faults. A level row of round marks in
# {numref}`fig-meter` means that the meter is repeatable.

# %%
batch = BATCHES[-1]
evaluator = evaluators[0]
infer = partial(evaluator.subject.model, **evaluator.inputs[batch])
metered = energy.repeated(meter, infer, repeats=10, window_s=evaluator.window_s)
_ = tables.write("meter", metered, paths.outputs(run))

# %% mystnb={"figure": {"caption": "Energy read for the same work, repeated, and for the same time idle.", "name": "fig-meter"}, "image": {"alt": "Joules against the repeat, a mark each for inference and, below, for the same time idle."}} tags=["hide-input", "nbval-ignore-output"]
_ = deployment.draw_meter(metered)

# %% tags=["hide-input", "nbval-ignore-output"]
one, many = (minilm[minilm["batch"] == size].set_index("configuration") for size in BATCHES)
ratio = one["latency_ms_median"] / one.loc["dense", "latency_ms_median"]
bytes_left = one["size_bytes"] / one.loc["dense", "size_bytes"]
best, last = one.index[one["form"] == "removed"]  # as removed, and trained on with zeros besides
kernels = one[one["form"] == "sparse_kernel"].sort_values("sparsity").index
joules = 1000 * float(many.loc["dense", "energy_j"] - many.loc[best, "energy_j"])
places = {"here": metered, measured: tables.read("meter", paths.MEASURED / measured)}
repeats_by_place = pd.concat([rows.assign(where=place) for place, rows in places.items()])
inferences = repeats_by_place[repeats_by_place["work"] == "inference"]
busy = inferences.groupby("where")["joules"].agg(["median", "min", "max", "std"])
spread = (busy["max"] - busy["min"]) / busy["median"]
style.table(busy.assign(spread=spread))

# %% tags=["hide-input", "nbval-ignore-output"]
for name, value in {
    "masked": ratio[one["form"] == "masked"].mean(), "masked_size": bytes_left[one["form"] == "masked"].mean(),
    "removed": ratio[best], "removed_accuracy": one.loc[best, "accuracy"], "dense_accuracy": one.loc["dense", "accuracy"],
    "kernel_low": ratio[kernels[0]], "kernel_high": ratio[kernels[-1]], "low": one.loc[kernels[0], "sparsity"],
    "high": one.loc[kernels[-1], "sparsity"], "spread": spread[measured], "spread_here": spread["here"], "grams": grams_per_kwh, "watts": watts_per_core,
    "gone": one.loc[last, "sparsity"], "trained_accuracy": one.loc[last, "accuracy"], "trained_latency": ratio[last],
    "sparse_floor": timed.loc[timed["kernel"] == "2:4", "latency_us_median"].min() / 1000,
    "saved": energy.grams_of_co2(joules, grams_per_kwh), "kernel_accuracy": one.loc[kernels[-1], "accuracy"],
}.items():  # fmt: skip
    glue(name, float(value), display=False)
glue("grid", grid, display=False)
glue("gpu", timed["device"].iloc[0], display=False)

# %% [markdown]
# ## What this shows
#
# - Masks cost as much as no masks: MiniLM masked takes {glue:text}`masked:.2f` of the dense model's time at batch 1 and
#   {glue:text}`masked_size:.2f` of its bytes. Zeros in a dense matrix are multiplied like any other number.
# - A sparse kernel takes {glue:text}`kernel_low:.2f` of the dense time at {glue:text}`low:.0%` sparsity and
#   {glue:text}`kernel_high:.2f` at {glue:text}`high:.0%`, where accuracy is {glue:text}`kernel_accuracy:.2f`: without
#   retraining, it is fast where accuracy has collapsed. Whether it pays depends on sparsity and batch.
# - 2:4 sparsity gives nothing in a model of usual size: on an {glue:text}`gpu` a sparse layer takes at least
#   {glue:text}`sparse_floor:.2f` milliseconds when called from PyTorch, however small it is: that is the cost of the call,
#   not of the product. It pays where the dense product takes longer than that.
# - Removing parts saves time in any runtime: {glue:text}`removed:.2f` of the time, with accuracy
#   {glue:text}`removed_accuracy:.3f` against {glue:text}`dense_accuracy:.3f` before anything is trained on. Trained on
#   while {glue:text}`gone:.0%` of the prunable weights are removed or set to zero, it has
#   {glue:text}`trained_accuracy:.3f` at {glue:text}`trained_latency:.2f` of the time.
# - With {glue:text}`grams:.0f` grams of carbon dioxide a kilowatt-hour ({glue:text}`grid`), a million inferences at batch 32 of that form
#   would save {glue:text}`saved:.2f` grams of carbon dioxide, at the {glue:text}`watts:.1f` watts a core of the
#   estimate: 400 W, the design power that AMD prints for an EPYC 9655, over its 96 cores. It is an estimate.
# - Ten repeats of the same work spread by {glue:text}`spread:.1%` of their median in that study, and by
#   {glue:text}`spread_here:.1%` here: an estimate does not include what else the processor does.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("energy", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). Nine tenths of the weights of a model are zero and it is exactly as slow as before.
# Explain it to someone who expects it to be ten times as fast. Name two ways to gain time.
#
# :::{dropdown} Solution
# A dense matrix product multiplies every number, and zero is a number like any other; nothing tells the processor to skip it,
# and storing where the zeros are costs time, too. Either delete whole rows, heads or layers, so that the matrices get smaller,
# or use a kernel for sparse matrices, which pays only at a high sparsity.
# :::
#
# **Exercise 2: Change** (10 minutes). In `costs.csv` of `data/measured/selection` take `sst2_minilm`, form `sparse_kernel`, at
# a sparsity of about eight tenths. Its median latency divided by that of the dense model is one number at batch 1, another at
# batch 32. `answer` is the second minus the first. Which user gains from a sparse kernel?
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.MEASURED / "selection" / "costs.csv")
# rows = rows[rows["model"] == "sst2_minilm"]
# wanted = (rows["form"] == "sparse_kernel") & (rows["sparsity"].round(1) == 0.8)
# kernel, dense = (
#     rows[which].set_index("batch")["latency_ms_median"]
#     for which in (wanted, rows["form"] == "dense")
# )
# ratio = kernel / dense
# answer = ratio[32] - ratio[1]
# ```
# At batch 1 a dense product mostly waits for weights from memory, and a sparse one reads fewer. At batch 32 each weight that
# was read is used 32 times, and dense arithmetic is hard to beat.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write `operations(widths, batch, share)` for a network of linear layers whose widths
# (inputs, hidden layers, outputs) are in the list `widths`: floating-point operations of a forward pass, two for each
# multiply-add, biases not counted, after the share `share` of the neurons of every *hidden* layer is removed (the shares give
# whole numbers). `answer` is the function. By which factor do operations fall in the middle of a deep network if half of the
# neurons go?
#
# :::{dropdown} Solution
# ```python
# def operations(widths, batch, share):
#     hidden = [round(width * (1 - share)) for width in widths[1:-1]]
#     kept = [widths[0], *hidden, widths[-1]]
#     pairs = zip(kept[:-1], kept[1:], strict=True)
#     return sum(2 * batch * inputs * outputs for inputs, outputs in pairs)
#
#
# answer = operations
# ```
# By four: a matrix between two hidden layers loses half of its rows and half of its columns. A share of removed neurons is not
# the share of removed weights.
# :::
