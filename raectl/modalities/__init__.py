"""What a datum is, and how it is written: images, strings of a grammar."""
