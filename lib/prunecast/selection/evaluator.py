"""Evaluation of configurations of one trained model: each built for real, measured once and cached on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from prunecast.cache import alone, file_hash, kept_folder, kept_row, key_of
from prunecast.cost import energy, profile
from prunecast.hardware import device_name
from prunecast.loading import storage
from prunecast.models import evaluation
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.inputs import device_of
from prunecast.models.prunable import prunable_weights
from prunecast.progress import note, track
from prunecast.pruning import finetuning, schedules, sparse_linear, structured
from prunecast.pruning.criteria import criterion_called
from prunecast.pruning.finetuning import IMPORTANCE_EXAMPLES, Budget, Retraining
from prunecast.selection.space import COMPARED_EXAMPLES, Configuration
from prunecast.sweeps import proxies

BATCHES = (1, 32)  # batch sizes that are timed
COUNTS = ("parameters", "parameters_nonzero", "size_bytes", "flops_dense", "flops_effective")
WINDOW_S = 0.05  # of an estimate, whose clock is fine; a sensor gets the longer window of prunecast.cost.energy


class ConfigurationEvaluator:
    """Builds and measures configurations of one trained model; measurements and fine-tuned models are cached.

    Attributes:
        subject: The trained dense model; it is never changed.
        budget: Budget of the fine-tuning after pruning.
        meter: Meter of the energy.
        rounds: Number of calls timed at each batch size when a configuration is measured by itself.
        torch_device: Device that the dense model is on.
        device: Name of that device.
        retraining: Builds pruned models and fine-tunes them.
        folder: Where the cache is: a JSON file for each measurement, a folder for each fine-tuned model.
        training_key: Cache key of the fine-tuned models.
        key: Cache key of the measurements.
        compared_rows: Indices of the examples on which configurations are compared with the dense model.
        dense_logits: Logits of the dense model on all n examples (n, classes).
        inputs: Inputs that are timed, by batch size.
    """

    def __init__(self, subject: TrainedModel, budget: Budget, meter: energy.Meter, rounds: int):
        self.subject, self.budget, self.meter, self.rounds = subject, budget, meter, rounds
        self.torch_device = device_of(subject.model)
        self.device = device_name(self.torch_device)
        self.retraining = Retraining(subject, budget)
        self.folder = subject.folder / "configurations"
        weights = file_hash(subject.folder / "model.safetensors")
        settings = (weights, subject.task.fingerprint, budget.model_dump_json(), IMPORTANCE_EXAMPLES, subject.seed)
        self.training_key = key_of(finetuning.STAGES, *settings)
        timing = (meter.source, rounds, self.device, torch.get_num_threads())
        self.key = key_of((*finetuning.STAGES, "costs"), *settings, *timing)
        self.compared_rows = torch.from_numpy(proxies.sample(subject.examples, COMPARED_EXAMPLES, subject.seed))
        self.dense_logits: Tensor = evaluation.logits(subject.model, subject.examples)
        self.inputs = {batch: profile.inputs_of(subject.examples, batch, self.torch_device) for batch in BATCHES}

    @property
    def window_s(self) -> float:
        """Length of a window of energy in seconds."""
        return WINDOW_S if self.meter.source == "estimated" else energy.WINDOW_S

    def candidates(self, configurations: Sequence[Configuration]) -> pd.DataFrame:
        """Measure configurations one by one; a run that was killed resumes where it stopped.

        Args:
            configurations: The configurations.

        Returns:
            Rows of the table `candidates`, in the same order: metrics on all examples, and costs as ratios to those of
            the dense model in the same run.
        """
        rows = [self._row(one) for one in track(configurations, f"configurations of {self.subject.name}")]
        return pd.DataFrame(rows).assign(
            multiple=[one.multiple for one in configurations],
            model=self.subject.name,
            task=self.subject.task.name,
            eval_examples=len(self.subject.examples),
            seed=self.subject.seed,
        )

    def costs(self, configurations: Sequence[Configuration], rounds: int) -> pd.DataFrame:
        """Time configurations in turn, all in one run.

        Args:
            configurations: The configurations.
            rounds: Number of calls timed at each batch size.

        Returns:
            Rows of the table `costs`, one for each configuration and batch size: latencies in milliseconds, energy in
            joules of 1,000 inferences, and the metrics on all examples.
        """
        models = {how.name: self.build(how) for how in track(configurations, "building")}
        metrics = pd.DataFrame(
            {
                "configuration": name,
                "form": how.form,
                "sparsity": self._sparsity(how, models[name]),
                **evaluation.metrics(self._logits(models[name]), self.subject.examples.labels),
            }
            for name, how in zip(models, configurations, strict=True)
        )
        costs = profile.costs(models, self.inputs, rounds, self.meter, self.device, window_s=self.window_s)
        return (
            costs.rename(columns={"form": "configuration"})
            .merge(metrics, on="configuration")
            .assign(model=self.subject.name, task=self.subject.task.name, threads=torch.get_num_threads())
        )

    def loss(self, how: Configuration) -> float:
        """Accuracy that a configuration loses against the dense model, as a fraction, measured or from the cache."""
        return float(self._row(Configuration(form="dense"))["accuracy"] - self._row(how)["accuracy"])

    def build(self, how: Configuration) -> nn.Module:
        """The model of a configuration, in evaluation mode; the subject's own model for the dense configuration."""
        if how.form == "dense":
            return self.subject.model
        if how.form == "sparse_kernel":
            masked = self.build(how.model_copy(update={"form": "masked"}))
            return sparse_linear.sparse_kernel(masked, self.subject.task.classes)
        return self._pruned(how) if how.schedule == "none" else self._fine_tuned(how)

    def _pruned(self, how: Configuration) -> nn.Module:
        model = self.retraining.without(how.removal)
        if how.ratio:
            criterion = criterion_called(how.criterion, self.subject.seed)
            schedules.apply(prunable_weights(model, self.subject.task.classes), how.ratio, how.scope, criterion)
        return model

    def _fine_tuned(self, how: Configuration) -> nn.Module:
        folder = self.folder / how.name.replace(" ", "_")

        def fill(new: Path) -> None:
            own = Retraining(self.subject, self.budget, how.removal)
            own.targets = self.retraining.targets  # the dense model's probabilities, which are the same
            own.start = self.retraining.without(how.removal)
            if how.schedule == "none" or not how.ratio:
                model = own.recovered(self.subject.seed)
            else:
                schedule = schedules.Schedule(name=how.schedule, sparsity=how.ratio, scope=how.scope)
                model = own.scheduled(schedule, self.subject.seed)
            storage.save(model, self.retraining.tokenizer, new)

        kept_folder(folder, self.training_key, fill)
        return structured.load_removed(folder).to(self.torch_device)

    def _row(self, how: Configuration) -> dict[str, Any]:
        path = self.folder / f"{how.name.replace(' ', '_')}.json"
        with alone(self.subject.folder):
            return kept_row(path, self.key, lambda: self._measure(how))

    def _measure(self, how: Configuration) -> dict[str, Any]:
        """Metrics on all examples, and costs as ratios to those of the dense model in the same interleaved run."""
        model = self.build(how)
        logits = self._logits(model)
        untrained_logits = logits if how.schedule == "none" else self._logits(self.build(how.untrained))
        forms = {"dense": self.subject.model, "this": model}
        costs = profile.costs(forms, self.inputs, self.rounds, self.meter, self.device, window_s=self.window_s)
        costs = costs.set_index(["form", "batch"])
        own: Any = costs.xs(("this", BATCHES[0]))
        if how.form == "dense":  # compared with itself it would differ by chance
            costs.loc["this"] = costs.loc["dense"].to_numpy()
        times, joules = costs["latency_ms_median"], costs["energy_j"]
        note(f"{self.subject.name}: {how.name} measured")
        return {
            "configuration": how.name,
            **how.model_dump(exclude={"multiple"}),
            **evaluation.metrics(logits, self.subject.examples.labels),
            "agreement": evaluation.agreement(
                untrained_logits[self.compared_rows], self.dense_logits[self.compared_rows]
            ),
            "sparsity": self._sparsity(how, model),
            **{name: int(own[name]) for name in COUNTS},
            **{f"latency_ratio_{batch}": float(times["this", batch] / times["dense", batch]) for batch in BATCHES},
            "energy_ratio": float(joules["this", BATCHES[1]] / joules["dense", BATCHES[1]]),
            "energy_source": self.meter.source,
        }

    def _logits(self, model: nn.Module) -> Tensor:
        return evaluation.logits(model, self.subject.examples)

    def _sparsity(self, how: Configuration, model: nn.Module) -> float:
        """Share of the dense model's prunable weights that are zero or removed."""
        if how.form == "sparse_kernel":
            model = self.build(how.model_copy(update={"form": "masked"}))
        left = prunable_weights(model, self.subject.task.classes).values()
        total = sum(weight.numel() for weight in self.subject.weights.values())
        return 1 - sum(int(weight.count_nonzero()) for weight in left) / total
