"""Configurations: all that can be done to one trained model, each built for real, measured once and kept on disk."""

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from prunecast.errors import validated
from prunecast.pruning import schedules, structured
from prunecast.pruning.criteria import CRITERIA, CriterionName
from prunecast.pruning.masks import SCOPES, Scope

Share = Annotated[float, Field(ge=0, lt=1)]
Form = Literal["dense", "masked", "removed", "sparse_kernel"]
WITH_ZEROS: tuple[Form, ...] = ("masked", "sparse_kernel")
COMPARED_EXAMPLES = 16  # unlabelled examples on which a configuration is compared with the dense model


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
    return validated(Space, **parameters)
