"""Checkpoints opened for reading, in every format."""
