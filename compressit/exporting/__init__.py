"""Exports checkpoints for other programs. Every export is compared with the model before it is written."""
