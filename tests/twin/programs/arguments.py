"""The arguments of ``get_variable``."""

import numpy as np

from . import each, twin


@each(["float16", "float32", "int8", "uint8", "int16", "uint16", "int32", "uint32", "bool"])
def default_initializers(t, dtype):
    t.get("w", (2, 3), dtype=dtype)


@each(["complex64"])
def no_default_initializer(t, dtype):
    t.get("w", (2,), dtype=dtype)


@each([3, -1, 2.5, True, [1, 2, 3], [[1.0], [2.0]], (1.5, 2.5)])
def values_written_down(t, value):
    t.get("w", initializer=value)


@each(["float16", "float32", "int8", "uint8", "int16", "int32", "bool"])
def arrays_written_down(t, dtype):
    t.get("w", initializer=np.array([[0, 1], [1, 0]]).astype(dtype))


@each(["float16", "int32"])
def values_with_a_scope_s_initializer_and_shape(t, dtype):
    with t.scope("a", initializer=t.ones):
        t.get("w", (2,), dtype=dtype)
        t.get("v", initializer=np.zeros(2, dtype))


@twin
def the_dtype_of_a_value_may_be_repeated(t):
    t.get("w", initializer=np.ones(2, np.float16), dtype="float16")
    t.get("v", initializer=3, dtype="int32")


@each(["int32", "float16", "bool"])
def a_value_of_another_dtype(t, dtype):
    t.get("w", initializer=2.5, dtype=dtype)


@each([(2,), 2, (), [2], (3,)])
def a_shape_beside_a_value(t, shape):
    t.get("w", shape, initializer=np.ones(2, np.float32))


@each([5, (5,), [5], (2, 3), [], (), (0,), (0, 3), (2, 0, 1), (np.int64(4),), np.int32(3)])
def shapes(t, shape):
    t.get("w", shape, initializer=t.ones)


@each([(2, -1), -1, (-3, 2)])
def negative_dimensions(t, shape):
    t.get("w", shape)


@each([(None, 2), (None,)])
def unknown_dimensions(t, shape):
    t.get("w", shape)


@each(["zeros", "ones", "random"])
def no_shape(t, initializer):
    t.get("w", initializer=getattr(t, initializer))


@twin
def neither_shape_nor_initializer(t):
    t.get("w")


@twin
def a_value_only_the_second_time(t):
    with t.scope("a", reuse=t.AUTO):
        t.get("w", (2,), initializer=t.zeros)
        t.get("w", initializer=np.ones(2, np.float32))


@twin
def positions_of_the_arguments(t):
    t.get("w", (2,), "float16", t.ones, t.l2(0.5), False)


@twin
def positions_of_all_arguments(t):
    """Up to ``use_resource``, by which the comparison makes both kinds of TF's variables."""
    for name, get in (("w", t.get), ("n", t.local)):
        get(name, (2,), "float16", t.ones, t.l2(0.5), True, ["mine"], None, None, True)


@twin
def positions_of_a_scope_s_defaults(t):
    def doubled(getter, name, *args, **kwargs):
        return 2 * getter(name, *args, **kwargs)

    with t.scope("a", None, None, t.ones, t.l2(0.5), None, None, doubled, True, "float16"):
        t.attempt(lambda: t.get("w", (2,)))
    with t.scope("b", None, None, t.ones, t.l2(0.5), None, None, None, t.AUTO, "float16"):
        t.get("w", (2,))
        t.get("w", (2,))
    with t.scope(None, "c", None, t.ones, None, None, None, None, None, None, None, abs):
        t.get("w", (2,))


@each([True, False, None])
def trainable(t, said):
    t.get("w", (2,), trainable=said)


@twin
def trainable_or_not_by_turns(t):
    for i in range(4):
        t.get(f"w{i}", (1,), trainable=i % 2 == 0)


@each(["float32", "float16", "int32"])
def constant_initializers(t, dtype):
    t.get("w", (2, 3), dtype=dtype, initializer=t.constant(7))
    t.get("zeros", (2, 3), dtype=dtype, initializer=t.zeros)
    t.get("ones", (2, 3), dtype=dtype, initializer=t.ones)


@twin
def a_list_fills_a_shape_in_rows(t):
    t.get("w", (2, 3), initializer=t.constant([1, 2, 3, 4, 5, 6]))


@twin
def random_initializers_have_the_shape_and_dtype(t):
    t.get("w", (2, 3), initializer=t.random)
    t.get("h", (2, 3), "float16", t.random)


@twin
def an_initializer_without_arguments(t):
    t.get("w", initializer=lambda: np.full((2, 3), 4, np.float32))


@twin
def an_initializer_whose_arguments_are_all_optional(t):
    t.get("w", initializer=lambda x=1.0, y=2.0: np.full(3, x + y, np.float32))


@twin
def a_value_and_validate_shape(t):
    t.get("w", initializer=np.ones(2, np.float32), validate_shape=True)


@each([3, "l2"])
def no_constraint_at_all(t, value):
    t.get("w", (2,), constraint=value)
