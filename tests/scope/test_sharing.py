"""Sharing is requested, never inferred: TF1's table, and no false alarm under retracing."""

import functools
import pickle
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jscope as js
from jscope import initializers as init
from jscope._errors import (
    DtypeMismatchError,
    MissingVariableError,
    ShapeMismatchError,
    VariableExistsError,
)
from jscope._scope.call_sites import call_site, site_text
from jscope._scope.usage import _MOST_TRACES
from jscope._variables.request import AUTO_REUSE

KEY = jax.random.key(0)
X = jnp.ones((2, 3))


def dense(scope, x):
    w = scope.get_variable("w", (x.shape[-1], 3), initializer=init.glorot_uniform())
    return x @ w


def declared_times(model, *args):
    return js.declare(model)(*args)._times


# The table of creating and getting.


@pytest.mark.parametrize("mode", ["declaring", "bound"])
@pytest.mark.parametrize("reuse", [False, True, AUTO_REUSE])
@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("asked_before", [False, True])
def test_the_table_of_creating_and_getting(mode, reuse, exists, asked_before):
    """A bound scope never creates; declaring, what exists was requested before."""
    tree = {"a/w": jnp.ones(2)} if exists else {}

    def model(scope):
        if asked_before and exists:
            (scope / "a").get_variable("w", 2)
        return scope.variable_scope("a", reuse=reuse).get_variable("w", 2)

    if mode == "bound":
        run = functools.partial(model, js.Scope(tree))
        fails = MissingVariableError if not exists else None
    else:
        run = js.declare(model)
        fails = MissingVariableError if reuse is True and not (asked_before and exists) else None
    if exists and asked_before and reuse is False:
        fails = VariableExistsError
    if fails is None:
        run()
        return
    with pytest.raises(fails) as caught:
        run()
    assert isinstance(caught.value, ValueError)


def first_place(scope):
    return scope.get_variable("w", (2,))


def second_place(scope):
    return scope.get_variable("w", (2,))


@pytest.mark.parametrize("mode", ["declaring", "bound", "bound under jit"])
def test_asking_twice_names_the_variable_and_both_places(mode):
    def model(scope):
        first_place(scope / "a")
        return second_place(scope / "a")

    runs = {
        "declaring": js.declare(model),
        "bound": lambda: model(js.Scope({"a/w": jnp.ones(2)})),
        "bound under jit": lambda: jax.jit(model)(js.Scope({"a/w": jnp.ones(2)})),
    }
    with pytest.raises(VariableExistsError) as caught:
        runs[mode]()
    message = str(caught.value)
    assert message.startswith(
        "Variable a/w already exists, disallowed. Did you mean to set reuse=True or "
        "reuse=js.AUTO_REUSE in variable_scope, or scope.shared(...)?"
    )
    first, second = message.split("Originally defined at:\n")[1].split("Requested again at:\n")
    lines = [f.__code__.co_firstlineno + 1 for f in (first_place, second_place)]
    assert f"test_sharing.py:{lines[0]}, in first_place" in first.splitlines()[0]
    assert f"test_sharing.py:{lines[1]}, in second_place" in second.splitlines()[0]
    for place in (first, second):
        assert len(place.splitlines()) == 5
        assert "in test_asking_twice_names_the_variable_and_both_places" in place
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_the_hint_fits_the_mode():
    with pytest.raises(
        VariableExistsError, match=r"needs a scope for each: scope / f'layer_\{i\}'"
    ):
        js.declare(lambda s: [dense(s, X) for _ in range(2)])()
    scope = js.Scope({"w": jnp.ones((3, 3))})
    dense(scope, X)
    with pytest.raises(VariableExistsError, match=r"give it a new scope: model\(js\.Scope\(tree\)"):
        dense(scope, X)


def test_what_does_not_exist_says_so_in_tf_s_words():
    with pytest.raises(MissingVariableError) as caught:
        js.declare(lambda s: s.variable_scope("a", reuse=True).get_variable("w", 3))()
    assert str(caught.value) == (
        "Variable a/w does not exist, or was not created with get_variable(). Did you mean to set "
        "reuse=js.AUTO_REUSE in variable_scope?"
    )


@pytest.mark.parametrize("mode", ["declaring", "bound"])
def test_sharing_checks_the_shape_and_a_named_dtype(mode):
    def run(*second, **named):
        def model(scope):
            scope.shared("a").get_variable("w", (3,), "int32", init.zeros)
            return scope.shared("a").get_variable("w", *second, **named)

        if mode == "declaring":
            return js.declare(model)()["a/w"]
        return model(js.Scope({"a/w": jnp.zeros(3, jnp.int32)}))

    with pytest.raises(ShapeMismatchError, match=r"share variable a/w, but specified shape \(2,\)"):
        run((2,))
    with pytest.raises(DtypeMismatchError, match="specified dtype float32 and found dtype int32"):
        run((3,), "float32")
    with pytest.raises(ShapeMismatchError, match=r"specified shape \(5,\) and found shape \(3,\)"):
        run(initializer=np.zeros(5, np.int32))
    # All else is ignored, as in TF1; and a dtype that nobody named is no dtype.
    for found in (
        run((3,)),
        run(3),
        run(),
        run((3,), initializer=init.random_normal(0.0, 1.0)),
        run(initializer=np.ones(3, np.float32)),
        run((3,), trainable=False, regularizer=jnp.sum),
    ):
        assert found.shape == (3,)
        assert found.dtype == np.int32


def test_the_message_of_another_shape_says_where_the_variable_was_made():
    def model(scope):
        first_place(scope.shared("a"))
        scope.shared("a").get_variable("w", (3,))

    with pytest.raises(
        ShapeMismatchError, match=r"(?s)found shape \(2,\)\. Originally.*first_place"
    ):
        js.declare(model)()


def test_a_shared_variable_needs_no_initializer_that_would_do():
    """Complex numbers have no default initializer; sharing needs none."""

    def model(scope):
        a = scope.shared("a")
        a.get_variable("w", 3, "complex64", init.zeros)
        a.get_variable("w", 3, "complex64")
        a.get_variable("w")

    assert declared_times(model) == {"a/w": 3}


def test_the_scope_s_dtype_counts_as_named():
    def model(scope):
        scope.shared("a").get_variable("w", 3)
        scope.variable_scope("a", reuse=True, dtype="float16").get_variable("w", 3)

    with pytest.raises(DtypeMismatchError, match="specified dtype float16 and found dtype float32"):
        js.declare(model)()


def test_sharing_creates_a_weight_once():
    def model(scope, x):
        for _ in range(5):
            x = dense(scope.shared("tied"), x)
        return x

    declared = js.declare(model)(X)
    variables = declared.init(KEY)
    assert variables.nbytes == 9 * 4
    assert "uses\ntied/w  (3, 3)  float32  yes                 9   36 B     5" in repr(declared)
    w = variables["tied/w"]
    np.testing.assert_allclose(
        model(js.Scope(variables), X), functools.reduce(jnp.matmul, [w] * 5, X), rtol=1e-5
    )


def test_a_variable_and_a_scope_may_have_one_name():
    def model(scope):
        scope.get_variable("w", 2)
        (scope / "w").get_variable("Adam", 2)

    assert list(js.declare(model)()) == ["w", "w/Adam"]


def test_a_name_with_a_slash_is_the_same_variable():
    def model(scope):
        scope.get_variable("a/w", 2)
        (scope / "a").get_variable("w", 2)

    with pytest.raises(VariableExistsError, match="Variable a/w already exists"):
        js.declare(model)()


def test_reading_what_exists_is_never_a_second_use():
    def model(scope):
        w = scope.get_variable("w", 2)
        return w + scope["w"] + scope["w"]

    assert declared_times(model) == {"w": 3}
    np.testing.assert_array_equal(model(js.Scope({"w": jnp.ones(2)})), [3.0, 3.0])


def test_has_tells_what_was_created_so_far():
    seen = []

    def model(scope):
        seen.append((scope / "a").has("w"))
        (scope / "a").get_variable("w", 2)
        seen.append((scope / "a").has("w"))
        seen.append(scope.has("a"))

    js.declare(model)()
    assert seen == [False, True, False]


# No false alarms: each of these runs a body once or more, in one or several traces, and asks
# for each variable once per run. First declaring, then bound, under JAX's leak checker.


def in_jit(scope, x):
    return jax.jit(dense)(scope / "a", x)


def in_jit_of_checkpoint(scope, x):
    return jax.jit(jax.checkpoint(dense))(scope / "a", x)


def in_jit_closing_over(scope, x):
    return jax.jit(lambda x: dense(scope / "a", x))(x)


def in_checkpoint_closing_over(scope, x):
    return jax.checkpoint(lambda x: dense(scope / "a", x))(x)


def in_vmap(scope, x):
    return jax.vmap(dense, in_axes=(None, 0))(scope / "a", x)


def in_scan_closing_over(scope, x):
    return lax.scan(lambda x, _: (dense(scope / "a", x), None), x, length=3)[0]


def in_scan_carry(scope, x):
    return lax.scan(lambda sx, _: ((sx[0], dense(*sx)), None), (scope / "a", x), length=3)[0][1]


def in_fori_loop(scope, x):
    return lax.fori_loop(0, 3, lambda i, x: dense(scope / "a", x), x)


def in_while_loop(scope, x):
    # In both of the loop's functions: two traces.
    def go_on(ix):
        return (ix[0] < 3) & (dense(scope / "a", ix[1]).sum() < jnp.inf)

    return lax.while_loop(go_on, lambda ix: (ix[0] + 1, dense(scope / "a", ix[1])), (0, x))[1]


def in_both_branches(scope, x):
    a = scope / "a"
    return lax.cond(x.sum() > 0, lambda x: dense(a, x), lambda x: -dense(a, x), x)


def in_grad(scope, x):
    return jax.grad(lambda x: dense(scope / "a", x).sum())(x)


def in_value_and_grad_of_checkpoint(scope, x):
    return jax.value_and_grad(jax.checkpoint(lambda x: dense(scope / "a", x).sum()))(x)[1]


def in_hessian(scope, x):
    return jax.hessian(lambda x: (dense(scope / "a", x) ** 3).sum())(x).sum((2, 3))


def in_linearize(scope, x):
    y, push = jax.linearize(lambda x: dense(scope / "a", x), x)
    return y + push(x)


def in_jvp(scope, x):
    return jax.jvp(lambda x: dense(scope / "a", x), (x,), (x,))[1]


def in_vjp(scope, x):
    y, pull = jax.vjp(lambda x: dense(scope / "a", x), x)
    return pull(y)[0] + pull(2 * y)[0]


def in_custom_vjp(scope, x):
    @jax.custom_vjp
    def f(s, x):
        return dense(s, x)

    f.defvjp(lambda s, x: (dense(s, x), (s, x)), lambda kept, g: (kept[0], g @ kept[0]["w"].T))
    return jax.grad(lambda x: f(scope / "a", x).sum())(x)


def in_custom_jvp(scope, x):
    @jax.custom_jvp
    def f(s, x):
        return dense(s, x)

    f.defjvp(lambda primals, tangents: (dense(*primals), tangents[1] @ primals[0]["w"]))
    return jax.jvp(lambda x: f(scope / "a", x), (x,), (x,))[1]


def in_eval_shape(scope, x):
    jax.eval_shape(dense, scope / "a", x)
    return dense(scope / "a", x)


def in_jit_twice_at_two_shapes(scope, x):
    block = jax.jit(dense)
    return block(scope / "a", x) + block(scope / "a", x[:1]).sum()


MODELS = [f for name, f in sorted(globals().items()) if name.startswith("in_")]


@pytest.mark.parametrize("model", MODELS, ids=lambda f: f.__name__)
def test_retracing_is_not_sharing(model):
    with jax.checking_leaks():
        declared = js.declare(model)(X)
        assert {n: (s.shape, s.dtype) for n, s in declared.items()} == {
            "a/w": ((3, 3), np.dtype("float32"))
        }
        variables = declared.init(KEY)
        eagerly = model(js.Scope(variables), X)
        jitted = jax.jit(lambda v, x: model(js.Scope(v), x))(variables, X)
    np.testing.assert_allclose(jitted, eagerly, rtol=1e-5)
    for _ in range(2):  # the same JAX caches, a new scope
        np.testing.assert_array_equal(model(js.Scope(variables), X), eagerly)


@pytest.mark.parametrize("model", MODELS, ids=lambda f: f.__name__)
def test_in_transforms_declaring_twice_gives_the_same(model):
    assert dict(js.declare(model)(X)) == dict(js.declare(model)(X))


def test_one_use_inside_and_one_outside_of_jit_is_seen_in_the_table_alone():
    def model(scope, x):
        return jax.jit(dense)(scope / "a", dense(scope / "a", x))

    assert declared_times(model, X) == {"a/w": 2}
    assert model(js.Scope({"a/w": jnp.ones((3, 3))}), X).shape == (2, 3)


def test_sharing_inside_of_one_trace_is_caught_behind_a_boundary():
    twice = jax.jit(lambda s, x: dense(s, dense(s, x)))
    with pytest.raises(VariableExistsError, match="Variable a/w already exists"):
        js.declare(lambda s, x: twice(s / "a", x))(X)
    with pytest.raises(VariableExistsError, match="Variable a/w already exists"):
        twice(js.Scope({"a/w": jnp.ones((3, 3))}) / "a", X)


def test_reuse_travels_through_a_boundary():
    def model(scope, x):
        return jax.jit(lambda s, x: dense(s, dense(s, x)))(scope.shared("a"), x)

    declared = js.declare(model)(X)
    assert declared._times == {"a/w": 2}
    assert model(js.Scope(declared.init(KEY)), X).shape == (2, 3)


def test_a_scope_of_a_long_loop_keeps_few_traces():
    scope = js.Scope({"w": jnp.ones((3, 3))})
    for _ in range(30):
        jax.eval_shape(lambda x: dense(scope, x), X)
    assert len(scope._usage._uses["w"]) == _MOST_TRACES


# Where a variable was requested.


def test_call_sites_leave_out_jscope_and_jax_and_are_short():
    def deep(depth):
        return call_site() if depth == 0 else deep(depth - 1)

    text = site_text(deep(20))
    assert text.count("\n") == 4
    assert all("in test_call_sites" in line for line in text.splitlines())
    assert site_text(()) == "  (unknown)"
    here = jax.jit(lambda x: (sites.append(call_site(50)), x)[1])
    sites = []
    here(1.0)
    assert not any(
        "/jax/" in line or "/jscope/_" in line for line in site_text(sites[0]).split("\n")
    )


def test_a_place_without_a_line_is_that_of_its_function():
    code = compile("x = 1", "somewhere.py", "exec")
    assert site_text(((code, 10_000),)) == "  somewhere.py:1, in <module>"


def test_threads_that_apply_one_model_make_a_scope_each():
    def model(scope, x):
        return (scope / "a").get_variable("w", (3,)) * x

    tree = js.VarTree({"a/w": jnp.ones(3)})
    with ThreadPoolExecutor(4) as pool:
        outs = list(pool.map(lambda x: model(js.Scope(tree), x), range(8)))
    assert [float(out[0]) for out in outs] == list(range(8))
    # One scope is one application of a model, in whichever thread.
    scope = js.Scope(tree)
    model(scope, 1)
    with ThreadPoolExecutor(1) as pool, pytest.raises(js.VariableExistsError) as caught:
        pool.submit(model, scope, 2).result()
    assert (
        "To apply a model again, or in another thread, give it a new scope: "
        "model(js.Scope(tree), ...)." in str(caught.value)
    )
