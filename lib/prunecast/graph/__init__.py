"""Computation graphs with gates on their edges: random networks, blocks of transformers, masks, removal."""
