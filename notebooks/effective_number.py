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
#       - tables/sweeps.csv
#       - data/language_models.yml
#       - data/published/emp.csv
#       - data/measured/effective/emp.csv
#       - data/measured/effective_gemma/emp_language.csv
#       - data/measured/structure_gemma/pruned_structure.csv
#       - data/measured/effective_speed/effective_speed.csv
#       - data/measured/campaign/models.csv
#       - data/measured/campaign/sweeps.csv
#       - data/measured/campaign/recommendations.csv
#       - data/measured/campaign/forecast_errors.csv
#     writes: [emp.csv, emp_language.csv]
#     all_cores: true
# ---

# %% [markdown]
# # The effective number
#
# A criterion ranks weights by importance, but *how many* of them may be pruned? {cite:t}`wang2026` derive the number from
# the scores themselves: keep as many as their {term}`effective number`. No parameter, no data, no measurement. This page
# tries the rule on weights, heads, nodes and pixels, with the controls that the paper lacks: as many entries chosen by
# magnitude, and as many at random.
#
# - **You will need** the page {doc}`magnitude_pruning`.
# - **You will learn** what the rule measures, where it is safe, and what it leaves unused.
# - **Run time**: about a minute.
# - **Reading**: 14 minutes; **exercises**: 35 minutes.

# %% tags=["parameters"]
run: str = "page"  # run whose folder the table goes to
measured: str = "effective"  # study under data/measured whose rows are shown
models_from: str = "laptop"  # study whose models and measured curves are taken; empty for none
models: list = ["docstrings_bert"]  # models of that study; none named: all
criteria: list = ["magnitude", "random", "taylor", "saliency", "wanda"]  # scores of weights
fully_connected: list = ["digits_fc2_100"]  # networks pruned as the paper does, the output layer included
betas: list = [0.5, 0.75, 1.0, 1.25, 1.5, 2.0]  # factors of the effective number, for those networks
seeds: list = [0]  # seeds of those networks
language_models: list = ["docstrings_gpt2"]  # pruned by rows and by heads; a pretrained one for the second table only
blocks: int = 256  # blocks of their validation text, at most, on which the perplexity is measured
kans: list = ["digits_kan"]  # Kolmogorov-Arnold networks, pruned by nodes
epsilon: float = 0.01  # accuracy one would give up; of a perplexity, the share
seed: int = 0  # seed of everything else

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import display
from myst_nb import glue
from prunecast import paths, tables
from prunecast.effective_pruning import classifiers, comparison
from prunecast.effective_pruning import language_models as of_text
from prunecast.experiments import reproductions, rules_of_thumb
from prunecast.models import checkpoints, language
from prunecast.plotting import effective_number as effective_number_figures
from prunecast.plotting import style

style.use_style()

# %% [markdown]
# ## The rule
#
# Of $N$ scores $s_i \ge 0$ the **effective number** is $N_\mathrm{eff} = (\sum s_i)^2 / \sum s_i^2$: $N$ where all are
# equal, one where all but one are zero. The rule keeps the $\nu = \lfloor \beta N_\mathrm{eff} \rfloor$ highest, with
# $\beta = 1$ by default. The share kept depends on the *shape* of the distribution alone: $2/\pi$ of the magnitudes if
# weights are normally distributed, three quarters if uniformly, one half if by Laplace's law, whatever the network has
# learnt.
#
# This run tries it on small models of every kind; *by magnitude* and *at random* are the controls at the same sparsity,
# and the optimum is the last sparsity before the criterion itself first loses more than epsilon. All below is of
# larger ones.

# %%
languages = [language.trained_language_model(name, run, seed) for name in language_models]
nodes = [checkpoints.trained_classifier(name, run, seed) for name in kans]
of_photograph, images = classifiers.of_photograph([1.0], seed)
trained = [subject for subject in languages if isinstance(subject.spec, language.LanguageSpec)]
parts = [
    *(classifiers.of_study(models, study, criteria, epsilon, seed) for study in [models_from] if study),
    *(classifiers.of_networks([model], run, betas, seeds, epsilon) for model in fully_connected),
    *(of_text.of_language(subject, criteria, [1.0], epsilon, blocks) for subject in trained),
    *(classifiers.of_kan(subject, [1.0], epsilon) for subject in nodes),
    of_photograph,
]
rows = pd.concat(parts, ignore_index=True)
_ = tables.write("emp", rows, paths.outputs(run))
_ = tables.write("emp_language", of_text.at_same_sparsity(languages, blocks), paths.outputs(run))
style.table(comparison.overview(rows), precision=2)

# %% [markdown]
# What is pruned is small in sum: the scores kept make up most of the total. {numref}`fig-bound` shows how much at
# least, by the paper's theorem, and how much in real layers. The theorem is tight, but for many entries it guarantees
# no more than any choice of the $\nu$ highest would, the dashed line; real scores lie far above both. For $\nu = 1$ it
# fails: of two nearly equal scores it keeps one half of the sum.

# %% mystnb={"figure": {"caption": "Share of the sum of the scores that is kept, against the share of the entries: the paper's bound for a thousand entries, and every row measured at beta 1.", "name": "fig-bound"}, "image": {"alt": "The bound falls at first and then rises along the diagonal. Crosses of measured rows lie well above it."}} tags=["hide-input"]
measured_rows = tables.read("emp", paths.MEASURED / measured)
at_one = measured_rows[measured_rows["beta"] == 1]
_ = effective_number_figures.draw_bound(at_one)

# %% [markdown]
# ## The paper's networks
#
# Fully connected networks of two, five and twelve layers on MNIST, trained and pruned as the paper does it, judged
# after the last epoch. {numref}`fig-betas` shows the accuracy
# at each $\beta$; squares are printed accuracies. The gap to the dashed line is the effect of the criterion; the upper
# line is flat because these networks could lose far more weights.

# %% mystnb={"figure": {"caption": "Accuracy against beta on MNIST, mean over three seeds, beside as many weights at random and the printed figures.", "name": "fig-betas"}, "image": {"alt": "Three panels. Kept by magnitude, accuracy is flat from beta one half or three quarters on and meets the printed squares; kept at random it is far lower until beta reaches one and a half."}} tags=["hide-input"]
published = pd.read_csv(paths.PUBLISHED / "emp.csv")
fully = measured_rows[measured_rows["model"].str.contains(r"_fc\d+_\d+$")]
_ = effective_number_figures.draw_betas(fully, reproductions.printed_accuracies(published))

# %% [markdown]
# ## Which score
#
# The rule accepts any criterion, and its scores set the sparsity. On the campaign's classifiers, at $\beta = 1$, all
# weights compared, {numref}`fig-criteria` shows the accuracy each loses, and what magnitude and random pruning lose at
# the same sparsity. **Saliency** is how steeply the loss rises with a weight, **Taylor** that times the weight,
# **Wanda** the weight times the norm of its input. A skewed score like a gradient's has a small effective number, so
# the rule prunes too much. In the table *above magnitude* and *above chance* (random pruning) are shares of the curves
# on which the criterion does better at the same sparsity.

# %% mystnb={"figure": {"caption": "Accuracy lost at beta 1 by criterion, a mark a classifier of the campaign, beside magnitude and random pruning at the same sparsity.", "name": "fig-criteria"}, "image": {"alt": "Marks by criterion. Under magnitude most lie near zero; under Wanda, saliency and Taylor many have lost a quarter and more; magnitude at the same sparsity mostly loses less, random pruning more."}} tags=["hide-input"]
campaign_rows = at_one[(at_one["metric"] == "accuracy") & ~at_one["model"].isin([*fully["model"], "mnist_kan"])]
compared = campaign_rows[campaign_rows["granularity"] == "global"]
_ = effective_number_figures.draw_criteria(compared)

# %% tags=["hide-input"]
by_criterion = comparison.summary(campaign_rows, epsilon)
taylor = by_criterion.loc[("global", "taylor")]
of_networks = comparison.summary(fully[fully["beta"] == 1], epsilon).iloc[0]
speed = tables.read("effective_speed", paths.MEASURED / "effective_speed").query("task == 'mask'")
cost = speed.groupby("way")[["seconds", "extra_mb"]].median()
faster, smaller = cost.loc["global_unstructured"] / cost.loc["effective number"]
glue("scores", int(speed["entries"].iloc[0]), display=False)
for name, value in (("faster", faster), ("smaller", smaller)):
    glue(name, float(value), display=False)
glue("taylor_safe", float(taylor["within epsilon"]), display=False)
glue("taylor_worse", 1 - float(taylor["above magnitude"]), display=False)
glue("networks", len(fully[fully["beta"] == 1]), display=False)
for name, column, factor in (("loss", "lost", 100), ("sparsity", "sparsity", 1)):
    glue(f"network_{name}", factor * float(of_networks[column]), display=False)
style.table(by_criterion.drop(columns="models"), precision=3)

# %% [markdown]
# ## As a recommendation
#
# The rule costs nothing. Is it a good guess at how far a network can be pruned? Below the diagonal of
# {numref}`fig-rule` it is safe and leaves something unused; above it, it loses more than allowed. The table sets it
# beside always the same ratio, and beside the forecast of {doc}`surrogate`, without any measurement. *Calibrated* is
# the factor, or ratio, that prunes most and is safe on nine of ten curves of all other models; *unused* is the optimum
# less what is pruned, zero where that goes too far. Rules are calibrated, and forecasts trained, without the models of
# the tested architecture or parent, then without those of its task. *difference* is the unused sparsity less that of
# one calibrated ratio, with its 90 % interval over groups of relatives.

# %% mystnb={"figure": {"caption": "Sparsity under the rule, by magnitude, against the largest sparsity that loses at most one point of accuracy; a mark a curve of the campaign.", "name": "fig-rule"}, "image": {"alt": "Marks in a narrow band of heights, from three to five tenths, whatever the optimum, which goes from two to ten tenths: the rule does not follow it."}} tags=["hide-input"]
by_magnitude = campaign_rows[campaign_rows["criterion"] == "magnitude"]
glue("correlation", float(by_magnitude["sparsity"].corr(by_magnitude["optimum"])), display=False)
_ = effective_number_figures.draw_recommended(by_magnitude)

# %% tags=["hide-input"]
campaign = paths.MEASURED / "campaign"
curves, recommended, facts = (tables.read(name, campaign) for name in ("sweeps", "recommendations", "models"))
by_split = rules_of_thumb.evaluate_rules(campaign_rows, curves, recommended, facts, epsilon)
by_rule = by_split.loc["leave_one_architecture_out"]
rules = [*by_rule.index[:2], rules_of_thumb.ONE_RATIO, "forecast, lstm"]
for name, rule in zip(("rule", "same", "ratio", "forecast"), rules, strict=True):
    glue(f"{name}_safe", float(by_rule.loc[rule, "within epsilon"]), display=False)
    glue(f"{name}_unused", float(by_rule.loc[rule, "unused"]), display=False)
for name in ("difference", "low", "high"):
    glue(f"forecast_{name}", float(by_rule.loc["forecast, lstm", name]), display=False)
glue("epsilon", epsilon, display=False)
errors = tables.read("forecast_errors", campaign).query("inputs.str.startswith('prior alone')").groupby("inputs")["mae"]
for name, inputs in (("without", "as it is"), ("with", "with effective numbers")):
    glue(f"error_{name}", float(errors.mean()[f"prior alone, {inputs}"]), display=False)
style.table(by_split, precision=3)

# %% [markdown]
# ## Rows, heads, nodes and pixels
#
# A language model judged by perplexity, lower being better; nodes of a Kolmogorov-Arnold network {cite:p}`liu2024`; a
# photograph by its brightest entries in each colour channel, or in each patch of four by four pixels, in decibels. In
# {numref}`fig-photograph` every dark or coloured spot is a pixel of which a colour was pruned.
#
# That language model is small and was trained here. The second table is of a real one, Gemma 3 with 270 million
# parameters, on WikiText-2; every block begins with the start token. Its weights had been quantised to four bits, and the
# dense model, of perplexity {glue:text}`gemma_dense:.0f`, is the one with these weights, dequantised. A row of the table
# is a number of entries to prune, a column the way to choose them: *by Wanda or Taylor* is Wanda for weights and Taylor
# for heads. The paper prunes LLaMA by rows, and has no other criterion at the same sparsity.

# %% tags=["hide-input"]
others = at_one[~at_one["model"].isin([*campaign_rows["model"], *fully["model"]])]
gemma = tables.read("emp_language", paths.MEASURED / "effective_gemma").set_index(["granularity", "counted", "chosen"])
dense, times = float(gemma["dense"].iloc[0]), gemma["pruned"] / gemma["dense"]
for counted, chosen in (("magnitude", "magnitude"), ("magnitude", "wanda"), ("wanda", "wanda"), ("half", "wanda")):
    glue(f"gemma_{counted}_{chosen}", float(times["row", counted, chosen]), display=False)
for counted in ("magnitude", "wanda"):
    glue(f"gemma_{counted}", float(gemma.loc[("row", counted, counted), "sparsity"]), display=False)
llama = published[(published["table"] == "LLaMA rows") & (published["quantity"] == "perplexity_ratio")]
shorter = tables.read("pruned_structure", paths.MEASURED / "structure_gemma").sort_values("pruned").iloc[0]
glue("gemma_blocks", shorter["which"].replace("block ", "").replace(";", ","), display=False)
glue("gemma_shorter", float(shorter["pruned"] / shorter["dense"]), display=False)
for name, value in (("dense", dense), ("llama", float(llama["value"].max()))):
    glue(f"gemma_{name}", value, display=False)
display(style.table(comparison.overview(others), precision=2))
style.table(of_text.overview(gemma.reset_index()))

# %% mystnb={"figure": {"caption": "A photograph, what the rule keeps of it at beta 1, and as many entries at random.", "name": "fig-photograph"}, "image": {"alt": "Five pictures of a temple. By channel its dark parts turn black and the rest is untouched; by patch the sky takes a faint tint; at random both are full of noise."}} tags=["hide-input"]
_ = effective_number_figures.draw_images(images)

# %% [markdown]
# ## What this shows
#
# - On the paper's own networks its figures hold: at $\beta = 1$ our {glue:text}`networks:d` networks lose
#   {glue:text}`network_loss:.2f` points on average at {glue:text}`network_sparsity:.0%` sparsity.
# - By magnitude the rule stays within {glue:text}`epsilon:.0%` on {glue:text}`rule_safe:.0%` of the campaign's curves,
#   and leaves {glue:text}`rule_unused:.0%` of the weights in place that could be pruned. It prunes about as much of
#   every network, and its small variation has a correlation of {glue:text}`correlation:.2f` with the measured optimum.
#   Pruning always the same share is safe on {glue:text}`same_safe:.0%` and leaves {glue:text}`same_unused:.0%`.
# - With architecture and parent left out of both, a forecast without any measurement is safe on
#   {glue:text}`forecast_safe:.0%` and leaves {glue:text}`forecast_unused:.0%`, one ratio for all, calibrated on other
#   models, {glue:text}`ratio_safe:.0%` and {glue:text}`ratio_unused:.0%`. The difference in what is left is
#   {glue:text}`forecast_difference:.2f` ({glue:text}`forecast_low:.2f` to {glue:text}`forecast_high:.2f` over groups of
#   relatives). A forecast is useful for the curve; for a ratio, measure.
# - With gradients as scores it is unsafe: Taylor scores are within on {glue:text}`taylor_safe:.0%` of the classifiers,
#   and magnitude at the same sparsity is at least as good on {glue:text}`taylor_worse:.0%`.
# - It does not carry over to Gemma. The effective number of the magnitudes prunes {glue:text}`gemma_magnitude:.0%` of the
#   weights of each output and multiplies the perplexity by {glue:text}`gemma_magnitude_magnitude:.1f`, that of the Wanda
#   scores {glue:text}`gemma_wanda:.0%` and by {glue:text}`gemma_wanda_wanda:.1f`; for LLaMA with seven billion parameters
#   the paper prints {glue:text}`gemma_llama:.1f` at most. Which weights are pruned matters more than the number: as many as
#   by magnitude, chosen by Wanda, multiply it by {glue:text}`gemma_magnitude_wanda:.1f`, and one half, so chosen, by
#   {glue:text}`gemma_half_wanda:.1f`. Heads of the smallest norm are a worse choice than random ones (of one seed),
#   whatever the number. Of its blocks {glue:text}`gemma_blocks` can go at the lowest price,
#   {glue:text}`gemma_shorter:.1f` times the perplexity before any training ({doc}`structure`).
# - It needs no sort: on {glue:text}`scores:,d` scores, count, cut and mask take {glue:text}`faster:.0f` times less time
#   than torch's own global pruning and raise the peak of memory {glue:text}`smaller:.0f` times less.
# - As an input of the surrogate, the effective number of every layer does not help: the error of the LSTM on
#   architectures left out goes from {glue:text}`error_without:.4f` to {glue:text}`error_with:.4f`.

# %% [markdown]
# ## Exercises
#
# Where an exercise names `answer`, `prunecast.teaching.checks.check("effective_number", NUMBER, answer)` says whether it is right:
# {doc}`teaching`.
#
# **Exercise 1: Understand** (5 minutes). Scores that are all equal have an effective number of N, and the rule prunes nothing.
# Double every weight of one layer whose inputs are halved: what happens to the effective number in global scope, and to the
# function that the network computes?
#
# :::{dropdown} Solution
# The function stays the same, the effective number does not: magnitudes have become more unequal. So a number derived from
# magnitudes alone cannot be a property of the function, and the same network has many effective numbers. Equal scores do not
# mean that every weight is needed, only that the scores do not tell which one is not.
# :::
#
# **Exercise 2: Change** (10 minutes). The rule keeps N_eff = (Σ s)² / Σ s² of N scores. What share of the magnitudes does it
# keep if weights are drawn from a normal, a uniform (around zero) and a Laplace distribution? Predict the order, then draw a
# hundred thousand of each. `answer` is a dictionary from `"normal"`, `"uniform"` and `"laplace"` to the share N_eff / N.
#
# :::{dropdown} Solution
# ```python
# import numpy as np
# import torch
# from prunecast.pruning.effective_number import effective
#
# draws = np.random.default_rng(0)
# weights = {
#     "normal": draws.normal(size=100_000),
#     "uniform": draws.uniform(-1, 1, 100_000),
#     "laplace": draws.laplace(size=100_000),
# }
# answer = {}
# for name, values in weights.items():
#     found = effective(lambda values=values: [torch.tensor(np.abs(values))])
#     answer[name] = found.n_eff / found.entries
# ```
# The share is the squared mean of the magnitudes over their mean square: it depends on the shape of the distribution and on
# nothing that the network does. As trained layers are mostly bell-shaped, the rule prunes about as much of every network.
# :::
#
# **Exercise 3: Extend** (20 minutes). Write `keep(scores, beta)` without this package: a boolean array, true for the
# ⌊β N_eff⌋ highest scores, at least one and at most all; scores are not negative. `answer` is the function. Which property
# shows that the unit of the scores does not matter?
#
# :::{dropdown} Solution
# ```python
# import numpy as np
#
#
# def keep(scores, beta):
#     effective = scores.sum() ** 2 / (scores**2).sum()
#     count = int(np.clip(np.floor(beta * effective + 1e-9), 1, len(scores)))
#     stays = np.zeros(len(scores), dtype=bool)
#     stays[np.argsort(-scores, kind="stable")[:count]] = True
#     return stays
#
#
# answer = keep
# ```
# Multiplied by any positive number, scores keep the same entries: numerator and denominator both grow by its square.
# :::
