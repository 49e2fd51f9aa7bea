"""What code can read of a scope's place is part of its identity, under every transform.

A decision by name, in a custom getter or by reading `Scope.name`, gives in a body that JAX has
cached what it gives in one that is traced anew, whatever was traced before.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from matrix.cells import mesh_of
from matrix.transforms import TRANSFORMS

import jscope as js

X = np.array([0.5, -1.25, 0.75], np.float32)
VALUES = {"a/w": 3.0, "b/w": 5.0}


def tree_for(transform):
    """Both scopes' variables, as large as all shards together, laid out as the transform wants."""
    tree = js.VarTree(
        {name: np.full(3 * transform.shards, v, np.float32) for name, v in VALUES.items()}
    )
    if transform.mesh is None:
        return tree
    spec = P("data") if transform.shards > 1 else P()
    return jax.device_put(tree, NamedSharding(transform.mesh(), spec))


def request(scope, x):
    return x * x * scope.get_variable("w", (3,))


def double_a(getter, name, **arguments):
    w = getter(name, **arguments)
    return 2 * w if name.startswith("a/") else w


def half(getter, name, **arguments):
    assert name == "w"  # all that a block knows of it
    return getter(name, **arguments) / 2


def with_getter(scope, getter):
    return scope.variable_scope(scope, custom_getter=getter)


def outcomes(transform, cached, order):
    """What scopes a and b give, in that order, with one function that JAX may cache."""
    block = jax.jit(request) if cached else request
    found = {}
    for name in order:
        scope = with_getter(js.Scope(tree_for(transform)), double_a)
        found[name] = jax.tree.leaves(transform.apply(block, scope / name, X))
    return found


@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_getter_that_looks_at_names_sees_the_scope_s_own(name, cached):
    transform = TRANSFORMS[name]
    if transform.is_callback and cached:
        pytest.skip("a callback runs outside JAX")
    with mesh_of(transform):
        there, back = (outcomes(transform, cached, order) for order in ("ab", "ba"))
        expected = {
            scope: jax.tree.leaves(transform.by_hand(lambda x, w=w: x * x * w, jnp.asarray(X)))
            for scope, w in (("a", 2 * VALUES["a/w"]), ("b", VALUES["b/w"]))
        }
    for scope in "ab":
        for found in (there, back):
            for one, other in zip(found[scope], expected[scope], strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_name_that_code_reads_is_no_other_scope_s_and_the_same_while_declaring(name):
    transform = TRANSFORMS[name]

    def names_read(run, order):
        read = {part: [] for part in order}

        def model(scope, x):
            for part in order:

                def block(scope, x, part=part):
                    read[part].extend([scope.name, (scope / "deep").name])
                    return request(scope, x)

                transform.apply(block, scope / part, x)

        run(model)
        return {part: set(names) for part, names in read.items()}

    with mesh_of(transform):
        tree = tree_for(transform)
        declared = names_read(lambda model: js.declare(model)(X), "ab")
        for order in ("ab", "ba"):
            applied = names_read(lambda model: model(js.Scope(tree), X), order)
            if transform.is_callback:  # which no declaration runs
                applied = {part: names - {"", "deep"} for part, names in applied.items()}
            assert applied == declared
    # A body that closes over a scope has the very scope of the model. Else it knows no more than
    # the boundary, wherever the scope hangs, so that whichever is traced first serves for all.
    for part, names in declared.items():
        assert names in ({"", "deep"}, {part, f"{part}/deep"}, {"", "deep", part, f"{part}/deep"})


def test_a_cached_body_reads_no_name_of_the_scope_that_was_traced_first():
    read = []

    @jax.jit
    def body(scope):
        read.append(scope.name)
        return scope["w"] * (2.0 if scope.name == "a" else 1.0)

    for order in ("ab", "ba"):
        scope = js.Scope(VALUES)
        assert [float(body(scope / part)) for part in order] == [VALUES[f"{p}/w"] for p in order]
    assert read == [""]


def test_equal_blocks_are_traced_once_without_getters_or_with_getters_by_value():
    traces = []

    @jax.jit
    def block(scope, x):
        traces.append(scope.name)
        return request(scope, x)

    def model(scope, x):
        return [block(scope / f"layer_{i}", x) for i in range(48)]

    tree = js.VarTree({f"layer_{i}/w": jnp.full(3, i, jnp.float32) for i in range(48)})
    outs = model(js.Scope(tree), X)
    assert traces == [""]
    halves = model(with_getter(js.Scope(tree), js.by_value(half)), X)
    assert traces == ["", ""]
    wholes = model(with_getter(js.Scope(tree), double_a), X)
    assert len(traces) == 2 + 48
    for i, (out, halved, whole) in enumerate(zip(outs, halves, wholes, strict=True)):
        np.testing.assert_allclose(out, i * X * X, rtol=1e-6)
        np.testing.assert_allclose(halved, i * X * X / 2, rtol=1e-6)
        np.testing.assert_allclose(whole, out, rtol=1e-6)


# Which name a getter gets.


def names_seen(model):
    """The names that the getter ``watch`` sees, declaring and applying."""
    seen = []

    def watch(getter, name, **arguments):
        seen.append(name)
        return getter(name, **arguments)

    declared = js.declare(lambda scope: model(scope, watch))()
    of_declaration = list(seen)
    seen.clear()
    model(js.Scope(declared.init(jax.random.key(0))), watch)
    assert seen == of_declaration
    return seen


def create(scope):
    return scope.get_variable("w", ())


def test_a_scope_s_getter_gets_the_whole_name_through_any_number_of_boundaries():
    inner = jax.checkpoint(lambda scope: create(scope / "c"))
    outer = jax.jit(lambda scope: inner(scope / "b"))
    assert names_seen(lambda scope, watch: outer(with_getter(scope, watch) / "a")) == ["a/b/c/w"]


def test_a_getter_that_is_given_in_a_body_gets_names_relative_to_the_body_s_boundary():
    inner = jax.checkpoint(lambda scope: create(scope / "c"))

    def model(scope, watch):
        return jax.jit(lambda scope: inner(with_getter(scope / "b", watch)))(scope / "a")

    assert names_seen(model) == ["b/c/w"]


def test_a_getter_that_joins_one_that_knows_the_path_gets_the_whole_name_too():
    def model(scope, watch):
        body = jax.jit(lambda scope: create(with_getter(scope / "b", watch)))
        return body(with_getter(scope, double_a) / "a")

    assert names_seen(model) == ["a/b/w"]


def test_a_call_s_own_getter_gets_the_name_relative_to_the_boundary():
    def model(scope, watch):
        scope = with_getter(scope, double_a)
        outside = (scope / "x").get_variable("w", (), custom_getter=watch)

        @jax.jit
        def body(scope):
            return (scope / "b").get_variable("w", (), custom_getter=watch)

        return outside + body(scope / "a")

    assert names_seen(model) == ["x/w", "b/w"]


def test_a_getter_by_value_gets_the_requested_name_between_getters_that_get_whole_ones():
    seen = []

    def watch(label):
        def getter(getter, name, *args, **kwargs):
            seen.append((label, name))
            return getter(name, *args, **kwargs)

        return getter

    def model(scope):
        for getter in (watch("outer"), js.by_value(watch("value")), watch("inner")):
            scope = with_getter(scope, getter)
        return (scope / "a/b").get_variable("c/w", ())

    expected = [("inner", "a/b/c/w"), ("value", "c/w"), ("outer", "a/b/c/w")]
    declared = js.declare(model)()
    assert list(declared) == ["a/b/c/w"]
    assert seen == expected
    seen.clear()
    model(js.Scope(declared.init(jax.random.key(0))))
    assert seen == expected


def test_in_a_stack_a_getter_gets_the_stack_s_name_in_a_loop_the_layer_s():
    def stacked(scope, watch):
        stack = with_getter(scope, watch).stacked("layers", 2)
        return jax.lax.scan(lambda x, layer: (x + create(layer), None), 0.0, stack)[0]

    def loop(scope, watch):
        return sum(create(with_getter(scope, watch) / f"layers/{i}") for i in range(2))

    assert names_seen(stacked) == ["layers/w"]
    assert names_seen(loop) == ["layers/0/w", "layers/1/w"]


def test_a_getter_asks_for_other_variables_by_the_names_that_it_gets():
    def normalized(getter, name, shape, **arguments):
        return getter(f"{name}/v", shape, **arguments) * getter(f"{name}/g", shape, **arguments)

    def model(scope, getter):
        body = jax.jit(lambda scope: (scope / "b").get_variable("w", ()))
        return body(with_getter(scope, getter) / "a")

    for getter in (normalized, js.by_value(normalized)):
        tree = js.VarTree({"a/b/w/g": jnp.float32(2), "a/b/w/v": jnp.float32(3)})
        declared = js.declare(lambda scope, getter=getter: model(scope, getter))()
        assert set(declared) == set(tree)
        assert float(model(js.Scope(tree), getter)) == 6.0


def test_a_scope_s_getters_as_one_are_by_value_if_all_are():
    scope = js.Scope(VALUES)
    for getters in itertools.product([double_a, js.by_value(half)], repeat=2):
        again = scope
        for getter in getters:
            again = with_getter(again, getter)
        marked = type(again.custom_getter) is type(js.by_value(half))
        assert marked == (double_a not in getters)


def test_what_is_marked_must_be_callable():
    with pytest.raises(js.GetterError, match="Passed a custom_getter which is not callable: 3"):
        js.by_value(3)
    assert "half" in repr(js.by_value(half))


def test_error_texts_have_the_whole_path_and_no_decision_has():
    body = jax.jit(lambda scope: scope.get_variable("v", ()))
    with pytest.raises(js.MissingVariableError, match="No variable at 'a/v'"):
        body(js.Scope(VALUES) / "a")
    assert repr(js.Scope(VALUES) / "a") == "Scope('a', 1 variables)"
