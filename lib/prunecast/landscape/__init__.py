"""The loss landscape of pruned networks: temperature, linear mode connectivity, similarity and the three regimes."""
