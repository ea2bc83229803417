"""Surrogates of the loss of a network with removed edges: from masks alone, from gradients, from observed losses."""
