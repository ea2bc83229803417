"""Models: built, trained, saved, loaded and evaluated."""
