"""Object-based checkpoints: from full variable names to keys.

``tf.train.Checkpoint`` and Keras name what they save by the path of attributes that leads to it,
and keep the graph of objects in a string under `KEY`::

    TrackableObjectGraph { 1 nodes*: TrackableObject }
    TrackableObject      { 2 attributes*: SerializedTensor, ... }
    SerializedTensor     { 1 name; 2 full_name; 3 checkpoint_key }      strings

A variable's *full name* is the one it had in TensorFlow 1. The edges between nodes may form
circles; they are not needed, and not followed.
"""

from collections.abc import Container

from ._entry import Entry
from ._span import BYTES, Span, message, pieces

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"


def full_names(graph: Entry, keys: Container[str]) -> dict[str, str]:
    """The key of each full name that belongs to exactly one of the keys."""
    where = graph.where[0]
    span = Span(graph.read().item(), f"{where.file}, inside the string {KEY!r}")
    found: dict[str, str | None] = {}
    for node in pieces(span, 1):
        for attribute in pieces(node, 2):
            name = key = ""
            for number, _, begin, end in message(attribute, {2: (BYTES,), 3: (BYTES,)}):
                if number == 2:
                    name = attribute.cut(begin, end).text()
                else:
                    key = attribute.cut(begin, end).text()
            if name and key in keys:
                found[name] = key if found.get(name, key) == key else None
    return {name: key for name, key in found.items() if key is not None}
