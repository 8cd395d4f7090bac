"""Image files and arrays of images, decoded to images of one shape."""
