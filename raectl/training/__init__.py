"""The training loop, and runs that can be stopped at any moment and go on to the same bits."""
