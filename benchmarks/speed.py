"""How much faster are the two engines than the common way? Writes `data/measured/benchmarks/speed.csv`.

    python benchmarks/speed.py RUN MODEL [EVERY]

The model is one that a study has trained (runs/RUN/models/MODEL). At every EVERY-th point of 101 the common way
(torch.nn.utils.prune, then Trainer.evaluate with batches of 32 padded to the longest) and the exact engine take turns;
the adaptive engine follows. The times are ratios of one run; peak memory is measured in separate processes.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from prunecast import hardware, paths, tables
from prunecast.loading import storage
from prunecast.models import checkpoints, evaluation, training
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import SCOPES, Scope, pruned_counts, rank
from prunecast.sweeps import adaptive
from prunecast.sweeps.sweeper import Engine, Sweeper, grid
from prunecast.workflow import provenance
from torch.nn.utils import prune
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

POINTS = 101
MEGABYTE = 2**20


class CommonWay:
    """Masks by `torch.nn.utils.prune`, accuracy by `Trainer.evaluate`; examples are tokenised once.

    Attributes:
        layers: Layers whose weights are pruned, by the name of the weight.
        dataset: The validation examples.
        trainer: The trainer that evaluates the model.
    """

    def __init__(self, subject: checkpoints.TrainedModel, tokenizer: Any, folder: str):
        self.layers = {name: subject.model.get_submodule(name.removesuffix(".weight")) for name in subject.weights}
        self.dataset = training._Examples(subject.task.validation, tokenizer, subject.spec, None)
        settings: dict[str, Any] = {"use_cpu": True, "report_to": [], "disable_tqdm": True}
        self.trainer = Trainer(
            model=subject.model,
            args=TrainingArguments(
                output_dir=folder, per_device_eval_batch_size=32, dataloader_pin_memory=False, **settings
            ),
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=_accuracy,
        )

    def accuracy(self, scope: Scope, counts: Mapping[str, int]) -> float:
        """Prune, evaluate on all examples, and restore the weights.

        Args:
            scope: Whether weights are ranked over all layers or in each layer.
            counts: Number of weights to prune by group: `all`, or each layer.

        Returns:
            The accuracy, a fraction.
        """
        dense = {name: layer.weight.data for name, layer in self.layers.items()}
        if scope == "global":
            pairs = [(layer, "weight") for layer in self.layers.values()]
            prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=counts["all"])
        else:
            for name, layer in self.layers.items():
                prune.l1_unstructured(layer, "weight", amount=counts[name])  # type: ignore[no-untyped-call]
        accuracy = float(self.trainer.evaluate(self.dataset)["eval_accuracy"])
        for name, layer in self.layers.items():
            prune.remove(layer, "weight")  # type: ignore[no-untyped-call]
            layer.weight.data = dense[name]
        return accuracy


def _accuracy(evaluated: Any) -> dict[str, float]:
    return {"accuracy": (evaluated.predictions.argmax(-1) == evaluated.label_ids).mean()}


def timed(subject: checkpoints.TrainedModel, common: CommonWay, scope: Scope, every: int) -> list[dict[str, Any]]:
    """Time one scope: the baseline in turns with the exact sweep, then the adaptive sweep.

    Args:
        subject: The model.
        common: The baseline.
        scope: Whether weights are ranked over all layers or in each layer.
        every: Distance between the points at which the baseline is timed.

    Returns:
        Rows of the table `speed` without model, task, machine and memory; times in seconds for all points.
    """
    thresholds = grid(POINTS)
    spent: list[float] = []
    differences: list[float] = []
    ranking = rank(subject.weights, magnitude, scope)
    counts = [pruned_counts(ranking, "percentile", threshold) for threshold in thresholds]

    def in_turns(evaluate_at: adaptive.Evaluate) -> adaptive.Evaluate:
        def timed_evaluation(point: int, rows: adaptive.Rows) -> evaluation.Outcome:
            outcome = evaluate_at(point, rows)
            if point % every == 0:
                started = time.perf_counter()
                differences.append(abs(common.accuracy(scope, counts[point]) - outcome.accuracy))
                spent.append(time.perf_counter() - started)
                print(f"{scope} scope, point {point}: {spent[-1]:.2f} s the common way", file=sys.stderr)
            return outcome

        return timed_evaluation

    wrappers: dict[Engine, Callable[[adaptive.Evaluate], adaptive.Evaluate]] = {
        "exact": in_turns,
        "adaptive": lambda evaluate_at: evaluate_at,
    }
    seconds: dict[str, float] = {}
    curves = {}
    for engine, wrap in wrappers.items():
        sweeper = Sweeper(subject.model, subject.weights, subject.examples, "float32", 0)
        started = time.perf_counter()
        _, curves[engine] = sweeper.curve("magnitude", scope, thresholds, engine, wrap)
        seconds[engine] = time.perf_counter() - started
    seconds["exact"] -= sum(spent)
    seconds["baseline"] = float(np.mean(spent)) * POINTS
    difference = {
        "baseline": 0.0,
        "exact": max(differences),
        "adaptive": np.abs(curves["adaptive"].accuracy - curves["exact"].accuracy).max(),
    }
    return [
        {
            "scope": scope,
            "engine": engine,
            "timed": len(spent) if engine == "baseline" else POINTS,
            "seconds": round(seconds[engine], 1),
            "ratio": round(seconds["baseline"] / seconds[engine], 2),
            "largest_difference": difference[engine],
        }
        for engine in ("baseline", "exact", "adaptive")
    ]


def memory(run: str, model: str, scope: Scope, engine: Engine) -> dict[str, float]:
    """Measure the memory of a sweep of three points; to be called in a process of its own.

    Args:
        run: Name of the study that trained the model.
        model: Name of the model.
        scope: Whether weights are ranked over all layers or in each layer.
        engine: The engine of the sweep.

    Returns:
        `memory_mb`, the growth of the peak resident memory over the loaded model, and `allowed_mb`, one copy of the
        prunable weights and one batch; both in megabytes.
    """
    subject = checkpoints.trained_classifier(model, run, 0)
    loaded = _resident("VmRSS")
    evaluation.evaluate(subject.model, subject.examples)
    batch = _resident("VmHWM") - loaded
    copy = sum(weight.numel() * weight.element_size() for weight in subject.weights.values()) / MEGABYTE
    sweeper = Sweeper(subject.model, subject.weights, subject.examples, "float32", 0)
    sweeper.curve("magnitude", scope, grid(3), engine)
    return {"memory_mb": round(_resident("VmHWM") - loaded, 1), "allowed_mb": round(copy + batch, 1)}


def _resident(name: str) -> float:
    """Resident memory in MB, now (VmRSS) or at most since VmRSS was last read (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    megabytes = next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
    if name == "VmRSS":
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return megabytes


def main(run: str, model: str, every: str = "4") -> None:
    """Measure, and write the table with its provenance.

    Args:
        run: Name of the study that trained the model.
        model: Name of the model.
        every: Distance between the points at which the baseline is timed.
    """
    subject = checkpoints.trained_classifier(model, run, 0)
    _, tokenizer = storage.load(subject.folder)
    with TemporaryDirectory() as folder:
        common = CommonWay(subject, tokenizer, folder)
        rows = [row for scope in SCOPES for row in timed(subject, common, scope, int(every))]
    for row in (row for row in rows if row["engine"] != "baseline"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row |= pool.apply(memory, (run, model, row["scope"], row["engine"]))
    table = pd.DataFrame(rows).assign(
        model=model,
        task=subject.task.name,
        points=POINTS,
        threads=torch.get_num_threads(),
        processor=hardware.processor(),
    )
    target = paths.MEASURED / "benchmarks"
    tables.write("speed", table, target)
    command = f"python benchmarks/speed.py {run} {model} {every}"
    provenance.write(target, {"command": command, "models": {model: provenance.record(subject.folder)}})
    print(table.to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
