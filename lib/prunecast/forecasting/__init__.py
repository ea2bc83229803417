"""Forecasts for a user: the pretrained surrogate, a checkpoint of your own, a recommended ratio."""
