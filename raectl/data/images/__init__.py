"""Image files and arrays of images, decoded to square images of one size."""
