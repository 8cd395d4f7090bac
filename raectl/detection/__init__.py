"""Which items of a source are odd: scores as a table, how well they rank, where an image is odd."""
