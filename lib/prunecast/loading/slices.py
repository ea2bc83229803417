"""Checkpoints in slices: a zip that was cut into NAME.zip.001, NAME.zip.002 and so on, joined and unpacked once."""

import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory

from prunecast.errors import UserError
from prunecast.loading.folders import SLICES, refuse_pickles

START = b"PK\x03\x04"  # first bytes of a zip
END = b"PK\x05\x06"  # first bytes of its last record
RECORD = 22 + (1 << 16)  # longest last record, with its comment


def assemble(folder: Path, target: Path) -> None:
    """Join the slices of a zip that holds a checkpoint, and unpack it.

    Args:
        folder: Folder of the slices, which may lie in folders inside.
        target: Folder of the checkpoint, which must not exist; it appears whole or not at all.

    Raises:
        UserError: There are no slices or those of several zips, one is missing, damaged or not in the place that its
            number says, a file of the zip would lie outside the target, or the zip holds no checkpoint.
    """
    if target.exists():
        raise UserError(f"there is a {target} already; name a folder that does not exist")
    slices = _slices(folder)
    _check(slices)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as work:
            joined = Path(work) / "joined.zip"
            with joined.open("wb") as whole:
                for path in slices:
                    with path.open("rb") as part:
                        shutil.copyfileobj(part, whole)
            unpacked = Path(work) / target.name
            _unpack(joined, slices, unpacked)
            content = list(unpacked.iterdir())
            checkpoint = content[0] if len(content) == 1 and content[0].is_dir() else unpacked
            refuse_pickles(checkpoint)
            checkpoint.rename(target)
    except OSError as error:
        raise UserError(f"{target} was not written: {error.strerror or error}") from None


def _slices(folder: Path) -> list[Path]:
    """The slices below a folder in the order of their numbers, none missing between the first and the last."""
    found = sorted(folder.rglob(SLICES), key=lambda path: path.name)
    if not found:
        raise UserError(f"there is no slice such as NAME.zip.001 in {folder}")
    first, last = found[0], found[-1]
    if first.stem != last.stem:
        raise UserError(f"{folder} holds slices of several zips, {first.stem} and {last.stem}; name a folder of one")
    for number, path in enumerate(found, 1):
        if path.suffix != f".{number:03}":
            twice = number > 1 and path.name == found[number - 2].name
            lacking = f"{path.name} twice" if twice else f"no {path.stem}.{number:03}"
            raise UserError(f"{folder} holds {lacking}; there must be one slice for each number up to {last.name}")
    return found


def _check(slices: Sequence[Path]) -> None:
    """Check that the first slice begins a zip and the last one ends it, and that all others have one size."""
    first, last = slices[0], slices[-1]
    starting = [path.name for path in slices if _bytes(path, 0, len(START)) == START]
    if first.name not in starting:
        other = f", but {starting[0]} does: the order is wrong" if starting else "; download it again"
        raise UserError(f"{first.name} does not begin as a zip does{other}")
    size = first.stat().st_size
    for path in slices[1:]:
        own = path.stat().st_size
        if own > size or (own < size and path != last):
            raise UserError(
                f"{path.name} has {own:,} bytes and {first.name} {size:,}; all slices have one size, and only the last "
                "may have less: download it again, or correct the order"
            )
    if END not in _bytes(last, max(0, last.stat().st_size - RECORD), RECORD):
        following = f"{last.stem}.{len(slices) + 1:03}"
        raise UserError(f"{last.name} does not end as a zip does: {following} is missing, or the order is wrong")


def _bytes(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(count)


def _unpack(joined: Path, slices: Sequence[Path], target: Path) -> None:
    first, last = slices[0], slices[-1]
    size = first.stat().st_size
    with joined.open("rb") as file:
        try:
            whole = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise UserError(f"the zip that ends in {last.name} has a damaged list of files ({error})") from None
        for entry in whole.infolist():
            path = PureWindowsPath(entry.filename)  # which takes both kinds of separators
            if path.anchor or ".." in path.parts:
                raise UserError(f"the zip that begins in {first.name} holds {entry.filename!r}, outside its folder")
            try:
                whole.extract(entry, target)
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
                place = min(file.tell(), joined.stat().st_size - 1) // size
                raise UserError(
                    f"{entry.filename} cannot be unpacked further than {slices[place].name} ({error}): this slice, or "
                    "one before it, is damaged or in the wrong place"
                ) from None
