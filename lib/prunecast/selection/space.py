"""Configurations: the ways to prune one trained model, and the spaces of them that a search selects from."""

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

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

    In the forms masked and sparse_kernel a share `ratio` of the prunable weights is zero. In the form removed, heads,
    neurons and layers are removed, then a share `ratio` of the remaining prunable weights is set to zero. A schedule
    applies to the zeros; parts are removed at once, before any training.

    Attributes:
        form: What is run: the dense model, one with masks, one with parts removed, or one with sparse kernels.
        criterion: Pruning criterion by which weights are set to zero.
        scope: Whether weights are ranked over all layers or in each layer.
        ratio: Share of the prunable weights that is set to zero, 0 up to but excluding 1.
        importance: Score by which heads, neurons and layers are removed.
        heads: Share of the attention heads of every layer that is removed.
        neurons: Share of the neurons of every layer that is removed.
        layers: Number of layers that are removed.
        multiple: Number of which the neurons that stay in each layer are a multiple, such as 8 or 16.
        schedule: Schedule of `prunecast.pruning.schedules` under which the model is fine-tuned, or `none`.
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
    multiple: int = 1
    schedule: schedules.ScheduleName | Literal["none"] = "none"

    @model_validator(mode="after")
    def _consistent(self) -> "Configuration":
        if self.form == "dense" and (self.ratio or self.schedule != "none"):
            raise ValueError("a dense configuration is neither pruned nor fine-tuned")
        if self.form != "removed" and (self.multiple != 1 or not self.removal.is_nothing):
            raise ValueError(f"a {self.form} configuration removes no parts")
        if self.schedule != "none" and self.criterion != "magnitude":
            raise ValueError("schedules prune by magnitude")
        return self

    @property
    def name(self) -> str:
        """A name that no other configuration has, usable as the name of a file."""
        zeros = [self.criterion, self.scope, f"{self.ratio:g}"] if self.ratio else []
        parts = {"heads": self.heads, "neurons": self.neurons, "layers": self.layers}
        rounded = [] if self.multiple == 1 else [f"multiple-{self.multiple}"]
        removed = [self.importance, *(f"{part}-{share:g}" for part, share in parts.items()), *rounded]
        trained = [] if self.schedule == "none" else [self.schedule]
        return " ".join([self.form, *(removed if self.form == "removed" else []), *zeros, *trained])

    @property
    def removal(self) -> structured.Removal:
        """The heads, neurons and layers that are removed."""
        return structured.Removal(self.heads, self.neurons, self.layers, self.importance, self.multiple)

    @property
    def untrained(self) -> "Configuration":
        """The same configuration without fine-tuning."""
        return self.model_copy(update={"schedule": "none"})


class Space(BaseModel):
    """A search space: every combination of some values within each form, as pruned and fine-tuned.

    Attributes:
        ratios: Shares of the weights that are set to zero without fine-tuning.
        heads: Shares of the heads of every layer that are removed.
        neurons: Shares of the neurons of every layer that are removed.
        layers: Numbers of layers that are removed.
        multiple: Number of which the neurons that stay are a multiple wherever some are removed.
        trained_ratios: Shares of the weights that are set to zero gradually during fine-tuning.
    """

    model_config = ConfigDict(frozen=True)

    ratios: tuple[Share, ...]
    heads: tuple[Share, ...]
    neurons: tuple[Share, ...]
    layers: tuple[NonNegativeInt, ...]
    multiple: PositiveInt = 1
    trained_ratios: tuple[Share, ...] = ()

    def configurations(self) -> list[Configuration]:
        """All configurations of the space, the dense one first."""
        return [Configuration(form="dense"), *self._masked(), *self._removed()]

    def _masked(self) -> Iterator[Configuration]:
        for form, criterion, scope, ratio in product(WITH_ZEROS, CRITERIA, SCOPES, self.ratios):
            if form == "masked" or criterion == "magnitude":
                yield Configuration(form=form, criterion=criterion, scope=scope, ratio=ratio)
        for form, ratio in product(WITH_ZEROS, self.trained_ratios):
            yield Configuration(form=form, scope="layer", ratio=ratio, schedule="gradual")

    def _removed(self) -> Iterator[Configuration]:
        importances: tuple[structured.Importance, ...] = ("magnitude", "taylor")
        for importance, layers, heads, neurons in product(importances, self.layers, self.heads, self.neurons):
            yield self._without(importance, layers, heads, neurons)
        for layers, heads, neurons in product(self.layers, self.heads, self.neurons):
            yield self._without("taylor", layers, heads, neurons).model_copy(update={"schedule": "one_shot"})

    def _without(self, importance: structured.Importance, layers: int, heads: float, neurons: float) -> Configuration:
        return Configuration(
            form="removed",
            importance=importance,
            layers=layers,
            heads=heads,
            neurons=neurons,
            multiple=self.multiple if neurons else 1,
        )


def space_of(**parameters: Any) -> Space:
    """The search space with some parameters.

    Args:
        parameters: Values of the attributes of `Space`.

    Returns:
        The space.

    Raises:
        UserError: If a parameter is missing or outside its range.
    """
    return validated(Space, **parameters)
