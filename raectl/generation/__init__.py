"""From a checkpoint to files: samples, reconstructions, interpolations."""
