"""The command line: run a page, measure one model of a study, keep a study's tables, forecast a checkpoint."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from prunecast import __version__, paths
from prunecast.errors import UserError
from prunecast.workflow import pages, studies

COLLECTING = "collect_sweeps"


def main(arguments: list[str] | None = None) -> int:
    """Run `prunecast`; a mistake of the user's is one sentence on standard error and exit status 2.

    Args:
        arguments: Those of the command line by default.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads that spin halve the speed of work beside them
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler that stops a job is a Ctrl-C
    try:
        options.act(options)
    except UserError as error:
        print(f"prunecast: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="prunecast", description=__doc__)
    parser.add_argument("--version", action="version", version=f"prunecast {__version__}")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    run = actions.add_parser("run", help="execute one page, with its defaults, a study's or your own parameters")
    run.add_argument("page", metavar="PAGE", help=f"one of {', '.join(pages.pages())}")
    run.add_argument(
        "-p", "--parameter", metavar="NAME=VALUE", action="append", default=[], help="override one parameter"
    )
    run.add_argument("--study", metavar="FILE", type=Path, help="take the parameters from a study file")
    run.set_defaults(act=_run)

    collect = actions.add_parser("collect", help="train and sweep one model of a study: the work of one cluster job")
    collect.add_argument("model", metavar="MODEL", help="a name in data/models.yml that the study lists")
    collect.add_argument("--study", metavar="FILE", type=Path, required=True, help="the study file")
    collect.set_defaults(act=_collect)

    predict = actions.add_parser("predict", help="forecast the pruning curve of a checkpoint, and recommend a ratio")
    predict.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder with safetensors, or an id of the hub")
    predict.add_argument("--task", required=True, metavar="TASK", help="the task it was trained for")
    predict.add_argument("--epsilon", type=float, default=0.01, help="accuracy you would give up (default: 0.01)")
    predict.add_argument("--figure", type=Path, default=Path("forecast.svg"), help="where the curve is drawn to")
    predict.set_defaults(act=_predict)

    keep = actions.add_parser("keep", help="copy a finished study's tables to data/measured, with their provenance")
    keep.add_argument("study", metavar="FILE", type=Path, help="the study file")
    keep.set_defaults(act=_keep)

    contracts = actions.add_parser("tables", help="write data/README.md, which explains the tables, from the contracts")
    contracts.set_defaults(act=_tables)

    pretrain = actions.add_parser("pretrain", help="train the surrogate of `predict` anew on the measured campaign")
    pretrain.set_defaults(act=_pretrain)
    return parser


def _run(options: argparse.Namespace) -> None:
    study = studies.read_study(options.study) if options.study else None
    given = dict(studies.parse_parameter(options.page, text) for text in options.parameter)
    values = (study.pages.get(options.page, {}) if study else {}) | given
    studies.check_parameters(options.page, values)
    from prunecast.workflow.runs import run_page  # after the checks, so that a typing error is answered at once

    started = time.monotonic()
    notebook = run_page(options.page, values, study.study if study else "page")
    print(f"{notebook}: {time.monotonic() - started:.0f} s")


def _collect(options: argparse.Namespace) -> None:
    study = studies.read_study(options.study)
    values = studies.parameters(study, COLLECTING)
    if options.model not in values.pop("models"):
        raise UserError(f"study {study.study} has no model {options.model!r} on its page {COLLECTING}")
    from prunecast.sweeps import curve_metrics
    from prunecast.sweeps.collect import collect, plan_of

    started = time.monotonic()
    found = collect([options.model], study.study, plan_of(**values)).models
    dense, majority = found[["dense_accuracy", "majority_accuracy"]].iloc[0]
    learned = curve_metrics.learned(found).all()
    warning = "" if learned else "; it is kept out of training sets: not clearly above the majority class"
    took = time.monotonic() - started
    print(f"{options.model}: accuracy {dense:.3f}, majority class {majority:.3f}{warning}; {took:.0f} s")


def _keep(options: argparse.Namespace) -> None:
    from prunecast.workflow.provenance import keep

    print(keep(studies.read_study(options.study), options.study).relative_to(paths.ROOT))


def _tables(_: argparse.Namespace) -> None:
    from prunecast import tables
    from prunecast.workflow import contracts

    path = paths.DATA / "README.md"
    tables.write_atomically(path, lambda part: part.write_text(contracts.described(), encoding="utf-8"))
    print(path.relative_to(paths.ROOT))


def _pretrain(_: argparse.Namespace) -> None:
    from prunecast.forecasting import pretrained

    started = time.monotonic()
    pretrained.save(pretrained.pretrain(paths.MEASURED / pretrained.STUDY), paths.PRETRAINED)
    print(f"{paths.PRETRAINED.relative_to(paths.ROOT)}: {time.monotonic() - started:.0f} s")


def _predict(options: argparse.Namespace) -> None:
    from prunecast.sweeps import curve_metrics

    curve_metrics.check_epsilon(options.epsilon)  # before anything is loaded
    from prunecast.forecasting import pretrained
    from prunecast.forecasting.predict import predict
    from prunecast.forecasting.subjects import subject_of
    from prunecast.models.evaluation import evaluate
    from prunecast.plotting import curves

    subject, _ = subject_of(options.checkpoint, options.task)
    dense = evaluate(subject.model, subject.examples).accuracy
    found = predict(subject, pretrained.load(), options.epsilon, dense)
    shown = found.curve[found.curve["threshold"] % 1 == 0]
    columns = ["scope", "sparsity", "predicted", "lower", "upper"]
    print(shown[columns].to_string(index=False, float_format="{:.3f}".format))
    print(f"dense accuracy {dense:.3f}; forecast in {found.seconds:.1f} s")
    for warning in found.warnings:
        print(f"warning: {warning}")
    for scope, ratio in found.recommended.items():
        print(f"recommended in {scope} scope: prune {ratio:.0%}, then measure; epsilon is {options.epsilon:g}")
    curves.draw_prediction(found.curve, found.recommended, dense).savefig(options.figure)
    print(options.figure)


if __name__ == "__main__":
    sys.exit(main())
