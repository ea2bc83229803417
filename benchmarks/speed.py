"""How much faster are the two engines than the common way? Writes `data/measured/benchmarks/speed.csv`.

    python benchmarks/speed.py RUN MODEL [EVERY]

The model is one that a study has trained (runs/RUN/models/MODEL). At every EVERY-th point of 101 the common way
(torch.nn.utils.prune, then Trainer.evaluate with batches of 32 padded to the longest) and the exact engine take turns;
the adaptive engine follows. The times are ratios of one run; peak memory is taken in processes of their own.
"""

import multiprocessing
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from prunecast import hardware, paths, tables
from prunecast.models import checkpoints, evaluation, training, zoo
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
    """Masks by `torch.nn.utils.prune`, accuracy by `Trainer.evaluate`; examples are tokenised once."""

    def __init__(self, subject: checkpoints.TrainedModel, tokenizer: Any, folder: str):
        modules = dict(subject.model.named_modules())
        self.layers = {name: modules[name.removesuffix(".weight")] for name in subject.weights}
        self.dataset = training._Examples(subject.task.validation, tokenizer, subject.spec)
        settings = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "dataloader_pin_memory": False}
        self.trainer = Trainer(
            model=subject.model,
            args=TrainingArguments(output_dir=folder, per_device_eval_batch_size=32, **settings),
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda said: {"accuracy": (said.predictions.argmax(-1) == said.label_ids).mean()},
        )

    def accuracy(self, scope: str, counts: dict[str, int]) -> float:
        """Accuracy with so many weights pruned by group; the weights are given back."""
        kept = {name: layer.weight.data for name, layer in self.layers.items()}
        if scope == "global":
            pairs = [(layer, "weight") for layer in self.layers.values()]
            prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=counts["all"])
        else:
            for name, layer in self.layers.items():
                prune.l1_unstructured(layer, "weight", amount=counts[name])
        accuracy = float(self.trainer.evaluate(self.dataset)["eval_accuracy"])
        for name, layer in self.layers.items():
            prune.remove(layer, "weight")
            layer.weight.data = kept[name]
        return accuracy


def timed(subject: checkpoints.TrainedModel, common: CommonWay, scope: Scope, every: int) -> list[dict[str, Any]]:
    """Rows of one scope: the baseline takes its turns inside the exact sweep, the adaptive sweep follows."""
    thresholds, spent, differences = grid(POINTS), [], []
    ranking = rank(subject.weights, magnitude, scope)
    counts = [pruned_counts(ranking, "percentile", threshold) for threshold in thresholds]

    def in_turns(evaluate: adaptive.Evaluate) -> adaptive.Evaluate:
        def timed_evaluation(point: int, rows: np.ndarray) -> evaluation.Outcome:
            found = evaluate(point, rows)
            if point % every == 0:
                started = time.perf_counter()
                differences.append(abs(common.accuracy(scope, counts[point]) - found.accuracy))
                spent.append(time.perf_counter() - started)
                print(f"{scope} scope, point {point}: {spent[-1]:.2f} s the common way", file=sys.stderr)
            return found

        return timed_evaluation

    seconds, curves = {}, {}
    for engine, wrap in (("exact", in_turns), ("adaptive", lambda evaluate: evaluate)):
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


def memory(run: str, model: str, scope: Scope, engine: Engine) -> dict[str, Any]:
    """Growth of resident memory over the loaded model, in MB: in a sweep of three points, and what is allowed."""
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
    found = next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
    if name == "VmRSS":
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return found


def main(run: str, model: str, every: str = "4") -> None:
    """Measure, and write the table beside its provenance."""
    subject = checkpoints.trained_classifier(model, run, 0)
    _, tokenizer = zoo.load(subject.folder)
    with TemporaryDirectory() as folder:
        common = CommonWay(subject, tokenizer, folder)
        rows = [row for scope in SCOPES for row in timed(subject, common, scope, int(every))]
    for row in (row for row in rows if row["engine"] != "baseline"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row |= pool.apply(memory, (run, model, row["scope"], row["engine"]))
    machine = {"threads": torch.get_num_threads(), "processor": hardware.processor()}
    table = pd.DataFrame(rows).assign(model=model, task=subject.task.name, points=POINTS, **machine)
    target = paths.MEASURED / "benchmarks"
    tables.write("speed", table, target)
    command = f"python benchmarks/speed.py {run} {model} {every}"
    provenance.write(target, {"command": command, "models": {model: provenance.record(subject.folder)}})
    print(table.to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
