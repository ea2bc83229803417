"""Models: built, trained, and evaluated."""
