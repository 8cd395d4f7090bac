"""Numbers that say how good a model is. A family of metrics a file."""
