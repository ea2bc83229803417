"""Studies: their files, their pages, and the provenance of their tables."""
