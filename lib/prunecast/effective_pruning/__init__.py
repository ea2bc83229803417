"""Effective model pruning compared with its controls, on classifiers, language models and a photograph."""
