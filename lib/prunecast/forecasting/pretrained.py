"""The pretrained surrogate, shipped under `data/pretrained`: trained on the campaign, saved, loaded and applied."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from prunecast import paths, tables
from prunecast.cache import VERSIONS, file_hash
from prunecast.errors import UserError
from prunecast.forecasting import recommendation
from prunecast.surrogates import conformal
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.features import AGREEMENT, FREE, CurveSet, Forecast, curves_on, input_names
from prunecast.surrogates.lstm import LSTMSurrogate
from prunecast.surrogates.splits import leave_one_group_out
from prunecast.sweeps.curve_metrics import learned, relatives

NAME = "lstm_agreement"
STUDIES = ("campaign", "campaign_base")
SEED = 0
GROUPS = (*FREE, AGREEMENT)
INPUTS = input_names(GROUPS)
WEIGHTS, SCHEMA = "surrogate.safetensors", "surrogate.json"
TRAINED_ON = ("models", "sweeps", "signals")  # tables of these studies
RANGES = ("prunable_parameters", "layers", "classes")
OUT_OF_RANGE_FACTOR = 2.0  # intervals and safety margins outside the training range are this much wider
EPSILONS = (0.005, 0.01, 0.02, 0.05, 0.1)
RETRAIN = "retrain it with `prunecast pretrain`"


@dataclass(frozen=True)
class PretrainedSurrogate:
    """A trained surrogate with its calibration and the range of its training models.

    Attributes:
        surrogate: The curve posterior around the trained LSTM.
        ranges: Lowest and highest value, over the training models, of each of the facts `RANGES`.
        interval_factor: By which conformal calibration multiplies the intervals, see `conformal.calibrated`.
        safety_margins: By epsilon, the log-odds by which a predicted safe sparsity is lowered.
        models: Names of the training models.
        tables: sha256 of each of the tables that it was trained on, by study and file.
        version: Version of the stage `surrogate` that trained it.
    """

    surrogate: CurvePosterior
    ranges: dict[str, tuple[float, float]]
    interval_factor: float
    safety_margins: dict[float, float]
    models: tuple[str, ...]
    tables: dict[str, str]
    version: int

    def out_of_range(self, curves: CurveSet) -> list[str]:
        """A sentence for each fact of the first model of `curves` that lies outside the training range."""
        facts = curves.facts.iloc[0]
        return [
            f"{name.replace('_', ' ')} is {facts[name]:,}, outside {low:,.0f} to {high:,.0f} of the training models: "
            "the interval is wider for it"
            for name, (low, high) in self.ranges.items()
            if not low <= facts[name] <= high
        ]

    def outdated(self, folder: Path = paths.MEASURED) -> list[str]:
        """A sentence on what has changed since the training, if anything has.

        Args:
            folder: Folder with the tables of the `STUDIES` as they are now.
        """
        if self.version != VERSIONS["surrogate"]:
            now = VERSIONS["surrogate"]
            return [f"version {self.version} of its code trained the surrogate, and the version is {now}: {RETRAIN}"]
        changed = [name for name, digest in table_hashes(folder).items() if digest != self.tables.get(name)]
        return [f"{changed[0]} has changed since the surrogate was trained: {RETRAIN}"] if changed else []

    def forecast(self, curves: CurveSet) -> Forecast:
        """Forecast with calibrated 90 % intervals, wider outside the training range; the dense accuracy is known."""
        found = self.surrogate.predict(curves)
        return conformal.calibrated(found, self.interval_factor * self._factor(curves))

    def recommended(self, curves: CurveSet, epsilon: float) -> np.ndarray:
        """Sparsity (C,) at which nine of ten models lose at most `epsilon`, by the errors on models left out."""
        predicted = self.surrogate.predict(curves).predicted
        safe = recommendation.safe(curves.sparsity, predicted, epsilon)
        known = sorted(self.safety_margins)
        margin = float(np.interp(epsilon, known, [self.safety_margins[each] for each in known]))
        return recommendation.lowered(safe, max(margin, 0) * self._factor(curves))

    def _factor(self, curves: CurveSet) -> float:
        return OUT_OF_RANGE_FACTOR if self.out_of_range(curves) else 1.0


def table_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of each of the tables `TRAINED_ON` of the `STUDIES` in a folder, by study and file."""
    files = [f"{study}/{tables.file_name(name)}" for study in STUDIES for name in TRAINED_ON]
    return {file: file_hash(folder / file) for file in files}


def training_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables `TRAINED_ON` of the `STUDIES` in a folder by name, with the models alone that learned their task."""
    read = {name: tables.read_all(name, [folder / study for study in STUDIES]) for name in TRAINED_ON}
    models = read["models"]
    return read | {"models": models[learned(models)].reset_index(drop=True)}


def pretrain(folder: Path, seed: int = SEED) -> PretrainedSurrogate:
    """Train on all models of the `STUDIES` in `folder` that learned their task, and calibrate by leaving groups out.

    Groups of relatives (by architecture or pretrained parent) are left out in turn; their errors widen the intervals
    and lower the recommendations.
    """
    from prunecast.surrogates import benchmark  # here, because it imports scikit-learn, which no forecast needs

    models, sweeps, signals = training_tables(folder).values()
    curves = curves_on("percentile", sweeps, models, signals)
    groups = relatives(curves.facts)
    left_out = leave_one_group_out(curves, groups, partial(benchmark.unfitted, NAME, seed))
    margins = {}
    for epsilon in EPSILONS:
        predicted, optimum = (
            recommendation.safe(curves.sparsity, accuracy, epsilon)
            for accuracy in (left_out.predicted, curves.accuracy)
        )
        margins[epsilon] = recommendation.safety_margin(predicted, optimum, groups)
    fitted = benchmark.unfitted(NAME, seed).fit(curves)
    assert isinstance(fitted, CurvePosterior)
    return PretrainedSurrogate(
        surrogate=fitted,
        ranges={name: (float(models[name].min()), float(models[name].max())) for name in RANGES},
        interval_factor=conformal.quantile(conformal.ratios(left_out, curves), groups),
        safety_margins=margins,
        models=tuple(models["model"]),
        tables=table_hashes(folder),
        version=VERSIONS["surrogate"],
    )


def save(trained: PretrainedSurrogate, folder: Path) -> None:
    """Write weights and training curves as safetensors, beside them inputs, calibration and provenance as JSON."""
    posterior = trained.surrogate
    assert isinstance(posterior.fitted, LSTMSurrogate)
    shapes = torch.from_numpy(posterior.shapes).float().contiguous()
    tensors = posterior.fitted.state() | {"shapes": shapes}
    schema = {
        "surrogate": NAME,
        "inputs": INPUTS,
        "seed": posterior.seed,
        "ranges": trained.ranges,
        "interval_factor": trained.interval_factor,
        "safety_margins": trained.safety_margins,
        "models": trained.models,
        "tables": trained.tables,
        "version": trained.version,
    }
    tables.write_atomically(folder / WEIGHTS, lambda part: save_file(tensors, part))
    text = json.dumps(schema, indent=1) + "\n"
    tables.write_atomically(folder / SCHEMA, lambda part: part.write_text(text, encoding="utf-8"))


def load(folder: Path = paths.PRETRAINED) -> PretrainedSurrogate:
    """Read what `save` wrote; by default the surrogate that is shipped.

    Raises:
        UserError: There is none in `folder`, or it was written by another version for other inputs or intervals.
    """
    if not (folder / SCHEMA).exists():
        raise UserError(f"there is no pretrained surrogate in {folder}: {RETRAIN}")
    schema: dict[str, Any] = json.loads((folder / SCHEMA).read_text(encoding="utf-8"))
    if schema["inputs"] != INPUTS or "interval_factor" not in schema:
        raise UserError(f"the pretrained surrogate in {folder} is that of another version of Prunecast: {RETRAIN}")
    state = load_file(folder / WEIGHTS)
    posterior = CurvePosterior(lambda: LSTMSurrogate(schema["seed"], GROUPS), schema["seed"])
    posterior.shapes = state.pop("shapes").double().numpy()
    posterior.fitted = LSTMSurrogate(schema["seed"], GROUPS).restore(state)
    return PretrainedSurrogate(
        surrogate=posterior,
        ranges={name: (low, high) for name, (low, high) in schema["ranges"].items()},
        interval_factor=schema["interval_factor"],
        safety_margins={float(epsilon): margin for epsilon, margin in schema["safety_margins"].items()},
        models=tuple(schema["models"]),
        tables=schema["tables"],
        version=schema["version"],
    )
