"""Every format of checkpoints behind one small protocol; see `_protocol` and `_opening`."""
