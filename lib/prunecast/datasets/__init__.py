"""Data: tasks with labelled splits, texts and images."""
