"""Edges of a computation graph: removed many at a time, forecast by surrogates, pruned."""
