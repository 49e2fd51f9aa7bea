"""What scopes enter in JAX's stack of names, and how blocks may be left.

JAX's stack is one for each thread, and `jax.named_scope` restores what it found, whatever was
entered since. None of what follows leaves a name on it, or takes another one's away.
"""

import contextlib
import functools
import inspect
import re
import threading

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operation_names import operations

import jscope as js
from jscope import layers
from jscope._scope import name_stack

X = jnp.ones(3)


def scope_of(*names):
    return js.Scope({f"{name}/w": jnp.ones(3) for name in names})


def paths(model):
    """The names of the sines in ``model(x)``, in order, without the first and the last part."""
    found = operations(lambda x: model(x), X)
    return ["/".join(op.name.split("/")[1:-1]) for op in found if op.kind == "stablehlo.sine"]


@js.named
def layer(scope, x):
    del scope
    return jnp.sin(x)


@contextlib.contextmanager
def no_name_is_left():
    """That what is computed afterwards, in the same trace, has no name."""
    yield
    with jax.named_scope("") as stack:
        assert str(stack) == ""


def test_a_block_names_what_is_in_it_and_nothing_behind_it():
    def model(x):
        scope = scope_of("a/b", "c")
        with no_name_is_left():
            with scope.variable_scope("a") as a:
                x = jnp.sin(x)
                with a.variable_scope("b"):
                    x = jnp.sin(x)
                x = jnp.sin(x)
            return jnp.sin(x)

    assert paths(model) == ["a", "a/b", "a", ""]


def test_with_on_one_scope_twice_nests():
    def model(x):
        a = scope_of("a") / "a"
        with no_name_is_left():
            with a:
                with a:
                    x = jnp.sin(x)
                x = layer(a / "b", jnp.sin(x))
            return layer(a, x)

    assert paths(model) == ["a", "a", "a/b", "a"]


def test_a_layer_in_the_block_of_another_scope_has_its_own_path_alone():
    def model(x):
        scope = scope_of("a/b", "c/d")
        with no_name_is_left():
            with scope / "a" as a, a / "b":
                x = layer(scope / "c/d", x)
                x = layer(scope, x)
                with scope / "c":
                    x = layer(a, jnp.sin(x))
                with scope:
                    x = layer(a / "b", jnp.sin(x))
                x = layer(a, x)
                x = jnp.sin(x)
            return x

    assert paths(model) == ["c/d", "layer", "c", "a", "", "a/b", "a", "a/b"]


def test_a_function_enters_what_is_between_the_scope_around_and_its_own():
    @js.named
    def outer(scope, x):
        x = layer(scope, jnp.sin(x))
        return layer(scope / "b/c", x)

    def model(x):
        scope = scope_of("a/b/c")
        return outer(scope / "a", x) + outer(scope, x)

    assert paths(model) == ["a", "a", "a/b/c", "outer", "outer", "outer/b/c"]


def test_names_of_the_user_stay_between_those_of_scopes():
    def model(x):
        with no_name_is_left(), jax.named_scope("mine"), scope_of("a/b", "c") / "a" as a:
            x = jnp.sin(x)
            with jax.named_scope("inner"):
                return layer(a / "b", x)

    assert paths(model) == ["mine/a", "mine/a/inner/b"]


def test_a_block_that_is_left_by_an_exception_is_left():
    def model(x):
        a = scope_of("a") / "a"
        with no_name_is_left():
            with contextlib.suppress(ZeroDivisionError), a:
                js.named(lambda scope: 1 / 0)(a / "b")
            return layer(a, x)

    assert paths(model) == ["a"]


def test_a_scope_that_is_rebuilt_in_a_block_is_in_it():
    def model(x):
        with scope_of("a/b") / "a" as a:
            halves = jax.tree.map(lambda w: w / 2, a)
            return layer(halves / "b", x)

    assert paths(model) == ["a/b"]


def test_two_scopes_that_are_passed_to_one_body_are_not_in_each_other():
    def body(a, b, x):
        with no_name_is_left(), a.variable_scope("deep"):
            return layer(b / "w", jnp.sin(x))

    def model(x):
        scope = scope_of("a", "b")
        return jax.checkpoint(body)(scope / "a", scope / "b", x)

    assert paths(model) == ["checkpoint/deep", "checkpoint/w"]


def test_a_scope_from_outside_has_its_path_in_the_block_of_one_that_was_passed():
    def model(x):
        scope = scope_of("a", "b")

        def body(a, x):
            with a.variable_scope("deep"):
                return layer(scope / "b", x)

        return jax.checkpoint(body)(scope / "a", x)

    assert paths(model) == ["checkpoint/b"]


def test_a_function_that_closes_over_an_entered_scope_has_its_path_under_any_transform():
    def model(x):
        with scope_of("a/b") / "a" as a:
            call = functools.partial(layer, a / "b")
            x = jax.jit(call)(x)
            x = jax.jit(jax.vmap(call))(x)
            return jax.lax.scan(lambda x, _: (call(x), None), x, length=2)[0]

    jitted, mapped, scanned = paths(model)
    assert (jitted, mapped) == ("a/jit(layer)/b", "a/jit(layer)/vmap(b)")
    assert re.fullmatch("a/while/body/[a-z_]+/b", scanned)


def test_a_program_that_is_called_in_a_block_outside_of_it_has_the_whole_path():
    with scope_of("a/b") / "a" as a:
        assert paths(functools.partial(layer, a / "b")) == ["a/b"]


def block_of(scope, x):
    """A generator in a block of a scope; at each step it computes in it."""
    with scope:
        while True:
            x = yield layer(scope / "d", x)


@given(st.lists(st.tuples(st.sampled_from("oucl"), st.integers(0, 3)), max_size=25))
def test_blocks_left_in_any_order_leave_each_layer_its_own_path(actions):
    places = ["a", "a/b", "c", "a"]
    expected = []

    def model(x):
        scope = scope_of("a/b/d", "a/d", "c/d")
        running = {}
        with no_name_is_left():
            for action, i in actions:
                if action == "o" and i not in running:
                    running[i] = block_of(scope / places[i], x)
                    x = next(running[i])
                    expected.append(f"{places[i]}/d")
                elif action == "o":
                    x = running[i].send(x)
                    expected.append(f"{places[i]}/d")
                elif action == "l":
                    x = layer(scope / places[i], x)
                    expected.append(places[i])
                elif action == "c" and i in running:
                    running.pop(i).close()
            for generator in running.values():
                generator.close()
        return jnp.sin(x)

    assert paths(model) == [*expected, ""]


def test_a_block_that_is_left_in_another_thread_is_taken_from_the_stack_by_the_next_one():
    def model(x):
        scope = scope_of("a/d", "b")
        with no_name_is_left():
            generator = block_of(scope / "a", x)
            x = next(generator)
            thread = threading.Thread(target=generator.close)
            thread.start()
            thread.join()
            x = layer(scope / "b", x)
            return jnp.sin(x)

    assert paths(model) == ["a/d", "b", ""]


def test_a_block_of_another_thread_names_nothing_here():
    def model(x):
        scope = scope_of("a/d", "b")
        with scope / "a", no_name_in_thread():
            return jnp.sin(x)

    @contextlib.contextmanager
    def no_name_in_thread():
        found = []
        call = functools.partial(paths, functools.partial(layer, scope_of("b") / "b"))
        thread = threading.Thread(target=lambda: found.append(call()))
        thread.start()
        thread.join()
        assert found == [["b"]]
        yield

    assert paths(model) == ["a"]


def test_a_block_that_is_left_in_an_inner_trace_changes_nothing_there():
    def model(x):
        scope = scope_of("a/d", "b")
        generator = block_of(scope / "a", x)
        with no_name_is_left():
            x = next(generator)

            @jax.jit
            def body(x):
                with scope / "b":
                    generator.close()
                    return jnp.sin(x)

            x = body(x)
            x = layer(scope / "b", x)
            return jnp.sin(x)

    assert paths(model) == ["a/d", "a/jit(body)/b", "b", ""]


def test_a_block_that_outlives_its_trace_changes_nothing_outside():
    kept = []

    def model(x):
        scope = scope_of("a/d", "b")

        @jax.jit
        def body(x):
            kept.append(block_of(scope / "a", x))
            return next(kept[0])

        with no_name_is_left():
            with scope / "b":
                x = body(x)
                kept.pop().close()
                x = jnp.sin(x)
            return layer(scope / "b", x)

    assert paths(model) == ["b/jit(body)/a/d", "b", "b"]


def test_a_block_is_left_while_a_name_of_the_user_is_on_top():
    def model(x):
        scope = scope_of("a/d", "b")
        generator = block_of(scope / "a", x)
        with no_name_is_left():
            with jax.named_scope("mine"):
                x = next(generator)  # on the stack: mine, a
            x = jnp.sin(x)  # the user's name took that of the block along
            generator.close()
            return layer(scope / "b", jnp.sin(x))

    assert paths(model) == ["mine/a/d", "", "", "b"]


def test_leaving_a_scope_that_was_not_entered_does_nothing():
    def model(x):
        a = scope_of("a") / "a"
        with no_name_is_left():
            a.__exit__(None, None, None)
            with a:
                return jnp.sin(x)

    assert paths(model) == ["a"]


def test_blocks_that_are_never_left_are_forgotten():
    def model(x):
        scope = scope_of("a/b")
        for _ in range(100):
            (scope / "a").__enter__()
        return layer(scope / "a/b", x)

    for _ in range(5):
        assert paths(model) == ["a/b"]
    assert len(name_stack._here.blocks) <= 256


def test_a_call_outlives_any_number_of_blocks():
    @js.named
    def outer(scope, x):
        with contextlib.ExitStack() as stack:
            for i in range(300):
                stack.enter_context(scope / f"b_{i}")
            x = layer(scope / "b_299/w", x)
        return jnp.sin(x)

    def model(x):
        scope = scope_of("a")
        with no_name_is_left():
            x = outer(scope / "a", x)
            return layer(scope, x)

    assert paths(model) == ["a/b_299/w", "a", "layer"]


# Templates, declarations, tracing.


def test_a_template_names_what_it_computes_after_its_scope():
    template = js.make_template("t", lambda scope, x: layer(scope / "w", jnp.sin(x)))

    def model(x):
        scope = scope_of("b/t", "b/t_1")
        with scope / "b" as b:
            return template(b, template(b, x))

    assert paths(model) == ["b/t", "b/t/w"] * 2


def test_names_are_the_same_while_declaring_and_while_applying():
    seen = []

    @js.named
    def block(scope, x):
        with jax.named_scope("") as stack:
            seen.append(str(stack))
        return x * scope.get_variable("w", x.shape)

    def model(scope, x):
        x = block(scope / "a", x)
        with scope.variable_scope("b") as b:
            x = jax.checkpoint(block)(b, jax.checkpoint(block)(b / "c", x))
        return block(scope, x)

    tree = js.init(model)(jax.random.key(0), X)
    declared = [*seen]
    seen.clear()
    jax.jit(lambda tree: model(js.Scope(tree), X)).lower(tree)
    assert declared == seen == ["a/", "block/", "block/", "block/"]


def test_equal_blocks_in_blocks_of_their_own_are_traced_once():
    traces = []

    @js.named
    @jax.jit
    def block(scope, x):
        traces.append(scope.name)
        return layer(scope / "b", x)

    def model(x):
        scope = scope_of(*(f"a_{i}" for i in range(4)))
        for i in range(4):
            with scope.variable_scope(f"a_{i}") as a:
                x = block(a, x)
        return x

    assert paths(model) == [f"a_{i}/jit(block)/b" for i in range(4)]
    assert traces == [""]


def test_no_tracer_is_kept():
    def model(x):
        scope = js.Scope({"a/w": x})
        generator = block_of(scope / "a", x)
        x = next(generator)
        generator.close()
        return layer(scope / "a", x)

    with jax.checking_leaks():
        jax.jit(model)(X)


# The decorator.


def test_a_named_function_is_as_it_was():
    @js.named
    def block(scope, x, *, training):
        """Says what it does."""
        return x * scope["w"] * training

    assert block.__name__ == "block"
    assert block.__doc__ == "Says what it does."
    assert list(inspect.signature(block).parameters) == ["scope", "x", "training"]
    scope = scope_of("a") / "a"
    jitted = jax.jit(block, static_argnames="training")
    assert (
        jitted(scope, X, training=2).tolist() == block(scope, X, training=2).tolist() == [2.0] * 3
    )


def test_a_method_a_partial_and_an_argument_by_name_have_a_scope_too():
    class Model:
        @js.named
        def __call__(self, scope, x):
            return jnp.sin(x)

    def model(x):
        scope = scope_of("a", "b")
        x = Model()(scope / "a", x)
        x = js.named(Model())(scope, x)
        x = js.named(functools.partial(lambda x, scope: jnp.sin(x)))(x=x, scope=scope / "b")
        return js.named(functools.partial(layer))(scope, x)

    assert paths(model) == ["a", "Model", "b", "layer"]


def test_a_named_function_that_is_given_no_scope_says_so():
    with pytest.raises(
        js.ScopeError, match=r"layer was called without a scope.*given VarTree, ArrayImpl\. Pass"
    ):
        layer(js.VarTree({"w": X}), X)
    with pytest.raises(js.ScopeError, match="given no arguments"):
        layer()


def test_a_generator_can_not_be_named():
    async def coroutine(scope):
        del scope

    for function in (block_of, coroutine):
        with pytest.raises(TypeError, match=r"the call returns before.*Write `with scope:`"):
            js.named(function)


def test_layers_without_a_scope_of_their_own_have_the_name_around():
    def model(x):
        with scope_of("a") / "a":
            return layers.max_pool(jnp.sin(x)[None, :, None], pool_size=1)

    assert paths(model) == ["a"]
