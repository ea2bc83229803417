"""The one place where random number generators are seeded."""

import hashlib
import random

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """A NumPy generator for one piece of work; the global random states are left as they are.

    Two pieces of work with different names draw different numbers, whatever the order in which they run.

    Args:
        seed: Seed of the study.
        names: Names of the piece of work, from general to specific.

    Returns:
        The generator.
    """
    return np.random.default_rng(_number(seed, names))


def seed_everything(seed: int, *names: str) -> np.random.Generator:
    """Seed Python, NumPy and torch for one piece of work, such as a training, that reads their global states.

    Args:
        seed: Seed of the study.
        names: Names of the piece of work, from general to specific.

    Returns:
        The generator that `generator` returns for the same seed and names.
    """
    import torch  # here, because the command line seeds nothing and should start at once

    number = _number(seed, names)
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - transformers and scikit-learn still read the global state
    torch.manual_seed(number)
    return np.random.default_rng(number)


def _number(seed: int, names: tuple[str, ...]) -> int:
    digest = hashlib.sha256("/".join([str(seed), *names]).encode()).digest()
    return int.from_bytes(digest[:4], "big")
