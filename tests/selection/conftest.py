"""One evaluator with measured configurations, shared by the tests of this folder."""

import gc
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from prunecast.cost import energy
from prunecast.models.checkpoints import TrainedModel
from prunecast.pruning.finetuning import Budget
from prunecast.selection import evaluator
from prunecast.selection.evaluator import ConfigurationEvaluator
from prunecast.selection.space import Configuration, Space

SPACE = Space(ratios=(0.9,), heads=(0.5,), neurons=(0.5,), layers=(0,), trained_ratios=(0.9,))
HALF = Configuration(form="removed", heads=0.5, neurons=0.5)
PARTS = [HALF.model_copy(update={part: 0.0}) for part in ("heads", "neurons")]
BOTH = HALF.model_copy(update={"ratio": 0.6})  # of the remaining half weights are set to zero as well


@pytest.fixture(scope="session", autouse=True)
def _imported_objects_are_not_collected() -> None:
    """Training and removal collect garbage; without this each collection visits all objects of the libraries."""
    gc.freeze()


@pytest.fixture(scope="session")
def budget() -> Budget:
    """A budget of a few training steps."""
    return Budget(epochs=1, examples=96, batch_size=16, learning_rate=2e-3, distilled=0.5, bfloat16=False)


def _copied(subject: TrainedModel, folder: Path) -> TrainedModel:
    """The same model and whatever was measured of it, in a folder of its own inside `folder`."""
    return replace(subject, folder=Path(shutil.copytree(subject.folder, folder / subject.name)))


@pytest.fixture(scope="session")
def configurations() -> list[Configuration]:
    """Configurations of every form, with and without fine-tuning."""
    return [*SPACE.configurations(), *PARTS, BOTH, BOTH.model_copy(update={"schedule": "gradual"})]


@pytest.fixture(scope="session")
def measured_evaluator(
    subject: TrainedModel,
    budget: Budget,
    configurations: list[Configuration],
    tmp_path_factory: pytest.TempPathFactory,
) -> ConfigurationEvaluator:
    """An evaluator that has measured the configurations, with an estimate of energy; no test may measure more."""
    folder = tmp_path_factory.mktemp("configurations")
    meter = energy.meter(torch.device("cpu"), 4.0, powercap=folder)
    measuring = ConfigurationEvaluator(_copied(subject, folder), budget, meter, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "WINDOW_S", 0.0)
        measuring.candidates(configurations)
    return measuring


@pytest.fixture(scope="session")
def candidates(measured_evaluator: ConfigurationEvaluator, configurations: list[Configuration]) -> pd.DataFrame:
    """The rows of the measured configurations."""
    rows: pd.DataFrame = measured_evaluator.candidates(configurations)
    return rows


@pytest.fixture(scope="module")
def own_evaluator(
    measured_evaluator: ConfigurationEvaluator, candidates: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> ConfigurationEvaluator:
    """An evaluator with a copy of the cache that holds all candidates; a module may measure more with it."""
    original = measured_evaluator
    assert len(list(original.folder.glob("*.json"))) == len(candidates)
    copied = _copied(original.subject, tmp_path_factory.mktemp("selection"))
    return ConfigurationEvaluator(copied, original.budget, original.meter, original.rounds)
