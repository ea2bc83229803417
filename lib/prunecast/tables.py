"""The table contracts: every table is validated against `data/schemas.yml` on each read and write."""

import gzip
import os
import tempfile
from collections.abc import Callable, Iterable
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
    """All table contracts of `data/schemas.yml`.

    Returns:
        By table name: its description, its key, and by column name the rules of the column.
    """
    content: dict[str, Any] = yaml.safe_load((paths.DATA / "schemas.yml").read_text(encoding="utf-8"))
    return content


def file_name(table: str) -> str:
    """File name of a table.

    Args:
        table: Name of the table.

    Returns:
        A name that ends in `.csv`, or in `.csv.gz` for the tables with a row per forecast point or per probe.
    """
    return f"{table}.csv.gz" if table in COMPRESSED else f"{table}.csv"


def validate(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Validate a table against its contract.

    Args:
        table: Name of the table.
        frame: Its rows; columns beyond those of the contract are allowed.

    Returns:
        The rows with the types of the contract and a fresh index.

    Raises:
        UserError: A column is missing, a cell breaks its rule, or two rows have the same key.
    """
    try:
        return _schema(table).validate(frame.reset_index(drop=True))
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"table {table} breaks its contract in data/schemas.yml: {reason[:300]}") from None


def write(table: str, frame: pd.DataFrame, folder: Path) -> Path:
    """Validate a table and write it, either whole or not at all.

    Args:
        table: Name of the table.
        frame: Its rows.
        folder: Folder to write to, made where it does not exist.

    Returns:
        Path of the file.

    Raises:
        UserError: The table breaks its contract, or the file cannot be written.
    """
    path = folder / file_name(table)
    valid = validate(table, frame)
    content = valid.to_csv(index=False).encode()
    packed = gzip.compress(content, mtime=0) if table in COMPRESSED else content  # no time: same table, same bytes
    write_atomically(path, lambda part: part.write_bytes(packed))
    return path


def read(table: str, folder: Path) -> pd.DataFrame:
    """Read and validate a table; columns under a name of an earlier version are renamed, those it lacked added.

    Args:
        table: Name of the table.
        folder: Folder that holds its file.

    Returns:
        Its rows with the types of the contract.

    Raises:
        UserError: There is no such file, or the table breaks its contract.
    """
    path = folder / file_name(table)
    if not path.exists():
        raise UserError(f"there is no {path.name} in {folder}; run the page that writes it first")
    return validate(table, _with_present_columns(table, pd.read_csv(path)))


def read_all(table: str, folders: Iterable[Path]) -> pd.DataFrame:
    """The rows of a table of several studies, one below the other, each read as by `read`.

    Args:
        table: Name of the table.
        folders: Folders that hold its files.

    Raises:
        UserError: A file is missing, a table breaks its contract, or two studies have rows of the same key.
    """
    return validate(table, pd.concat([read(table, folder) for folder in folders], ignore_index=True))


def write_atomically(path: Path, fill: Callable[[Path], object]) -> None:
    """Write a file in one step: a full disk or a kill leaves the old file, or none, but never a part of the new one.

    Args:
        path: The file; its folder is made where it does not exist.
        fill: Writes the content to the temporary file beside `path` that it is given.

    Raises:
        UserError: The file cannot be written.
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


def _with_present_columns(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns renamed from the names of an earlier version, and with those that it did not have."""
    rules = contracts()[table]["columns"]
    renamed = {rule["formerly"]: name for name, rule in rules.items() if "formerly" in rule and name not in frame}
    lacked = {name: rule["absent"] for name, rule in rules.items() if "absent" in rule and name not in frame}
    return frame.rename(columns=renamed).assign(**lacked)


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
