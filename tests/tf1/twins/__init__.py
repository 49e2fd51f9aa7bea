"""The programs of `examples/tf1` in TensorFlow 1: references, written for the tests."""
