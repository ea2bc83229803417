"""The options of the command line."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from prunecast import __version__
from prunecast.errors import UserError
from prunecast.workflow import pages

DESCRIPTION = "Run a page, measure one model of a study, keep a study's tables, judge checkpoints."


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are sentences like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The parser of all actions; the option `act` is the name of the chosen one."""
    parser = _Parser(prog="prunecast", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"prunecast {__version__}")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    run = actions.add_parser("run", help="execute one page, with its defaults, a study's or your own parameters")
    run.add_argument("page", metavar="PAGE", help=f"one of {', '.join(pages.pages())}")
    run.add_argument(
        "-p", "--parameter", metavar="NAME=VALUE", action="append", default=[], help="override one parameter"
    )
    run.add_argument("--study", metavar="FILE", type=Path, help="take the parameters from a study file")
    run.set_defaults(act="run")

    collect = actions.add_parser("collect", help="train and sweep one model of a study: the work of one cluster job")
    collect.add_argument("model", metavar="MODEL", help="a name in data/models.yml that the study lists")
    collect.add_argument("--study", metavar="FILE", type=Path, required=True, help="the study file")
    collect.set_defaults(act="collect")

    predict = actions.add_parser("predict", help="forecast the pruning curve of a checkpoint, and recommend a ratio")
    predict.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder with safetensors, or an id of the hub")
    _add_evaluation(predict)
    predict.add_argument("--epsilon", type=float, default=0.01, help="accuracy you would give up (default: 0.01)")
    predict.add_argument(
        "--scope",
        metavar="SCOPE",
        help="rank weights over all layers (global) or within each (layer); by default both are forecast, and layer is "
        "measured",
    )
    predict.add_argument(
        "--recalibrate", type=int, default=0, metavar="IMAGES", help="unlabelled images for batch norms (default: 0)"
    )
    predict.add_argument("--measure", action="store_true", help="measure the largest safe ratio from the forecast one")
    predict.add_argument(
        "--budget",
        type=float,
        metavar="EVALUATIONS",
        help="search for it with at most so many evaluations of all examples, such as 1 or 0.5",
    )
    predict.add_argument(
        "--confidence",
        type=float,
        metavar="PROBABILITY",
        help="measure the largest ratio whose loss in the population is within epsilon with this probability",
    )
    predict.add_argument("--save", metavar="FOLDER", help="measure it, and save the pruned model to this new folder")
    predict.add_argument(
        "--figure", metavar="FILE", type=Path, help="where the curve is drawn (default: forecast.svg, without --json)"
    )
    predict.set_defaults(act="predict")

    diagnose = actions.add_parser("diagnose", help="find the regime of two networks that were pruned from one")
    for name in ("checkpoint_a", "checkpoint_b"):
        diagnose.add_argument(name, metavar=name.upper(), help="a folder with safetensors, or an id of the hub")
    _add_evaluation(diagnose)
    diagnose.set_defaults(act="diagnose")

    sensitive = actions.add_parser(
        "sensitivity", help="find how far each part of a checkpoint can be pruned, when it is pruned alone"
    )
    sensitive.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder with safetensors, or an id of the hub")
    _add_evaluation(sensitive)
    sensitive.add_argument("--epsilon", type=float, default=0.01, help="accuracy you would give up (default: 0.01)")
    sensitive.add_argument(
        "--ratios",
        type=float,
        nargs="+",
        metavar="RATIO",
        default=[0.3, 0.5, 0.7, 0.9],
        help="shares of the weights of a part that are pruned (default: 0.3 0.5 0.7 0.9)",
    )
    sensitive.add_argument(
        "--recalibrate", type=int, default=0, metavar="IMAGES", help="unlabelled images for batch norms (default: 0)"
    )
    sensitive.add_argument("--forecast-only", action="store_true", help="forecast on unlabelled examples, measure none")
    sensitive.add_argument("--figure", metavar="FILE", type=Path, help="where the largest ratios are drawn")
    sensitive.set_defaults(act="sensitivity")

    layers = actions.add_parser("layers", help="find the blocks that a transformer can do without")
    layers.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder with safetensors, or an id of the hub")
    _add_evaluation(layers).add_argument(
        "--corpus",
        metavar="TEXT",
        help="running text for a language model: a file in UTF-8, or a corpus such as wikitext2; an example is a block "
        "of --max-length tokens, and at most 12 are evaluated by default",
    )
    layers.add_argument(
        "--epsilon", type=float, help="accuracy, or relative rise of perplexity, that you accept (default: 0.01, 0.1)"
    )
    layers.add_argument("--save", metavar="FOLDER", help="save the model without these blocks to this new folder")
    layers.set_defaults(act="layers", examples=None)

    join = actions.add_parser("assemble", help="join the slices of a checkpoint, NAME.zip.001 and so on, and unpack it")
    join.add_argument("folder", metavar="FOLDER", type=Path, help="where the slices are, or folders with them")
    join.add_argument("target", metavar="TARGET", type=Path, help="the new folder of the checkpoint")
    join.set_defaults(act="assemble")

    export = actions.add_parser("export", help="write a saved classifier, pruned or not, as an ONNX file, and check it")
    export.add_argument("folder", metavar="FOLDER", type=Path, help="where the classifier is")
    export.add_argument("file", metavar="FILE", type=Path, help="the file to write, such as model.onnx")
    export.set_defaults(act="export")

    keep = actions.add_parser("keep", help="copy a finished study's tables to data/measured, with their provenance")
    keep.add_argument("study", metavar="FILE", type=Path, help="the study file")
    keep.set_defaults(act="keep")
    contracts = actions.add_parser("tables", help="write the pages that explain all tables and all parameters")
    contracts.set_defaults(act="tables")
    copies = actions.add_parser(
        "class", help="write the exercises of all pages as notebooks, with and without solutions"
    )
    copies.add_argument("folder", metavar="FOLDER", type=Path, help="where the copies go, in student and instructor")
    copies.set_defaults(act="class")
    pretrain = actions.add_parser("pretrain", help="train the surrogate of `predict` anew on the measured campaign")
    pretrain.set_defaults(act="pretrain")
    return parser


def _add_evaluation(action: argparse.ArgumentParser) -> Any:
    """Add the options of whatever evaluates checkpoints, and return the group of those that name examples."""
    data = action.add_mutually_exclusive_group(required=True)
    data.add_argument("--task", metavar="TASK", help="the task that was trained for, by its name")
    data.add_argument("--data", metavar="FILE", help="your examples: CSV, JSON lines, parquet, or a folder of images")
    columns = action.add_argument_group("columns of --data")
    columns.add_argument("--text", metavar="COLUMN", help="the texts (default: text)")
    columns.add_argument("--pair", metavar="COLUMN", help="the second texts, where an example is a pair of texts")
    columns.add_argument("--label", metavar="COLUMN", help="the classes, as words or numbers (default: label)")
    columns.add_argument("--split", metavar="NAME", help="rows of this split only (default: validation or test)")
    action.add_argument("--json", action="store_true", help="print one JSON document in place of the text")
    action.add_argument("--device", default="", help="cpu, cuda, cuda:1, mps (default: a GPU where there is one)")
    action.add_argument("--examples", type=int, default=2000, help="examples evaluated, at most (default: 2000)")
    action.add_argument(
        "--max-length", type=int, default=128, metavar="TOKENS", help="tokens of a text, at most (default: 128)"
    )
    action.add_argument("--seed", type=int, default=0, help="seed of the choice of examples (default: 0)")
    return data
