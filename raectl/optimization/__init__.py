"""Bayesian optimization of strings in the latent space of a model."""
