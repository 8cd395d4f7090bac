"""The checkpoint directory: a trained model, its data's summary, cached latents and fitted densities."""
