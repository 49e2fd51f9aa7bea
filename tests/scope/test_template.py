"""`make_template`: a function bound to a name, whose calls share their variables."""

import functools
import gc
import traceback
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import initializers as init

KEY = jax.random.key(0)
X = jnp.ones(2)


def dense(scope, x):
    return x * scope.get_variable("w", (2,), initializer=init.ones)


def declared_names(model, *args):
    return list(js.declare(model)(*args))


def test_later_calls_share_what_the_first_one_created():
    layer = js.make_template("layer", dense)

    def model(scope, x):
        for _ in range(3):
            x = layer(scope, x)
        return x

    # The template holds nothing: each run begins anew.
    for _ in range(2):
        declared = js.declare(model)(X)
        assert declared._times == {"layer/w": 3}
        np.testing.assert_array_equal(model(js.Scope({"layer/w": 2 * X}), X), [8.0, 8.0])
    with jax.checking_leaks():
        apply = jax.jit(lambda tree, x: model(js.Scope(tree), x))
        np.testing.assert_array_equal(apply({"layer/w": 3 * X}, X), [27.0, 27.0])
        gradient = jax.grad(lambda tree: model(js.Scope(tree), X).sum())({"layer/w": 3 * X})
    np.testing.assert_allclose(gradient["layer/w"], [27.0, 27.0])


def test_templates_of_one_name_get_names_in_the_order_of_their_first_calls():
    first, second = (js.make_template("layer", dense) for _ in range(2))

    def model(scope, x):
        scope.variable_scope(None, default_name="layer").get_variable("v", (2,))
        x = second(scope, first(scope, second(scope, x)))
        return x * scope.variable_scope(None, default_name="layer").get_variable("v", (2,))

    assert declared_names(model, X) == ["layer/v", "layer_1/w", "layer_2/w", "layer_3/v"]


@pytest.mark.parametrize("mode", ["declared", "bound"])
def test_the_first_call_s_scope_is_that_of_all(mode):
    layer = js.make_template("layer", dense)

    def model(scope, x):
        a = scope.variable_scope("a", initializer=init.zeros, reuse=js.AUTO_REUSE)
        x = layer(scope, layer(scope / "b/c", layer(a, x)))
        return layer(js.with_updates(lambda s: s)(scope)[0], layer(scope.fold(3), x))

    if mode == "declared":
        assert js.declare(model)(X)._times == {"a/layer/w": 5}
    else:
        np.testing.assert_array_equal(model(js.Scope({"a/layer/w": 2 * X}), X), [32.0, 32.0])


def test_scopes_with_default_names_inside_are_found_again():
    def net(scope, x):
        for _ in range(2):
            x = dense(scope.variable_scope(None, default_name="inner"), x)
        return x

    layer = js.make_template("net", net)

    def model(scope, x):
        return layer(scope, layer(scope / "elsewhere", x))

    names = ["elsewhere/net/inner/w", "elsewhere/net/inner_1/w"]
    assert js.declare(model)(X)._times == dict.fromkeys(names, 2)
    assert model(js.Scope(dict.fromkeys(names, 2 * X)), X)[0] == 16.0


def test_a_template_in_a_template():
    inner = js.make_template("inner", dense)
    outer = js.make_template("outer", lambda scope, x: dense(scope, inner(scope, x)))

    def model(scope, x):
        return inner(scope, outer(scope, outer(scope, x)))

    assert js.declare(model)(X)._times == {"outer/inner/w": 3, "outer/w": 2}


def test_arguments_are_bound_and_passed():
    def sized(scope, *args, size, initializer=init.ones):
        return args, scope.get_variable("w", (size,), initializer=initializer)

    layer = js.make_template("layer", sized, size=3)
    args, w = layer(js.Scope({"layer/w": jnp.zeros(3)}), 1, 2, initializer=init.zeros)
    assert (args, w.shape) == ((1, 2), (3,))
    assert (layer.name, layer.func.func) == ("layer", sized)
    assert repr(layer).startswith("make_template('layer', functools.partial(<function")


def test_a_custom_getter_is_for_the_function_s_variables():
    def doubled(getter, name, **arguments):
        return 2 * getter(name, **arguments)

    layer = js.make_template("layer", dense, custom_getter_=doubled)
    scope = js.Scope({"layer/w": 3 * X, "w": X})
    np.testing.assert_array_equal(layer(scope, layer(scope, dense(scope, X))), [36.0, 36.0])


def test_a_unique_name_is_the_name():
    one, other = (js.make_template("layer", dense, unique_name_="own") for _ in range(2))
    assert declared_names(lambda s, x: one(s, one(s, x)), X) == ["own/w"]
    with pytest.raises(js.VariableExistsError, match="Variable own/w already exists, disallowed"):
        js.declare(lambda s, x: other(s, one(s, x)))(X)


def test_the_scope_may_be_opened_before_the_first_call():
    def model(scope, x):
        a = scope / "a"
        layer = js.make_template("layer", dense, create_scope_now_=a)
        other = js.make_template("layer", dense, a)
        return layer(scope, other(scope, layer(scope / "b", x)))

    assert js.declare(model)(X)._times == {"a/layer/w": 2, "a/layer_1/w": 1}
    with pytest.raises(js.ScopeError, match="no current scope: write create_scope_now_=scope"):
        js.make_template("layer", dense, create_scope_now_=True)


# Errors.


@pytest.mark.parametrize("mode", ["declared", "bound"])
def test_an_error_says_where_the_template_was_made(mode):
    def growing(scope, name):
        return scope.get_variable(name, (2,))

    layer = js.make_template("layer", growing)

    def model(scope):
        layer(scope, "w")
        layer(scope, "v")

    with pytest.raises(js.MissingVariableError) as caught:
        js.declare(model)() if mode == "declared" else model(js.Scope({"layer/w": X}))
    text = "".join(traceback.format_exception(caught.value))
    assert "(In the template 'layer', originally defined at:" in text
    assert (
        "test_an_error_says_where_the_template_was_made" in text.partition("originally defined")[2]
    )
    if mode == "declared":
        assert "Variable layer/v does not exist, or was not created with" in text


def test_a_later_call_may_not_create_trainable_variables_anywhere():
    calls = []

    def leaking(outside, scope, x, trainable):
        calls.append(1)
        return x * outside.get_variable(f"w{len(calls)}", (2,), trainable=trainable)

    def model(scope, x, trainable):
        layer = js.make_template("layer", functools.partial(leaking, scope))
        return layer(scope, layer(scope, x, True), trainable)

    with pytest.raises(js.VariableExistsError) as caught:
        js.declare(model)(X, True)
    assert str(caught.value) == (
        "Trainable variable created when calling a template after the first time, perhaps through "
        "a scope from outside of the template 'layer': ['w2']"
    )
    assert declared_names(model, X, False) == ["w3", "w4"]


def test_a_first_call_that_failed_was_none():
    def failing(scope, x, fail):
        if fail:
            raise ZeroDivisionError
        return dense(scope, x)

    layer = js.make_template("layer", failing)

    def model(scope, x):
        with pytest.raises(ZeroDivisionError):
            layer(scope / "a", x, True)
        return layer(scope, layer(scope, x, False), False)

    assert declared_names(model, X) == ["a/layer/w"]  # it creates, in the scope that was opened


def test_names_are_checked_when_the_template_is_made():
    with pytest.raises(ValueError, match="name cannot be None"):
        js.make_template(None, dense)
    with pytest.raises(js.VariableNameError):
        js.make_template("a b", dense)
    with pytest.raises(js.VariableNameError):
        js.make_template("a", dense, unique_name_="a/")


# Transforms.


TRANSFORMS = {
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "vmap": lambda f: lambda scope, x: jax.vmap(f, (None, 0))(scope, jnp.stack([x, x]))[0],
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("closed_over", [False, True])
def test_templates_in_transforms(transform, closed_over):
    """By a name of its own anywhere; by a default name after a first call outside."""
    own = js.make_template("own", dense, unique_name_="own")
    named = js.make_template("named", dense)

    def around(block):
        if closed_over:
            return lambda s, x: TRANSFORMS[transform](lambda unused, x: block(s, x))(None, x)
        return TRANSFORMS[transform](block)

    def model(scope, x):
        x = around(own)(scope, around(own)(scope, x))
        if closed_over:
            x = around(named)(scope, named(scope / "a", x))
        return x

    tree = {"own/w": 2 * X, **({"a/named/w": 3 * X} if closed_over else {})}
    with jax.checking_leaks():
        assert declared_names(model, X) == list(tree)
        found = model(js.Scope(tree, rngs=KEY), X)
    np.testing.assert_array_equal(found, [36.0 if closed_over else 4.0] * 2)


@pytest.mark.parametrize("mode", ["declared", "bound"])
def test_a_first_call_in_a_transform_needs_a_name_of_its_own(mode):
    layer = js.make_template("layer", dense)

    def model(scope, x):
        return jax.jit(layer)(scope, x)

    with pytest.raises(js.ScopeError) as caught:
        js.declare(model)(X) if mode == "declared" else model(js.Scope({"layer/w": X}), X)
    assert str(caught.value) == (
        "The template 'layer' was called for the first time inside jax.jit, where its name can't "
        "be made unique: JAX may run a body once for two calls. Write make_template(..., "
        "unique_name_='layer'), or call it outside first, and in the body with a scope from "
        "outside."
    )


def test_a_call_from_elsewhere_in_another_trace_is_an_error():
    layer = js.make_template("layer", dense)

    def model(scope, x):
        x = layer(scope / "a", x)
        return jax.jit(lambda x: layer(scope / "b", x))(x)

    with pytest.raises(js.ScopeError, match=r"in the scope 'a/layer', which was opened in another"):
        js.declare(model)(X)


def test_what_a_template_writes_is_returned_by_a_scope_around_it():
    def counting(scope):
        n = scope.get_variable("n", (), initializer=init.zeros, trainable=False)
        return scope.assign("n", n + 1)

    count = js.make_template("count", counting)

    def model(scope, inner):
        count(scope / "a")
        return js.with_updates(count)(scope / inner)[1]

    tree = {"a/count/n": jnp.float32(0)}
    inner, updates = js.with_updates(model)(tree, "a")
    assert float(updates["a/count/n"]) == 1.0
    assert float(inner["count/n"]) == 2.0
    with pytest.raises(js.ScopeError, match=r"'a/count/n' were written inside js\.with_updates or"):
        js.with_updates(model)(tree, "b")


def test_templates_keep_nothing_of_a_run():
    layer = js.make_template("layer", dense)

    value = 2 * X
    kept = weakref.ref(value)
    scope = js.Scope({"layer/w": value})
    layer(scope, layer(scope, X)).block_until_ready()
    gc.disable()
    try:
        del scope, value
        assert kept() is None
    finally:
        gc.enable()
