"""A surrogate that was trained once: saved as safetensors with the schema of its inputs, and loaded to forecast."""

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from prunecast import paths, tables
from prunecast.errors import UserError
from prunecast.forecasting import recommendation
from prunecast.surrogates import benchmark, conformal
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.features import AGREEMENT, FREE, CurveSet, Forecast, curves_on, input_names
from prunecast.surrogates.lstm import LSTMSurrogate
from prunecast.sweeps.curve_metrics import learned

NAME = "lstm_agreement"
STUDY = "campaign"
GROUPS = (*FREE, AGREEMENT)
INPUTS = input_names(GROUPS)
WEIGHTS, SCHEMA = "surrogate.safetensors", "surrogate.json"
RANGES = ("prunable_parameters", "layers", "classes")
OUT_OF_RANGE_FACTOR = 2.0  # an interval outside the training range is this much wider
EPSILONS = (0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class PretrainedSurrogate:
    """A trained surrogate, what widens its intervals, how cautious it must be, and the range it was trained in.

    `ranges` gives lowest and highest value of facts of the training models; `margin` is an accuracy; `cautions` are
    log-odds of sparsity by epsilon.
    """

    surrogate: CurvePosterior
    ranges: dict[str, tuple[float, float]]
    margin: float
    cautions: dict[float, float]
    models: tuple[str, ...]

    def doubts(self, curves: CurveSet) -> list[str]:
        """A sentence for each fact of the model that lies outside the training range."""
        facts = curves.facts.iloc[0]
        return [
            f"{name.replace('_', ' ')} is {facts[name]:,}, outside the {low:,.0f} to {high:,.0f} of the training models"
            for name, (low, high) in self.ranges.items()
            if not low <= facts[name] <= high
        ]

    def forecast(self, curves: CurveSet) -> Forecast:
        """Forecast with calibrated 90 % intervals, wider where there are doubts."""
        found = self.surrogate.predict(curves)
        found.predicted[:, 0] = curves.accuracy[:, 0]  # the unpruned model is known
        doubt = OUT_OF_RANGE_FACTOR if self.doubts(curves) else 1.0
        below = (found.predicted - found.lower + max(self.margin, 0)) * doubt
        above = (found.upper - found.predicted + max(self.margin, 0)) * doubt
        return Forecast(found.predicted, np.clip(found.predicted - below, 0, 1), np.clip(found.predicted + above, 0, 1))

    def recommended(self, curves: CurveSet, epsilon: float) -> np.ndarray:
        """Sparsity (C,) at which nine of ten models lose no more than epsilon, by the errors of earlier forecasts."""
        predicted = self.surrogate.predict(curves).predicted
        safe = recommendation.safe(curves.sparsity, predicted, epsilon)
        caution = float(np.interp(epsilon, sorted(self.cautions), [self.cautions[e] for e in sorted(self.cautions)]))
        return recommendation.lowered(safe, max(caution, 0) * (OUT_OF_RANGE_FACTOR if self.doubts(curves) else 1.0))


def pretrain(folder: Path, seed: int) -> PretrainedSurrogate:
    """Train on all learned models of a study's tables in `folder`, and calibrate by leaving architectures out."""
    models = tables.read("models", folder)
    models = models[learned(models)].reset_index(drop=True)
    curves = curves_on("percentile", tables.read("sweeps", folder), models, tables.read("signals", folder))
    left_out = benchmark.leave_one_group_out(curves, partial(benchmark.unfitted, NAME, seed))
    outside = np.maximum(left_out.lower - curves.accuracy, curves.accuracy - left_out.upper)
    optima = {epsilon: recommendation.safe(curves.sparsity, curves.accuracy, epsilon) for epsilon in EPSILONS}
    believed = {epsilon: recommendation.safe(curves.sparsity, left_out.predicted, epsilon) for epsilon in EPSILONS}
    points = outside.shape[1]
    return PretrainedSurrogate(
        benchmark.unfitted(NAME, seed).fit(curves),  # type: ignore[arg-type]
        {name: (float(models[name].min()), float(models[name].max())) for name in RANGES},
        conformal.interval_margin(outside.ravel(), np.repeat(curves.models, points)),
        {
            epsilon: recommendation.safety_margin(believed[epsilon], optima[epsilon], curves.models)
            for epsilon in EPSILONS
        },
        tuple(models["model"]),
    )


def ready(study: str = STUDY, seed: int = 0) -> PretrainedSurrogate:
    """The surrogate trained on a study's measured tables: loaded if it is there and they are the same, else trained."""
    source = paths.MEASURED / study
    digest = hashlib.sha256(json.dumps(INPUTS).encode())
    for table in ("models", "sweeps", "signals"):
        digest.update((source / tables.file_name(table)).read_bytes())
    folder = paths.run("surrogate") / f"{study}-{seed}-{digest.hexdigest()[:12]}"
    if not (folder / SCHEMA).exists():
        save(pretrain(source, seed), folder)
    return load(folder)


def save(frozen: PretrainedSurrogate, folder: Path) -> None:
    """Write weights and training curves as safetensors, beside them the schema of the inputs and the calibration."""
    folder.mkdir(parents=True, exist_ok=True)
    warped = frozen.surrogate
    assert isinstance(warped.fitted, LSTMSurrogate)
    save_file(warped.fitted.state() | {"shapes": torch.from_numpy(warped.shapes).contiguous()}, folder / WEIGHTS)
    told = {
        "surrogate": NAME,
        "inputs": INPUTS,
        "seed": warped.seed,
        "ranges": frozen.ranges,
        "margin": frozen.margin,
        "cautions": frozen.cautions,
        "models": frozen.models,
    }
    (folder / SCHEMA).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> PretrainedSurrogate:
    """Read back what `save` wrote; raises UserError where it is not there, or reads other inputs than this version."""
    if not (folder / SCHEMA).exists():
        raise UserError(f"there is no trained surrogate in {folder}")
    told = json.loads((folder / SCHEMA).read_text(encoding="utf-8"))
    if told["inputs"] != INPUTS:
        raise UserError(f"the surrogate in {folder} reads other inputs than this version; train it again")
    state = load_file(folder / WEIGHTS)
    warped = CurvePosterior(lambda: LSTMSurrogate(told["seed"], GROUPS), told["seed"])
    warped.shapes = state.pop("shapes").numpy()
    warped.fitted = LSTMSurrogate(told["seed"], GROUPS).restore(state)
    return PretrainedSurrogate(
        warped,
        {name: tuple(ends) for name, ends in told["ranges"].items()},
        told["margin"],
        {float(epsilon): caution for epsilon, caution in told["cautions"].items()},
        tuple(told["models"]),
    )
