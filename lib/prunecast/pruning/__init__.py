"""What to prune: criteria give scores, masks turn scores and a threshold into weights set to zero."""
