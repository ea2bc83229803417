"""What a forecast costs: training the surrogate, forecasting a thousand configurations, features included.

python benchmarks/forecast.py CHECKPOINT TASK    prints seconds and ratios, all of one run
"""

import sys
import time

import numpy as np
from prunecast import paths, tables
from prunecast.forecasting import predict, pretrained
from prunecast.models.evaluation import evaluate
from prunecast.surrogates import benchmark
from prunecast.surrogates.features import curves_on
from prunecast.sweeps import curve_metrics


def main(checkpoint: str, task: str) -> None:
    """Time each step once, but a forecast of 101 configurations ten times."""
    folder = paths.MEASURED / pretrained.STUDY
    models = tables.read("models", folder)
    models = models[curve_metrics.learned(models)].reset_index(drop=True)
    known = curves_on("percentile", tables.read("sweeps", folder), models, tables.read("signals", folder))
    started = time.monotonic()
    trained = benchmark.unfitted(pretrained.NAME, 0).fit(known)
    print(f"training on {len(models)} models, {len(known.names)} curves: {time.monotonic() - started:.1f} s")

    blind = known.knowing(np.zeros(known.accuracy.shape, bool)).at(known.models == known.models[0])
    started = time.monotonic()
    for _ in range(10):
        trained.fitted.predict(blind)  # type: ignore[attr-defined]
    configuration = (time.monotonic() - started) / 10 / blind.accuracy.size

    subject, _ = predict.subject_of(checkpoint, task)
    started = time.monotonic()
    dense = evaluate(subject.model, subject.examples).accuracy
    evaluation = time.monotonic() - started
    print(f"one configuration: measured {evaluation:.2f} s, forecast {configuration * 1e6:.0f} µs, "
          f"{evaluation / configuration:,.0f} times cheaper")  # fmt: skip

    surrogate = pretrained.ready()
    size = sum(weight.numel() for weight in subject.model.parameters())
    found = predict.predict(subject, surrogate, 0.01, dense)
    print(f"a forecast for {size:,} parameters, both scopes, signals included: {found.seconds:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
