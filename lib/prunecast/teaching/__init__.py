"""Exercises of the pages: read from their sources, checked, and copied for students and instructors."""
