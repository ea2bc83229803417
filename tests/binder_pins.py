"""What Binder installs: the pins of `requirements.lock` that the book needs, with PyTorch for the processor alone.

python tests/binder_pins.py    write `binder/requirements.txt`: after a pin has changed
"""

import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prunecast import paths

FILE = paths.ROOT / "binder" / "requirements.txt"
INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"
WITHOUT_GPU = ("torch", "torchvision")


def needed() -> set[str]:
    """Names of the packages that the book needs, and of those that these need, as installed."""
    python = (FILE.parent / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["book"]]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            parts = [Requirement(line) for line in metadata.requires(name) or []]
            waiting += [
                part
                for part in parts
                if not part.marker or part.marker.evaluate({"extra": extra, "python_version": python})
            ]
    return {name for name, _ in seen}


def requirements() -> str:
    names, lines = needed(), [INDEX]
    for pin in (paths.ROOT / "requirements.lock").read_text(encoding="utf-8").split():
        name = canonicalize_name(pin.split("==")[0])
        if name in names:
            lines.append(f"{pin}+cpu" if name in WITHOUT_GPU else pin)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(requirements(), encoding="utf-8")
