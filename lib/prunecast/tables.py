"""The table contracts: every table is validated against `data/schemas.yml` on each read and write."""

import gzip
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa
import yaml

from prunecast import paths
from prunecast.errors import UserError

COMPRESSED = {"predictions", "probes", "signals"}


@cache
def contracts() -> dict[str, Any]:
    """All table contracts, by table name, as `data/schemas.yml` states them."""
    return yaml.safe_load((paths.DATA / "schemas.yml").read_text(encoding="utf-8"))


def file_name(table: str) -> str:
    """File name of a table: CSV, gzipped for the tables with a row per forecast point or per probe."""
    return f"{table}.csv.gz" if table in COMPRESSED else f"{table}.csv"


def validate(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with the types of its contract, or refuse it naming the first cell that breaks it."""
    try:
        return _schema(table).validate(frame.reset_index(drop=True))
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"table {table} breaks its contract in data/schemas.yml: {reason[:300]}") from None


def write(table: str, frame: pd.DataFrame, folder: Path) -> Path:
    """Validate `frame` and put it into `folder` whole or not at all."""
    path = folder / file_name(table)
    valid = validate(table, frame)
    content = valid.to_csv(index=False).encode()
    packed = gzip.compress(content, mtime=0) if table in COMPRESSED else content  # no time: same table, same bytes
    write_atomically(path, lambda part: part.write_bytes(packed))
    return path


def read(table: str, folder: Path) -> pd.DataFrame:
    """Read and validate a table, or say in one sentence that it is not there."""
    path = folder / file_name(table)
    if not path.exists():
        raise UserError(f"there is no {path.name} in {folder}; run the page that writes it first")
    return validate(table, _with_present_names(table, pd.read_csv(path)))


def write_atomically(path: Path, fill: Any) -> None:
    """Call `fill` with a temporary file beside `path`, then move it there in one step.

    A full disk or a kill leaves the old file, or none, and no half of the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    part = Path(name)
    try:
        fill(part)
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path.name} was not written to {path.parent}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def _with_present_names(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns renamed from the names they had in an earlier version."""
    rules = contracts()[table]["columns"]
    renamed = {rule["formerly"]: name for name, rule in rules.items() if "formerly" in rule and name not in frame}
    return frame.rename(columns=renamed)


@cache
def _schema(table: str) -> pa.DataFrameSchema:
    contract = contracts()[table]
    columns = {name: _column(rule) for name, rule in contract["columns"].items()}
    return pa.DataFrameSchema(columns, unique=contract["key"])


def _column(rule: dict[str, Any]) -> pa.Column:
    checks = []
    if "allowed" in rule:
        checks.append(pa.Check.isin(rule["allowed"]))
    if "minimum" in rule:
        checks.append(pa.Check.ge(rule["minimum"]))
    if "maximum" in rule:
        checks.append(pa.Check.le(rule["maximum"]))
    coerce = rule["type"] != "bool"  # any text coerces to true
    return pa.Column(rule["type"], checks, nullable=rule.get("nullable", False), coerce=coerce)
