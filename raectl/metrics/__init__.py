"""Metrics compare an item with its reconstruction; set metrics a set of items with the real ones."""
