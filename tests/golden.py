"""The numbers that each stage gives for a tiny model: what `tests/golden.json` holds, beside the stage's version.

python tests/golden.py    measure them and write the file: after a stage's version was raised
"""

import gzip
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from curves_to_learn import curves
from prunecast.cache import VERSIONS
from prunecast.cost import energy, flops
from prunecast.datasets import docstrings, tasks
from prunecast.datasets.tasks import Split, Task
from prunecast.edge_experiments import edge_removal
from prunecast.effective_pruning import classifiers
from prunecast.forecasting import pretrained
from prunecast.landscape import grid as landscape_grid
from prunecast.landscape.optimisation import Recipe
from prunecast.landscape.temperature import Grid
from prunecast.models import checkpoints, language, zoo
from prunecast.models.evaluation import evaluate
from prunecast.pruning.finetuning import Budget, Retraining
from prunecast.pruning.schedules import Schedule
from prunecast.pruning.structured import Removal
from prunecast.selection.evaluator import ConfigurationEvaluator
from prunecast.selection.space import Configuration
from prunecast.surrogates import benchmark
from prunecast.sweeps import adaptive, proxies, safe_search
from prunecast.sweeps.sweeper import Sweeper
from tiny import TINY, task_frames, write_task

FILE = Path(__file__).with_suffix(".json")
SHORT = {"tiny": TINY["tiny"].model_copy(update={"epochs": 4.0})}
TALES = language.LanguageSpec(
    corpus="tales", layers=1, hidden=16, heads=2, context=16, vocabulary=300, epochs=1, batch_size=8
)
REGIMES = Grid(
    kind="epochs", temperatures=(1, 2), densities=(0.2, 0.6), dense_seeds=1, retrain_seeds=2, depth=8, width=2, side=8,
    train_examples=48, compared_examples=40, eval_examples=30,
    dense=Recipe(2, batch_size=16), retraining=Recipe(1, batch_size=16), together=8,
)  # fmt: skip
THRESHOLDS = (0.0, 2.5, 5.0, 7.5, 10.0)
BUDGET = Budget(epochs=1, examples=96, batch_size=16, learning_rate=2e-3, distilled=0.5, bfloat16=False)
COUNTED = ("parameters", "parameters_nonzero", "size_bytes", "flops_dense", "flops_effective", "sparsity", "accuracy")

DOCUMENTED = '''"""A module with three sentences to be found. This one is not the first."""

class Documented:
    """A class whose sentence has enough words.

    More about it.
    """

    def short(self):
        """Too short."""

    def named(self):
        """A sentence that names numpy is left out here."""

def function():
    """A function that says what it does! And more."""
'''

Numbers = dict[str, float]


def measure() -> dict[str, Numbers]:
    """The numbers of every stage, from an empty folder, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(zoo, "registry", return_value=SHORT):
            return _measured_in(Path(folder))
    finally:
        torch.set_num_threads(threads)
        tasks.load_task.cache_clear()


def _measured_in(folder: Path) -> dict[str, Numbers]:
    write_task(folder / "tasks" / "colours", task_frames())
    (folder / "tasks" / "tales").mkdir()
    for split, lines in (("train", 300), ("validation", 60)):
        text = "".join(
            f"the {'red' if line % 3 else 'blue'} boat sails by number {line % 7} .\n" for line in range(lines)
        )
        (folder / "tasks" / "tales" / f"{split}.txt.gz").write_bytes(gzip.compress(text.encode()))
    with mock.patch.dict(os.environ, PRUNECAST_DATA=str(folder / "tasks"), PRUNECAST_RUNS=str(folder / "runs")):
        tasks.load_task.cache_clear()
        subject = checkpoints.trained_classifier("tiny", "golden", 0)
        stages: dict[str, Callable[[], Numbers]] = {
            "docstrings": _of_docstrings,
            "training": lambda: _of_model(subject),
            "language_training": _of_language,
            "evaluation": lambda: _of_evaluation(subject),
            "adaptive": _of_adaptive,
            "proxies": lambda: _of_proxies(subject),
            "finetuning": lambda: _of_finetuning(subject),
            "costs": lambda: _of_costs(subject),
            "effective_number": lambda: _of_effective_number(subject),
            "regimes": lambda: _of_regimes(folder),
            "edges": lambda: _of_edges(folder),
            "surrogate": _of_surrogate,
        }
        return {stage: {name: float(value) for name, value in stages[stage]().items()} for stage in VERSIONS}


def _of_docstrings() -> Numbers:
    """Of a file made for it, because the sentences of the packages change with their versions."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.py"
        path.write_text(DOCUMENTED)
        found = list(docstrings.first_sentences(path))
    return {"sentences": len(found), "characters": sum(map(len, found))}


def _of_model(subject: checkpoints.TrainedModel) -> Numbers:
    outcome = evaluate(subject.model, subject.examples)
    weights = sum(float(weight.detach().abs().sum()) for weight in subject.model.parameters())
    return {"accuracy": outcome.accuracy, "loss": outcome.mean_loss, "sum_of_magnitudes": weights}


def _of_language() -> Numbers:
    with mock.patch.object(language, "registry", return_value={"small": TALES}):
        trained = language.trained_language_model("small", "golden", 0)
    return {"blocks": len(trained.blocks), "perplexity": language.perplexity(trained.model, trained.blocks)}


def _of_evaluation(subject: checkpoints.TrainedModel) -> Numbers:
    found = {}
    sweeper = Sweeper(subject.model, subject.weights, subject.examples, "float32", 0)
    for criterion, scope in (("magnitude", "global"), ("magnitude", "layer"), ("random", "global")):
        points, _ = sweeper.curve(criterion, scope, THRESHOLDS, "exact")
        for column in ("pruned", "accuracy", "loss"):
            found[f"{criterion}_{scope}_{column}"] = points[column].sum()
    return found


def _of_adaptive() -> Numbers:
    generator = np.random.default_rng(0)
    falls = generator.uniform(20, 90, 400)  # an example is classified correctly up to its own point

    def outcome(point: int, rows: np.ndarray) -> Any:
        margin = torch.from_numpy((falls[rows] - point) / 10)
        return adaptive.Outcome(margin > 0, torch.nn.functional.softplus(-margin), margin.float())

    curve = adaptive.adaptive(outcome, 101, len(falls))
    safe = safe_search.search_safe(outcome, 100, len(falls), 0.01, 50)
    return {
        "accuracy": curve.accuracy.sum(),
        "loss": curve.loss.sum(),
        "evaluated": curve.evaluated.sum(),
        "audited": curve.audited,
        "last_safe": safe.point,
        "evaluated_for_it": safe.evaluated,
    }


def _of_proxies(subject: checkpoints.TrainedModel) -> Numbers:
    measured = proxies.measure(subject, 11, 40)
    signals = measured["signals"].select_dtypes("number").mean()
    return {str(name): value for name, value in signals.items()} | {"changes": len(measured["probes"])}


def _of_finetuning(subject: checkpoints.TrainedModel) -> Numbers:
    work = Retraining(subject, BUDGET, Removal(0.0, 0.5, 0, "magnitude"))
    model = work.scheduled(Schedule(name="iterative", sparsity=0.5, scope="global"), 0)
    weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    return {"entries": weights.numel(), "nonzero": int(weights.count_nonzero()), "mean": float(weights.abs().mean())}


def _of_costs(subject: checkpoints.TrainedModel) -> Numbers:
    evaluator = ConfigurationEvaluator(subject, BUDGET, energy.meter(torch.device("cpu"), 4.0), 1)
    row: dict[str, Any] = evaluator.candidates([Configuration(form="masked", ratio=0.5)]).iloc[0].to_dict()
    batch = {"input_ids": subject.examples.inputs[:2]}
    return {name: row[name] for name in COUNTED} | {"flops_of_two": flops.flops(subject.model, batch)[0]}


def _of_effective_number(subject: checkpoints.TrainedModel) -> Numbers:
    rows = classifiers.of_classifier(subject, ["magnitude", "wanda"], "global", [1.0], 0.02)
    columns = ("n_eff", "kept", "pruned", "random_at_same_sparsity", "optimum", "preserved")
    return {f"{row['criterion']}_{name}": row[name] for row in rows.to_dict("records") for name in columns}


def _of_regimes(folder: Path) -> Numbers:
    rows = landscape_grid.measure(_made_images(), REGIMES, "golden", folder / "regimes")
    columns = ["noise_scale", "dense_error", "test_error", "train_error", "cka", "cka_unbiased"]
    means = rows[columns].mean()
    return {name: means[name] for name in columns} | {"one_plus_lmc": 1 + rows["lmc"].mean()}


def _of_edges(folder: Path) -> Numbers:
    networks, protocols = edge_removal.settings_of([2], [1, 1, 1], [60, 2, 30, 15], [30, 10, 10], [0.7], [1])
    rows = edge_removal.measure(_made_images(), networks, protocols, folder / "edges")
    scored = rows[rows["surrogate"].isin(["gate_integrated_gradients", "leave_one_out", "ridge", "live_edges", "flow"])]
    means = scored.groupby(["protocol", "surrogate"])["pearson"].mean()
    return {f"{protocol}_{name}": value for (protocol, name), value in means.items()}


def _made_images() -> Task:
    """A task of images of 8 by 8 pixels, whose brightness tells the class."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 90)
    pixels = ((60 * labels)[:, None, None, None] + draw.integers(0, 60, (90, 8, 8, 1))).astype(np.uint8)
    halves = Split(pixels[:60], labels[:60]), Split(pixels[60:], labels[60:])
    return Task("made", "image", "file", ("a", "b", "c"), *halves)


def _of_surrogate() -> Numbers:
    learned = curves()
    forecast = (
        benchmark.unfitted(pretrained.NAME, 0)
        .fit(learned)
        .predict(learned.knowing(np.isin(np.arange(len(learned.thresholds)), (10,))[None]))
    )
    return {name: getattr(forecast, name).mean() for name in ("predicted", "lower", "upper")}


def write() -> None:
    """Write what the stages give now, beside their versions."""
    content = {stage: {"version": VERSIONS[stage], "numbers": numbers} for stage, numbers in measure().items()}
    FILE.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
