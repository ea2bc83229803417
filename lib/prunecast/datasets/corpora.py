"""Running text for language models from three sources, as for tasks: built in, a local folder, the hub."""

import gzip
import zlib
from pathlib import Path

from prunecast import paths
from prunecast.datasets import docstrings
from prunecast.datasets.tasks import SPLITS
from prunecast.errors import UserError

HUB = {"wikitext2": ("Salesforce/wikitext", "wikitext-2-v1")}


def load_corpus(name: str) -> dict[str, str]:
    """Load a corpus from the first source that has it: built in, then the folder `PRUNECAST_DATA`, then the hub.

    A local corpus is a sub-folder of `PRUNECAST_DATA` with train.txt.gz and validation.txt.gz.

    Args:
        name: Name of the corpus.

    Returns:
        The texts `train` and `validation`.

    Raises:
        UserError: No source has a corpus of that name, a split is missing, a file is not gzipped UTF-8, a text is
            empty, or the hub cannot be reached.
    """
    local = paths.task_folder()
    if name == "docstrings":
        lines = docstrings.sentences()["text"].sample(frac=1, random_state=0).tolist()
        held_out = len(lines) // 10
        texts = {"train": "\n".join(lines[held_out:]), "validation": "\n".join(lines[:held_out])}
    elif local and (local / name).is_dir():
        texts = {split: _unpacked(local / name / f"{split}.txt.gz") for split in SPLITS}
    elif name in HUB:
        texts = from_hub(name, *HUB[name])
    else:
        names = sorted(path.parent.name for path in local.glob("*/train.txt.gz")) if local else []
        raise UserError(
            f"there is no corpus {name!r}: built in is docstrings; PRUNECAST_DATA holds "
            f"{', '.join(names) or 'no corpora'}; the hub has {', '.join(HUB)}"
        )
    for split, text in texts.items():
        if not text.strip():
            raise UserError(f"corpus {name!r}, split {split}: the text is empty")
    return texts


def running_text(source: str) -> str:
    """Read the text of a user's file, or the validation text of a corpus.

    Args:
        source: A file in UTF-8, or the name of a corpus.

    Returns:
        The text.

    Raises:
        UserError: The file is a folder, not UTF-8 or empty, or as for `load_corpus`.
    """
    path = Path(source).expanduser()
    if not path.exists():
        if path.suffix or len(path.parts) > 1:
            raise UserError(f"there is no file {path}")
        return load_corpus(source)["validation"]
    if path.is_dir():
        raise UserError(f"{path} is a folder; running text is one file in UTF-8")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: byte {error.start:,} does not belong to it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    if not text.strip():
        raise UserError(f"{path} is empty")
    return text


def from_hub(name: str, path: str, config: str | None = None) -> dict[str, str]:
    """Download a corpus through `datasets`; its column `text` has one line per row.

    Args:
        name: Name of the corpus.
        path: Its path on the hub, or a local folder that `datasets` can read.
        config: Its configuration on the hub, where it has several.

    Returns:
        The texts `train` and `validation`, without spaces at the ends of lines.

    Raises:
        UserError: The hub cannot be reached, or a split is missing there.
    """
    import datasets

    try:
        source = datasets.load_dataset(path, config)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"corpus {name!r} is not in PRUNECAST_DATA and the hub could not serve it ({type(error).__name__}): "
            "connect to the network, or put the corpus into a local folder"
        ) from None
    if missing := [split for split in SPLITS if split not in source]:
        raise UserError(f"corpus {name!r} on the hub has no split {missing[0]!r}: it has {', '.join(source)}")
    return {split: "".join(f"{line.rstrip()}\n" for line in source[split]["text"]) for split in SPLITS}


def _unpacked(path: Path) -> str:
    where = f"corpus folder {path.parent.name}"
    if not path.exists():
        raise UserError(f"{where} has no {path.name}: it needs train.txt.gz and validation.txt.gz")
    try:
        return gzip.decompress(path.read_bytes()).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UserError(f"{where}: {path.name} is not gzipped text in UTF-8 ({type(error).__name__})") from None
