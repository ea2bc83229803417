"""Models: built, trained, kept, loaded and evaluated."""
