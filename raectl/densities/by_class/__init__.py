"""A density for each class of the data."""
