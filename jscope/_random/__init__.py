"""Random numbers: from names to keys, and from keys to values."""
