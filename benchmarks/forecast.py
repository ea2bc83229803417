"""What does a forecast cost? Times the training of the surrogate and forecasts with and without their inputs.

    python benchmarks/forecast.py CHECKPOINT TASK

It prints seconds and ratios, all of one run.
"""

import sys
import time
from typing import Any

import numpy as np
from prunecast import paths, tables
from prunecast.datasets.tasks import load_task
from prunecast.forecasting import predict, pretrained, subjects
from prunecast.surrogates import benchmark
from prunecast.surrogates.features import curves_on
from prunecast.sweeps import curve_metrics


def main(checkpoint: str, task: str) -> None:
    """Time each step once, except a forecast of 101 sparsities, which is repeated ten times.

    Args:
        checkpoint: A folder with safetensors, or an id of the hub.
        task: Name of the task that the checkpoint was trained on.
    """
    folder = paths.MEASURED / pretrained.STUDY
    models = tables.read("models", folder)
    models = models[curve_metrics.learned(models)].reset_index(drop=True)
    measured = curves_on("percentile", tables.read("sweeps", folder), models, tables.read("signals", folder))
    started = time.monotonic()
    trained: Any = benchmark.unfitted(pretrained.NAME, 0).fit(measured)
    print(f"training on {len(models)} models, {len(measured.names)} curves: {time.monotonic() - started:.1f} s")

    hidden = np.zeros(measured.accuracy.shape, bool)
    unmeasured = measured.knowing(hidden).at(measured.models == measured.models[0])
    started = time.monotonic()
    for _ in range(10):
        trained.fitted.predict(unmeasured)
    forecast = (time.monotonic() - started) / 10 / unmeasured.accuracy.size

    subject = subjects.open_subject(checkpoint, load_task(task))
    started = time.monotonic()
    _ = subject.dense_accuracy
    evaluation = time.monotonic() - started
    print(
        f"one sparsity: measured {evaluation:.2f} s, forecast {forecast * 1e6:.0f} µs, "
        f"{evaluation / forecast:,.0f} times cheaper"
    )

    surrogate = pretrained.load()
    size = sum(weight.numel() for weight in subject.model.model.parameters())
    prediction = predict.predict(subject, surrogate, 0.01)
    print(f"a forecast for {size:,} parameters, both scopes, zero-cost proxies included: {prediction.seconds:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
