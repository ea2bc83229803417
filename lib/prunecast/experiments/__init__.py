"""Experiments of single chapters: effective model pruning, and the figures of the papers beside ours."""
