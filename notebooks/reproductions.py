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
#       - data/published/lstm_surrogate.csv
#       - data/published/smarts.csv
#       - data/published/emp.csv
#       - data/measured/campaign/predictions.csv.gz
#       - data/measured/selection/models.csv
#       - data/measured/selection/candidates.csv
#       - data/measured/compression/schedules.csv
#       - data/measured/compression_cola/schedules.csv
#       - data/measured/compression_base/models.csv
#       - data/measured/compression_base/schedules.csv
#       - data/measured/compression_base/candidates.csv
#       - data/measured/compression_base/costs.csv
#       - data/measured/compression_base_cola/models.csv
#       - data/measured/compression_base_cola/schedules.csv
#       - data/measured/compression_base_cola/candidates.csv
#       - data/measured/base_long/schedules.csv
#       - data/measured/base_long_cola/schedules.csv
#       - data/measured/effective/emp.csv
#       - data/published/three_regimes.csv
#       - data/measured/regimes/regimes.csv
#       - data/published/edge_surrogates.csv
#       - data/published/edge_surrogate_predictions.csv.gz
#       - data/measured/structure/edges.csv
#     writes: [reproductions.csv]
# ---
# %% [markdown]
# # Reproductions
#
# Figures that the papers print, where there is one of ours to set beside them. Mostly they were not obtained in the
# same way, because the paper does not say how its own was; the note says what differs. The table `reproductions` also
# holds those that were not measured here.
#
# - **You will need** the pages {doc}`surrogate` and {doc}`pareto`, where our figures come from.
# - **You will learn** which figures are reproduced, and which could not be checked.
# - **Run time**: a few seconds.
# - **Reading**: 8 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the table goes to
forecasts: str = "campaign"  # study under data/measured with the forecasts
compressions: list = [  # studies with schedules
    "compression", "compression_cola", "compression_base", "compression_base_cola", "base_long", "base_long_cola"
]  # fmt: skip
dense: list = ["selection", "compression_base", "compression_base_cola"]  # studies with models and candidates
base: str = "compression_base"  # study under data/measured with the costs of a model of base size
effective: str = "effective"  # study under data/measured with effective numbers
temperatures: str = "regimes"  # study under data/measured with the three regimes
structures: str = "structure"  # study under data/measured with surrogates of the computation graph

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import display
from myst_nb import glue
from prunecast import paths, tables
from prunecast.experiments import reproductions, three_regimes
from prunecast.forecasting import ablation
from prunecast.plotting import deployment, published, style

style.use_style()

# %%
printed = pd.read_csv(paths.PUBLISHED / "lstm_surrogate.csv").set_index("quantity")["value"]
surrogate = ablation.beside_paper(tables.read("predictions", paths.MEASURED / forecasts), printed)
schedules = tables.read_all("schedules", [paths.MEASURED / study for study in compressions])
models, candidates = (
    tables.read_all(name, [paths.MEASURED / study for study in dense]) for name in ("models", "candidates")
)
costs = tables.read("costs", paths.MEASURED / base)
smarts = reproductions.beside_paper(pd.read_csv(paths.PUBLISHED / "smarts.csv"), models, candidates, schedules, costs)
numbers = reproductions.of_effective(
    pd.read_csv(paths.PUBLISHED / "emp.csv"), tables.read("emp", paths.MEASURED / effective)
)
paper_grid = three_regimes.published(pd.read_csv(paths.PUBLISHED / "three_regimes.csv"))
grids = reproductions.of_regimes(paper_grid, tables.read("regimes", paths.MEASURED / temperatures))

# %% [markdown]
# ## Forecasting the curve
#
# The LSTM of {cite:t}`kersbergen2026`, in mean absolute error of accuracy; the page {doc}`surrogate` explains the splits.

# %% tags=["hide-input"]
columns = ["published", "ours", "unit", "note"]
style.table(surrogate.set_index("row")[columns], precision=4)

# %% [markdown]
# ## Selection
#
# Tables 1 to 3 of {cite:t}`smarts2025`: accuracy, F1, Matthews correlation and size. Ours are of mpnet-base, which is as
# large as BERT-base; compression counts prunable parameters, because embeddings cannot be pruned here. The study calls
# 20, 25 and 30 of 110 million parameters all {glue:text}`times` times fewer, prints two accuracies for its pruned model
# on SST-2 and two correlations on CoLA, and its [public code](https://github.com/nksmarts/Efficient-Model-Pruning) ends
# in an error before a pruned model is evaluated.
#
# Table 4: what pruning saves. The study's joules were not measured: its public code multiplies the number of parameters
# by a random number. Ours are of mpnet-base on SST-2 with {glue:text}`gone:.0%` of its prunable weights zero or removed,
# trained on briefly, so that it is less accurate than the one of table 2: latency at batch 1 on one core of a server
# processor, energy at batch 32, estimated as {doc}`energy` says and valid for the relative change only.
#
# {numref}`fig-published-selection` shows every figure in a row, the printed one as a circle and ours as a filled mark:
# the closer the two, the better it is reproduced. Sizes and costs differ by orders of magnitude; there ours is divided by
# the printed figure, on a logarithmic axis, so that the circle is at one. Left out is the compression, which was chosen
# as printed. {numref}`fig-reproductions` shows the relative changes of table 4, to be read in the same way.

# %% mystnb={"figure": {"caption": "Printed figures on selection, and ours. In the panel on size and cost ours is divided by the printed one, on a logarithmic axis.", "name": "fig-published-selection"}, "image": {"alt": "Three panels, of percentages, of sizes and costs as ratios, and of correlations: a row for each printed figure, with a hollow circle for it and a filled mark for ours."}} tags=["hide-input"]
figures = smarts[smarts["ours"].notna() & ~smarts["row"].str.contains("relative_change|compression")]
by_unit = {"per cent": "error, accuracy and F1", "correlation": "Matthews correlation"}
panels = figures["unit"].map(by_unit).fillna("size and cost")
labels = figures["row"] + ", " + figures["table"]
_ = published.draw_published(figures.assign(panel=panels, label=labels, series="ours"))

# %% mystnb={"figure": {"caption": "What pruning changes, in per cent of the dense model's figure: printed, and measured here.", "name": "fig-reproductions"}, "image": {"alt": "Four rows, accuracy, operations, latency and energy, each with a hollow mark for the printed change and a filled one for ours."}} tags=["hide-input"]
by_table = smarts.set_index(["table", "row"])[columns]
measured = by_table["ours"].notna()
changes = by_table[measured].loc["table 4"]
_ = deployment.draw_reproductions(changes[changes.index.str.endswith("relative_change_pct")])

# %% tags=["hide-input"]
style.table(by_table[measured], precision=2)

# %% [markdown]
# ## The effective number
#
# Sparsities and accuracies of {cite:t}`wang2026`, in per cent; the page {doc}`effective_number` explains the rule.
# First the fully connected networks, trained and pruned as there, ours a mean over three seeds, judged after the last
# epoch where the paper takes the best on the test set. Then what differs more.
#
# In {numref}`fig-published-effective` all percentages share one axis. Where our mark lies inside the circle of the printed
# figure, as for most of the fully connected networks, the two differ by less than about a point. Rows bear the names of
# the paper; the second table says what ours are. Accuracy before pruning does not depend on $\beta$: one row a network.

# %% mystnb={"figure": {"caption": "Printed figures of the effective number, and ours, a panel a quantity.", "name": "fig-published-effective"}, "image": {"alt": "Five panels, with a row for each network and beta: a hollow circle for the printed figure and a filled mark for ours, which lie inside each other for the fully connected networks and apart for the others."}} tags=["hide-input"]
parts = numbers["row"].str.extract("(?P<label>.*): (?P<panel>.*)")
parts["panel"] = parts["panel"].replace("n_eff_share", "effective number, share", regex=True)
once = (parts["panel"] != "dense_accuracy_pct") | parts["label"].str.endswith("beta 1")
_ = published.draw_published(numbers.join(parts)[once & numbers["ours"].notna()].assign(series="ours"))

# %% tags=["hide-input"]
same_protocol = numbers["same_protocol"]
display(style.table(reproductions.side_by_side(numbers[same_protocol]), precision=1))
display(style.table(numbers[~same_protocol & numbers["ours"].notna()].set_index("row")[columns], precision=2))

# %% [markdown]
# ## The three regimes, and the computation graph
#
# The grid of {cite:t}`zhou2023`, digitised from its figure, beside a smaller one; the page {doc}`regimes` explains both.
# Then rank correlations of {cite:t}`ivanov2026`: *recomputed* from the published forecasts, with the sign that they
# give, and *measured* with our surrogates on other networks; the page {doc}`structure` explains them.
# {numref}`fig-published-graph` has a row for each surrogate and size of the networks: a recomputed mark on the other
# side of zero from its circle says that the forecasts give the opposite sign.

# %% mystnb={"figure": {"caption": "Rank correlation of surrogates of the computation graph with the loss: printed, recomputed from the published forecasts, and measured on other networks.", "name": "fig-published-graph"}, "image": {"alt": "A row for each of five surrogates and four sizes, with a hollow circle for the printed correlation, a diamond for the recomputed one and a square for ours. Diamonds of L1 and Taylor mirror the circles at zero."}} tags=["hide-input"]
predictions = pd.read_csv(paths.PUBLISHED / "edge_surrogate_predictions.csv.gz")
printed_edges = pd.read_csv(paths.PUBLISHED / "edge_surrogates.csv")
edges = reproductions.of_structure(printed_edges, predictions, tables.read("edges", paths.MEASURED / structures))
spearman = edges[edges["row"].str.endswith("spearman")]
names = {"label": spearman["row"].str.removesuffix(": spearman"), "series": spearman["table"]}
_ = published.draw_published(spearman.assign(panel="rank correlation", **names).dropna(subset=["published", "ours"]))

# %% tags=["hide-input"]
rows = pd.concat([surrogate, smarts, numbers, grids, edges], ignore_index=True)
_ = tables.write("reproductions", rows, paths.outputs(run))
display(style.table(grids.set_index("row")[columns], precision=2))
display(style.table(spearman.set_index(["table", "row"])[columns], precision=3))

# %% tags=["hide-input"]
changes_by_row = by_table[["ours", "published"]].droplevel("table")
for name, row in {
    "gain": "accuracy_pct: relative_change_pct", "latency": "cpu_latency_ms: relative_change_pct",
    "flops": "flops_billion: relative_change_pct", "energy": "energy_joule: relative_change_pct",
}.items():  # fmt: skip
    glue(name, float(changes_by_row.loc[row, "ours"]), display=False)
    glue(f"{name}_printed", float(changes_by_row.loc[row, "published"]), display=False)
for name, value in {
    "times": reproductions.COMPRESSION, "gone": float(costs.loc[costs["form"] == "removed", "sparsity"].max()), "claims": len(rows),
    "measured": int(rows["ours"].notna().sum()), "same": int(same_protocol.sum()),
}.items():  # fmt: skip
    glue(name, value, display=False)
compared = numbers[same_protocol].assign(error=lambda rows: (rows["ours"] - rows["published"]).abs())
for name, quantity in (("sparsity", "sparsity_pct"), ("accuracy", "accuracy_pct")):
    glue(f"{name}_off", float(compared[compared["row"].str.endswith(quantity)]["error"].max()), display=False)

# %% [markdown]
# ## What this shows
#
# - Of {glue:text}`claims:d` printed figures {glue:text}`measured:d` have one of ours beside them, and
#   {glue:text}`same:d` of these under the same protocol, but for the epoch that is judged.
# - The pruned model changes latency by {glue:text}`latency:.0f` per cent (printed
#   {glue:text}`latency_printed:.0f`), effective operations by {glue:text}`flops:.0f` ({glue:text}`flops_printed:.0f`),
#   energy by {glue:text}`energy:.0f`, estimated ({glue:text}`energy_printed:.0f`), and accuracy by
#   {glue:text}`gain:.1f` ({glue:text}`gain_printed:.1f`). It gets cheaper as printed and more so; it does not get better.
# - Where the protocol is the paper's, the effective number's figures hold: no sparsity is off by more than
#   {glue:text}`sparsity_off:.1f` points, no accuracy by more than {glue:text}`accuracy_off:.1f`. The largest gap is
#   that of twelve layers at $\beta$ one half, where accuracy has begun to fall and our own seeds lie as far apart.
# - What is not shown was not measured: the other compressed models of table 3, networks of other data, and everything
#   on a GPU.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("reproductions", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). A paper prints an error without saying how its models were split, and ours under the
# hardest split is twice as large. Is the paper refuted? And if ours under the easiest split is smaller, is it confirmed?
#
# :::{dropdown} Solution
# Neither. Without the protocol it is not known what the figure is an error of. What can be said is under which protocols such a
# figure is possible. This is why every row says whether the protocol was the same, and what differs.
# :::
#
# **Exercise 2: Change** (10 minutes). Do the printed figures agree with each other? In `data/published/smarts.csv`, tables 1, 2
# and 3 give `parameters_millions` of BERT-base and of its pruned form (rows *BERT-base reference* and *BERT-base pruned*, or
# *BERT-base* and *Pruned*). `answer` is a dictionary from `"table 1"` and so on to the compression, the first divided by the
# second. Which of them is the printed compression?
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.PUBLISHED / "smarts.csv")
# rows = rows[rows["quantity"] == "parameters_millions"]
# values = rows.set_index(["table", "row"])["value"]
# names = {"table 1": ("BERT-base reference", "BERT-base pruned")}
# answer = {}
# for table in ("table 1", "table 2", "table 3"):
#     whole, pruned = names.get(table, ("BERT-base", "Pruned"))
#     answer[table] = values[table, whole] / values[table, pruned]
# ```
# Three tables give three sizes of the pruned model, and only one of them gives the compression that is printed.
# :::
#
# **Exercise 3: Extend** (20 minutes). A figure can be checked without the experiment. By the rule of {doc}`effective_number`, as
# long as something is pruned, the kept share divided by β is the same for every β. In `data/published/emp.csv`, table *beta
# sweep*, a row is a network and a β, such as *FC2 MNIST, beta 1*. For each network take (100 − `sparsity_pct`) / β where the
# sparsity is above zero; `answer` is the largest ratio, over networks, of the largest to the smallest of these.
#
# :::{dropdown} Solution
# ```python
# import pandas as pd
# from prunecast import paths
#
# rows = pd.read_csv(paths.PUBLISHED / "emp.csv")
# swept = rows["table"] == "beta sweep"
# rows = rows[swept & (rows["quantity"] == "sparsity_pct") & (rows["value"] > 0)]
# names = rows["row"].str.split(", beta ", expand=True)
# per_beta = (100 - rows["value"]) / names[1].astype(float)
# ends = per_beta.groupby(names[0]).agg(["max", "min"])
# answer = (ends["max"] / ends["min"]).max()
# ```
# Near one, the printed sparsities follow from the definition, to the digits that are printed. Such a check costs minutes and
# needs no data.
# :::
