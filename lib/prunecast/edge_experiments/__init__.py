"""Experiments on networks with removed edges: surrogates of their losses judged, and networks pruned with them."""
