"""The table contracts for readers: `data/README.md`, generated from `data/schemas.yml`."""

from pathlib import Path
from typing import Any

from prunecast import tables
from prunecast.workflow.pages import files_of

INTRODUCTION = """# Tables

Stages meet in tables and nowhere else. All are plain CSV in UTF-8 with one header; {compressed} are gzipped. The
contract of each stands in `data/schemas.yml`, from which this page is generated, and is checked on every read and
write. Columns may be added; those listed here are not renamed without reading the former name for one version. Rows
are unique in the columns marked \\*.

- `data/measured/STUDY/` holds the tables of studies that take longer than a page may run, with `provenance.json`: the
  study file and its hash, package versions, processor, threads, date, seeds, wall time, the commands, the sha256 of
  every table, and for every model the sha256 of its inputs and weights. `prunecast keep studies/STUDY.yml` writes both.
- `data/published/` holds figures that papers print, each row with its source. `edge_surrogate_predictions.csv.gz` holds
  forecasts that the code of such a paper made, under its MIT licence: five surrogates of the losses of 40 networks with
  500 masks each, and the losses, mapped to 1 for the lowest of a network and 0 for the highest.
- `data/pretrained/` holds the surrogate that `prunecast predict` loads, trained on `data/measured/campaign`
  and `data/measured/campaign_base`.
- `data/models.yml` names the models, `data/tasks.yml` the tasks of the hub.
"""


def described() -> str:
    """The page that explains every table and column, as Markdown."""
    *first, last = (f"`{name}`" for name in sorted(tables.COMPRESSED))
    introduction = INTRODUCTION.format(compressed=f"{', '.join(first)} and {last}")
    return "\n".join([introduction, *(_section(name, contract) for name, contract in tables.contracts().items())])


def tables_of(page: str) -> list[str]:
    """Names of the tables that a page reads or writes, in the order of its header.

    Raises:
        UserError: There is no such page.
    """
    files = files_of(page)
    names = (Path(file).name.partition(".")[0] for file in (*files.reads, *files.writes))
    return [name for name in dict.fromkeys(names) if name in tables.contracts()]


def _section(name: str, contract: dict[str, Any]) -> str:
    rows = [_row(column, rule, column in contract["key"]) for column, rule in contract["columns"].items()]
    header = ["| column | meaning | type | unit |", "|---|---|---|---|"]
    return "\n".join([f"## {name}\n", f"{contract['description']}\n", *header, *rows, ""])


def _row(column: str, rule: dict[str, Any], in_key: bool) -> str:
    kind = " / ".join(f"`{value}`" for value in rule["allowed"]) if "allowed" in rule else rule["type"]
    meaning = str(rule["description"]).replace("|", "\\|")
    mark = "\\*" if in_key else ""
    return f"| `{column}`{mark} | {meaning} | {kind} | {rule.get('unit', '')} |"
