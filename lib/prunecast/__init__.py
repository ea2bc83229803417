"""Prunecast: how far a neural network can be pruned before it breaks."""

__version__ = "0.1.0"
