"""Data: classification tasks with labelled splits of texts or images, and running text."""
