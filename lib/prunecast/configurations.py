"""Configurations: all that can be done to one trained model, each built for real, measured once and kept on disk."""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator
from torch import Tensor, nn

from prunecast import cost, energy, evaluation, metrics, provenance, retraining, signals, zoo
from prunecast.cache import alone, file_hash, kept_folder, kept_row, key_of
from prunecast.collect import Trained
from prunecast.errors import made
from prunecast.progress import note, track
from prunecast.pruning import kernels, schedules, structured
from prunecast.pruning.criteria import CRITERIA, CriterionName, criterion_called
from prunecast.pruning.masks import SCOPES, Scope
from prunecast.pruning.prunable import prunable_weights
from prunecast.retraining import CALIBRATING, Budget, Retraining

Share = Annotated[float, Field(ge=0, lt=1)]
Form = Literal["dense", "masked", "removed", "sparse_kernel"]
WITH_ZEROS: tuple[Form, ...] = ("masked", "sparse_kernel")
AGREEING = 16  # unlabelled examples on which a configuration is compared with the dense model
BATCHES = (1, 32)  # batch sizes that are timed
COUNTS = ("parameters", "parameters_nonzero", "size_bytes", "flops_dense", "flops_effective")
WINDOW_S = 0.15  # of an estimate, whose clock is fine; a sensor gets the longer window of prunecast.energy


class Configuration(BaseModel):
    """One way to prune a model.

    A masked model, and one with sparse kernels, has the share `ratio` of its prunable weights set to zero by
    `criterion` and `scope`. From a removed one the shares `heads` and `neurons` of every layer and a number of `layers`
    are taken away by `importance`, and then the share `ratio` of what is left is set to zero. `schedule` says how it
    is trained on: `none`, or a schedule of `prunecast.pruning.schedules`; what is removed is gone at once.
    """

    model_config = ConfigDict(frozen=True)

    form: Form
    criterion: CriterionName = "magnitude"
    scope: Scope = "global"
    ratio: Share = 0.0
    importance: structured.Importance = "magnitude"
    heads: float = 0.0
    neurons: float = 0.0
    layers: int = 0
    schedule: schedules.ScheduleName | Literal["none"] = "none"

    @model_validator(mode="after")
    def _means_something(self) -> "Configuration":
        if self.form == "dense" and (self.ratio or self.schedule != "none"):
            raise ValueError("a dense configuration is neither pruned nor trained on")
        if self.form != "removed" and not self.removal.is_nothing:
            raise ValueError(f"a {self.form} configuration removes no parts")
        if self.schedule != "none" and self.criterion != "magnitude":
            raise ValueError("schedules prune by magnitude")
        return self

    @property
    def name(self) -> str:
        """A name that tells the configuration from all others, and can name a file."""
        zeros = [self.criterion, self.scope, f"{self.ratio:g}"] if self.ratio else []
        parts = {"heads": self.heads, "neurons": self.neurons, "layers": self.layers}
        gone = [self.importance, *(f"{part}-{share:g}" for part, share in parts.items())]
        trained = [] if self.schedule == "none" else [self.schedule]
        return " ".join([self.form, *(gone if self.form == "removed" else []), *zeros, *trained])

    @property
    def removal(self) -> structured.Removal:
        """The parts that are taken away."""
        return structured.Removal(self.heads, self.neurons, self.layers, self.importance)

    @property
    def untrained(self) -> "Configuration":
        """The same before it is trained on."""
        return self.model_copy(update={"schedule": "none"})


class Space(BaseModel):
    """Which configurations are searched: every combination of these values within a form, as pruned and trained on."""

    model_config = ConfigDict(frozen=True)

    ratios: tuple[Share, ...]
    shares: tuple[Share, ...]
    layers: tuple[NonNegativeInt, ...]
    trained_ratios: tuple[Share, ...] = ()

    def configurations(self) -> list[Configuration]:
        """All of them, the dense one first."""
        return [Configuration(form="dense"), *self._masked(), *self._removed()]

    def _masked(self) -> Iterator[Configuration]:
        for form, criterion, scope, ratio in product(WITH_ZEROS, CRITERIA, SCOPES, self.ratios):
            if form == "masked" or criterion == "magnitude":
                yield Configuration(form=form, criterion=criterion, scope=scope, ratio=ratio)
        for form, ratio in product(WITH_ZEROS, self.trained_ratios):
            yield Configuration(form=form, scope="layer", ratio=ratio, schedule="gradual")

    def _removed(self) -> Iterator[Configuration]:
        importances: tuple[structured.Importance, ...] = ("magnitude", "taylor")
        for importance, layers, heads, neurons in product(importances, self.layers, self.shares, self.shares):
            yield Configuration(form="removed", importance=importance, layers=layers, heads=heads, neurons=neurons)
        for layers, heads, neurons in product(self.layers, self.shares, self.shares):
            yield Configuration(
                form="removed", importance="taylor", layers=layers, heads=heads, neurons=neurons, schedule="one_shot"
            )


def space_of(**parameters: Any) -> Space:
    """The space with these parameters; raises UserError for one that cannot be."""
    return made(Space, **parameters)


def device_name(device: torch.device) -> str:
    """Name of the processor or GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else provenance.processor()


class Workshop:
    """Builds and measures configurations of one trained model; what is measured or trained is kept in its folder."""

    def __init__(self, subject: Trained, budget: Budget, meter: energy.Meter, rounds: int):
        self.subject, self.budget, self.meter, self.rounds = subject, budget, meter, rounds
        self.torch_device = next(subject.model.parameters()).device
        self.device = device_name(self.torch_device)
        self.retraining = Retraining(subject, budget)
        self.folder = subject.folder / "configurations"
        weights = file_hash(subject.folder / "model.safetensors")
        settings = (weights, subject.task.fingerprint, budget.model_dump_json(), CALIBRATING, subject.seed)
        self.training_key = key_of(retraining.STAGES, *settings)
        timing = (meter.source, rounds, self.device, torch.get_num_threads())
        self.key = key_of((*retraining.STAGES, "costs"), *settings, *timing)
        self.rows = torch.from_numpy(signals.sample(subject.examples, AGREEING, subject.seed))
        self.dense: Tensor = evaluation.logits(subject.model, subject.examples)
        self.inputs = {
            batch: {name: part.to(self.torch_device) for name, part in cost.inputs_of(subject.examples, batch).items()}
            for batch in BATCHES
        }

    def candidates(self, configurations: Sequence[Configuration]) -> pd.DataFrame:
        """Rows of the table `candidates`, resumed where an earlier run was killed."""
        rows = [self._kept(one) for one in track(configurations, f"configurations of {self.subject.name}")]
        return pd.DataFrame(rows).assign(
            model=self.subject.name,
            task=self.subject.task.name,
            eval_examples=len(self.subject.examples),
            seed=self.subject.seed,
        )

    def costs(self, configurations: Sequence[Configuration], rounds: int) -> pd.DataFrame:
        """Rows of the table `costs`: all configurations timed in turn in one run, each with its metrics."""
        forms = {how.name: self.build(how) for how in track(configurations, "building")}
        told = pd.DataFrame(
            {
                "configuration": name,
                "form": how.form,
                "sparsity": self._sparsity(how, forms[name]),
                **metrics.metrics(self._answers(forms[name]), self.subject.examples.labels),
            }
            for name, how in zip(forms, configurations, strict=True)
        )
        found = cost.costs(forms, self.inputs, rounds, self.meter, self.device)
        return (
            found.rename(columns={"form": "configuration"})
            .merge(told, on="configuration")
            .assign(model=self.subject.name, task=self.subject.task.name, threads=torch.get_num_threads())
        )

    def loss(self, how: Configuration) -> float:
        """Accuracy that a configuration loses, measured or remembered."""
        return self._kept(Configuration(form="dense"))["accuracy"] - self._kept(how)["accuracy"]

    def build(self, how: Configuration) -> nn.Module:
        """The model of a configuration, in evaluation mode."""
        if how.form == "dense":
            return self.subject.model
        if how.form == "sparse_kernel":
            masked = self.build(how.model_copy(update={"form": "masked"}))
            return kernels.sparse_kernel(masked, self.subject.task.classes)
        return self._pruned(how) if how.schedule == "none" else self._trained(how)

    def _pruned(self, how: Configuration) -> nn.Module:
        model = self.retraining.without(how.removal)
        if how.ratio:
            criterion = criterion_called(how.criterion, self.subject.seed)
            schedules.apply(prunable_weights(model, self.subject.task.classes), how.ratio, how.scope, criterion)
        return model

    def _trained(self, how: Configuration) -> nn.Module:
        folder = self.folder / how.name.replace(" ", "_")

        def fill(new: Path) -> None:
            own = Retraining(self.subject, self.budget, how.removal)
            own.targets = self.retraining.targets  # the dense model's answers, which are the same
            own.start = self.retraining.without(how.removal)
            if how.schedule == "none" or not how.ratio:
                model = own.recovered(self.subject.seed)
            else:
                schedule = schedules.Schedule(name=how.schedule, sparsity=how.ratio, scope=how.scope)
                model = own.scheduled(schedule, self.subject.seed)
            zoo.save(model, self.retraining.tokenizer, new)

        kept_folder(folder, self.training_key, fill)
        return structured.load_removed(folder).to(self.torch_device)

    def _kept(self, how: Configuration) -> dict[str, Any]:
        path = self.folder / f"{how.name.replace(' ', '_')}.json"
        with alone(self.subject.folder):
            return kept_row(path, self.key, lambda: self._measured(how))

    def _measured(self, how: Configuration) -> dict[str, Any]:
        """Metrics on all examples, and costs as ratios to those of the dense model in the same interleaved run."""
        model = self.build(how)
        answers = self._answers(model)
        before = answers if how.schedule == "none" else self._answers(self.build(how.untrained))
        beside = {"dense": self.subject.model, "this": model}
        window = WINDOW_S if self.meter.source == "estimated" else energy.WINDOW_S
        found = cost.costs(beside, self.inputs, self.rounds, self.meter, self.device, window_s=window)
        found = found.set_index(["form", "batch"])
        own: Any = found.xs(("this", BATCHES[0]))
        if how.form == "dense":  # beside itself it would differ by chance
            found.loc["this"] = found.loc["dense"].to_numpy()
        times, joules = found["latency_ms_median"], found["energy_j"]
        note(f"{self.subject.name}: {how.name} measured")
        return {
            "configuration": how.name,
            **how.model_dump(),
            **metrics.metrics(answers, self.subject.examples.labels),
            "agreement": metrics.agreement(before[self.rows], self.dense[self.rows]),
            "sparsity": self._sparsity(how, model),
            **{name: int(own[name]) for name in COUNTS},
            **{f"latency_ratio_{batch}": float(times["this", batch] / times["dense", batch]) for batch in BATCHES},
            "energy_ratio": float(joules["this", BATCHES[1]] / joules["dense", BATCHES[1]]),
            "energy_source": self.meter.source,
        }

    def _answers(self, model: nn.Module) -> Tensor:
        return evaluation.logits(model, self.subject.examples)

    def _sparsity(self, how: Configuration, model: nn.Module) -> float:
        """Share of the dense model's prunable weights that are zero or gone."""
        if how.form == "sparse_kernel":
            model = self.build(how.model_copy(update={"form": "masked"}))
        left = prunable_weights(model, self.subject.task.classes).values()
        total = sum(weight.numel() for weight in self.subject.weights.values())
        return 1 - sum(int(weight.count_nonzero()) for weight in left) / total
