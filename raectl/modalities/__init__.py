"""What a datum is: how items become tensors and are compared, drawn and written. A modality a file."""
