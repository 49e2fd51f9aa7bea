"""Checkpoints that are one file, read and written variable by variable, without JAX.

`safetensors` and `npz` each open a file as a mapping from names to `_entry.Entry` and write one
through a `_writing.NewFile`, which appears whole or not at all.
"""
