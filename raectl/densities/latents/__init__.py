"""Latents before a density is fitted to them: checked, standardized, without what carries nothing of its own."""
