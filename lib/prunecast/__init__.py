"""Prunecast: how far a neural network can be pruned before it breaks."""

import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # pages show no bars, so none is missed

__version__ = "0.6.0"
