"""Servers of S3 and of Google Cloud Storage on this machine, for tests; see `servers`."""
