"""Pruning curves: measured, resumed, read on several axes; and proxies that cost less than a measurement."""
