"""Folders of checkpoints: where one is, and whether its files can be loaded."""

from pathlib import Path

from prunecast import paths
from prunecast.errors import UserError


def refuse_pickles(folder: Path) -> None:
    """Check that a checkpoint folder has its weights as safetensors, since pickled weights can run code.

    Raises:
        UserError: There is no such folder, or it has no safetensors.
    """
    if not folder.is_dir():
        raise UserError(f"there is no checkpoint folder {folder}")
    if not list(folder.glob("*.safetensors")):
        pickles = [path.name for path in sorted(folder.iterdir()) if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]
        content = f"only {pickles[0]}, which is a pickle" if pickles else "no weights"
        raise UserError(f"checkpoint {folder.name} holds {content}; weights are loaded as safetensors alone")


def local_folder(checkpoint: str) -> Path | None:
    """The folder that a checkpoint names, by its path or in `PRUNECAST_MODELS`; None for one of the hub."""
    local = paths.checkpoint_folder()
    candidates = [Path(checkpoint), *([local / checkpoint] if local else [])]
    return next((folder for folder in candidates if folder.is_dir()), None)
