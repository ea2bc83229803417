"""Experiments of single chapters: the three regimes, architectures, and the figures of the papers beside ours."""
