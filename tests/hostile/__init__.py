"""Checkpoints that mean harm, or met with some: made at test time from small ones."""
