"""What the tests of training share: optimizers, and how TensorFlow names its own."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
