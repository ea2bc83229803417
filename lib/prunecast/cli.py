"""The command line: run a page, measure one model of a study, keep a study's tables, judge checkpoints."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from prunecast import paths
from prunecast.errors import UserError, check_ratios
from prunecast.loading import slices
from prunecast.options import parser
from prunecast.workflow import studies, values

COLLECTING = "collect_sweeps"
MEASURED_SCOPE = "layer"  # where none is named
OF_DATA = {"text": "text", "pair": "", "label": "label", "split": ""}  # options that need --data, with their defaults
MISTAKE, INTERRUPTED, UNREAD = 2, 130, 141  # exit statuses


def main(arguments: list[str] | None = None) -> int:
    """Run `prunecast`.

    A mistake of the user's is one sentence on standard error and exit status 2; an interrupt is one, and 130.

    Args:
        arguments: Those of the command line by default.

    Returns:
        The exit status.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads that spin halve the speed of work beside them
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler that stops a job is a Ctrl-C
    try:
        options = parser().parse_args(arguments)
        ACTIONS[options.act](options)
    except UserError as error:
        print(f"prunecast: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt as interrupt:
        print(f"prunecast: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads the output has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to be written goes nowhere
        return UNREAD
    return 0


def _run(options: argparse.Namespace) -> None:
    study = studies.read_study(options.study) if options.study else None
    given = studies.parse_parameters(options.page, options.parameter)
    parameters = (study.pages.get(options.page, {}) if study else {}) | given
    studies.check_parameters(options.page, parameters)
    values.resolved(parameters)
    from prunecast.workflow.runs import run_page  # after the checks, so that a typing error is answered at once

    started = time.monotonic()
    notebook = run_page(options.page, parameters, study.study if study else "page")
    print(f"{notebook}: {time.monotonic() - started:.0f} s")


def _collect(options: argparse.Namespace) -> None:
    study = studies.read_study(options.study)
    parameters = studies.parameters(study, COLLECTING)
    if options.model not in parameters.pop("models"):
        raise UserError(f"study {study.study} has no model {options.model!r} on its page {COLLECTING}")
    from prunecast.sweeps import curve_metrics
    from prunecast.sweeps.collect import collect, plan_of

    started = time.monotonic()
    found = collect([options.model], study.study, plan_of(**parameters)).models
    dense, majority = found[["dense_accuracy", "majority_accuracy"]].iloc[0]
    learned = curve_metrics.learned(found).all()
    warning = "" if learned else "; it is kept out of training sets: not clearly above the majority class"
    took = time.monotonic() - started
    print(f"{options.model}: accuracy {dense:.3f}, majority class {majority:.3f}{warning}; {took:.0f} s")


def _export(options: argparse.Namespace) -> None:
    from prunecast.selection.onnx_export import export

    done = export(options.folder, options.file)
    size, apart = f"{done.bytes / 1e6:.1f} MB", f"{done.difference:.1g}"
    print(f"{options.file}: {size}; its logits differ from the model's by at most {apart}")


def _keep(options: argparse.Namespace) -> None:
    from prunecast.workflow.provenance import keep

    print(keep(studies.read_study(options.study), options.study).relative_to(paths.ROOT))


def _tables(_: argparse.Namespace) -> None:
    from prunecast import tables
    from prunecast.workflow import contracts, pages

    for file, described in {"data/README.md": contracts.described, "book/parameters.md": pages.described}.items():
        text = described().encode()
        tables.write_atomically(paths.ROOT / file, partial(Path.write_bytes, data=text))
        print(file)


def _class(options: argparse.Namespace) -> None:
    from prunecast.teaching.copies import write_copies

    written = write_copies(options.folder)
    print(f"{options.folder}: {len(written)} notebooks, {len(written) // 2} for students, as many for instructors")


def _pretrain(_: argparse.Namespace) -> None:
    from prunecast.forecasting import pretrained

    started = time.monotonic()
    pretrained.save(pretrained.pretrain(paths.MEASURED), paths.PRETRAINED)
    print(f"{paths.PRETRAINED.relative_to(paths.ROOT)}: {time.monotonic() - started:.0f} s")


def _task_of(options: argparse.Namespace) -> Any:
    """Check the options of `_add_evaluation`, make paths absolute, and load the task, the examples, or the text."""
    columns = {name: getattr(options, name) for name in OF_DATA if getattr(options, name) is not None}
    if columns and not options.data:
        raise UserError(f"--{next(iter(columns))} is about the file of --data, which is not given")
    given = {name: value for name, value in vars(options).items() if value is not None}
    values.check_values(given)
    for name, value in values.resolved(given).items():
        setattr(options, name, value)
    from prunecast.datasets import corpora, tasks, user_files  # no torch, so that mistakes are answered at once

    if options.data:
        return user_files.read_data(Path(options.data), **OF_DATA | columns)
    return tasks.load_task(options.task) if options.task else corpora.running_text(options.corpus)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("device", "examples", "max_length", "seed")}


def _predict(options: argparse.Namespace) -> None:
    if options.figure:
        values.check_figure(options.figure)
    task = _task_of(options)
    from prunecast.forecasting import predict, pretrained, report, subjects
    from prunecast.pruning.masks import SCOPES

    subject = subjects.open_subject(options.checkpoint, task, recalibrate=options.recalibrate, **_settings(options))
    if options.save:
        predict.check_saving(subject.model, subject.processor, Path(options.save))
    show = _silent if options.json else _print_lines
    show(f"note: {note}" for note in subject.notes)
    scopes = (options.scope,) if options.scope else SCOPES
    prediction = predict.predict(subject, pretrained.load(), options.epsilon, scopes)
    show(report.lines(subject, prediction, options.epsilon))
    wanted = options.measure or options.save or options.budget is not None or options.confidence is not None
    measured = _measured(options, subject, prediction) if wanted else None
    if measured:
        show(report.lines_of(measured, options.epsilon))
    if options.json:
        print(report.document(subject, prediction, options.epsilon, measured))
    if options.figure or not options.json:
        show([report.draw(options.figure, prediction)])


def _diagnose(options: argparse.Namespace) -> None:
    task = _task_of(options)
    from prunecast import tables
    from prunecast.forecasting import diagnosis

    rows = tables.read("regimes", paths.MEASURED / "regimes")
    found = diagnosis.diagnose(options.checkpoint_a, options.checkpoint_b, task, rows, **_settings(options))
    _print_lines([diagnosis.document(found)] if options.json else diagnosis.lines(found))


def _layers(options: argparse.Namespace) -> None:
    data = _task_of(options)
    from prunecast.forecasting import layers, layers_report

    opener = layers.open_language_model if options.corpus else layers.open_classifier
    subject = opener(options.checkpoint, data, **_settings(options))
    show = _silent if options.json else _print_lines
    show(f"note: {note}" for note in subject.notes)
    found = layers.find_layers(subject, options.epsilon)
    show(layers_report.lines(subject, found))
    saved = options.save if found.chosen.blocks else None
    if saved:
        layers.save(subject, found, Path(saved))
    if options.json:
        print(layers_report.document(subject, found, saved))
    elif options.save:
        print(f"saved to {saved}" if saved else "nothing was saved")


def _sensitivity(options: argparse.Namespace) -> None:
    check_ratios(options.ratios)
    if options.figure:
        values.check_figure(options.figure)
    task = _task_of(options)
    from prunecast.forecasting.subjects import open_subject
    from prunecast.selection import sensitivity, sensitivity_report

    subject = open_subject(options.checkpoint, task, recalibrate=options.recalibrate, **_settings(options))
    show = _silent if options.json else _print_lines
    notes = [*subject.notes, *filter(None, [subject.another_order])]
    show(f"note: {note}" for note in notes)
    found = sensitivity.measure(subject.model, subject.answers, options.ratios, whole=not options.forecast_only)
    show(sensitivity_report.lines(subject.model, found, options.epsilon))
    if options.json:
        print(sensitivity_report.document(subject.model, found, options.epsilon, notes))
    if options.figure:
        show([sensitivity_report.draw(options.figure, found, options.epsilon)])


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _silent(_: Iterable[str]) -> None: ...


def _measured(options: argparse.Namespace, subject: Any, prediction: Any) -> Any:
    """The measured largest safe ratio; the pruned model is saved if there is a folder for it."""
    from prunecast.forecasting import predict, report

    scope: Any = options.scope or MEASURED_SCOPE
    started = time.monotonic()
    expected = prediction.recommended[scope]
    limits = options.budget, options.confidence
    ratio, safe = predict.largest_safe(subject.model, scope, options.epsilon, expected, subject.dense, *limits)
    seconds = time.monotonic() - started
    if options.save:
        predict.save_pruned(subject.model, subject.processor, scope, ratio, Path(options.save))
    return report.measured(scope, ratio, safe, len(subject.model.examples), options.epsilon, seconds, options.save)


ACTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": _run,
    "collect": _collect,
    "predict": _predict,
    "diagnose": _diagnose,
    "sensitivity": _sensitivity,
    "layers": _layers,
    "export": _export,
    "keep": _keep,
    "tables": _tables,
    "class": _class,
    "pretrain": _pretrain,
    "assemble": lambda options: slices.assemble(options.folder, options.target),
}


if __name__ == "__main__":
    sys.exit(main())
