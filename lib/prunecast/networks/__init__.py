"""Definitions of image networks."""
