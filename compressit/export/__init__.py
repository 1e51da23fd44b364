"""Checkpoints for other programs. Each module writes one kind of file, compared with the model before it is there."""
