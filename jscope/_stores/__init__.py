"""Where checkpoints live: paths of file systems and object stores, and files read and written."""
