"""The commands, a file each; what is slow to import is imported inside their functions."""
