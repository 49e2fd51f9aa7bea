"""Write the golden TensorFlow checkpoints anew: ``python tests/golden/make_tf.py DIRECTORY``.

They are kept in ``tests/golden/tf`` as TensorFlow 2.21 wrote them; `tf_values` knows their values.

* ``v2``: every dtype and string, and a partitioned variable ``p``, in two shards.
* ``v1``: every dtype of version 1, strings, and ``p``, in two shards.
* ``objects``: ``tf.train.Checkpoint`` with a circle of objects; ``dense/kernel`` is [1, 2].

Imports: TensorFlow, and `tf_values` beside this folder.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tensorflow as tf
from tf_values import golden_v1, golden_v2


def main(directory: Path) -> None:
    """Write all of them."""
    parts = []
    for shard, named in enumerate(golden_v2()):
        parts.append(str(directory / f"v2_temp/part-{shard:05d}-of-00002"))
        tf.raw_ops.SaveV2(
            prefix=parts[-1],
            tensor_names=[name for name, _, _ in named],
            shape_and_slices=[spec for _, _, spec in named],
            tensors=[tensor(value) for _, value, _ in named],
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=str(directory / "v2"), delete_old_dirs=True
    )
    for shard, named in enumerate(golden_v1()):
        tf.raw_ops.SaveSlices(
            filename=str(directory / f"v1-{shard:05d}-of-00002"),
            tensor_names=[name for name, _, _ in named],
            shapes_and_slices=[spec for _, _, spec in named],
            data=[tensor(value) for _, value, _ in named],
        )
    module = tf.Module()
    module.kernel = tf.Variable([1.0, 2.0], name="dense/kernel")
    module.itself = module
    tf.train.Checkpoint(model=module).write(str(directory / "objects"))


def tensor(value):
    """A value as TensorFlow takes it."""
    if value.dtype == object:
        return tf.constant(value.tolist(), tf.string, value.shape)
    return tf.constant(value)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
