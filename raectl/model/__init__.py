"""The equation: an encoder, a code, a decoder, the loss, and the regularizers of the decoder."""
