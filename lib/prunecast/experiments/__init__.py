"""Experiments of single chapters: the effective number, and the figures of the papers beside ours."""
