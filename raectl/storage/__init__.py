"""Files that are whole or absent, and checked before use."""
