"""Mixtures of normal and of Student's t densities, fitted by expectation maximization."""
