"""The one place where random number generators are seeded."""

import hashlib
import random

import numpy as np


def seed_everything(seed: int, *names: str) -> np.random.Generator:
    """Seed Python, NumPy and torch for one piece of work.

    Two pieces of work with different names draw different numbers, whatever the order in which they run.

    Args:
        seed: Seed of the study.
        names: Names of the piece of work, from general to specific.

    Returns:
        A NumPy generator with the same seed.
    """
    import torch  # here, because the command line seeds nothing and should start at once

    digest = hashlib.sha256("/".join([str(seed), *names]).encode()).digest()
    number = int.from_bytes(digest[:4], "big")
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - transformers and scikit-learn still read the global state
    torch.manual_seed(number)
    return np.random.default_rng(number)
