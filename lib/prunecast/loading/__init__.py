"""Checkpoints: what a folder or the hub holds, checked and loaded."""
