"""The second phase of training: the decoder is sharpened against a critic, the encoder and its latents stay."""
