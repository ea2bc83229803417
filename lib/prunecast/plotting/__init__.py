"""Figures. Nothing here reads a file."""
