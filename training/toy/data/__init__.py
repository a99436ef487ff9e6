"""Builds the tiny model's training data from packages of the ordinary registries."""
