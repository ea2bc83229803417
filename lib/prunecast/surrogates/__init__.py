"""Surrogates: forecasts of a pruning curve that cost less than measuring it."""
