"""Blocks of ``with`` that show mistakes get a warning, and no correct program does."""

import threading
import warnings

import jax
import jax.numpy as jnp
import pytest

import jscope as js
from jscope import tf1
from jscope.tf1 import contrib, layers

X = jnp.ones((2, 3))


def noticed(model):
    """The warnings of a declaration, and the names that it declares."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = list(js.declare(model)(X))
    assert all(each.category is js.ScopeWarning for each in caught)
    return caught, names


def variable(scope, x):
    return scope.get_variable("w", (3, 2))


@js.named
def named_layer(scope, x):
    return scope.get_variable("w", (3, 2))


MISTAKES = {
    "a variable": (variable, ["w"]),
    "a function of the user's": (lambda s, x: variable(s, x), ["w"]),
    "a function with a name for profiles": (named_layer, ["w"]),
    "a layer without a name": (
        lambda s, x: layers.dense(s, x, 2),
        ["dense/kernel", "dense/bias"],
    ),
    "a layer of contrib": (
        lambda s, x: contrib.fully_connected(s, x, 2, scope="fc"),
        ["fc/weights", "fc/biases"],
    ),
    "a template": (lambda s, x: js.make_template("t", variable)(s, x), ["t/w"]),
    "an RNN": (
        lambda s, x: layers.dynamic_rnn(s, layers.GRUCell(1), x[None], dtype=x.dtype),
        [
            f"rnn/gru_cell/{gate}/{of}"
            for gate in ("gates", "candidate")
            for of in ("kernel", "bias")
        ],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("outer", ["", "net"])
def test_what_is_created_beside_a_scope_that_is_not_used_is_noticed(mistake, outer):
    created, names = MISTAKES[mistake]

    def model(scope, x):
        scope = scope / outer if outer else scope
        with scope.variable_scope("enc"):
            created(scope, x)

    caught, declared = noticed(model)
    below = [f"{outer}/{name}" if outer else name for name in names]
    assert declared == below
    assert len(caught) == 1
    text = str(caught[0].message)
    path = f"{outer}/enc" if outer else "enc"
    assert text.startswith(f"The scope {path!r} was entered by `with` and not used")
    assert f"were created beside it: {below[0]!r}" in text
    assert "Write `with scope.variable_scope('enc') as enc`" in text
    assert "enc.get_variable(name, shape)" in text
    assert "jax.named_scope('enc')" in text
    line = model.__code__.co_firstlineno + 2
    assert f"Entered at:\n  {__file__}:{line}, in " in text
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


def test_where_the_scope_has_a_name_that_is_not_one_of_python_s_another_is_offered():
    def model(scope, x):
        with scope.variable_scope("a/1x") as unused:
            del unused
            variable(scope, x)

    (warning,), _ = noticed(model)
    assert "Write `with scope.variable_scope('a/1x') as inner`" in str(warning.message)


def test_of_nested_blocks_each_whose_scope_is_not_used_is_noticed():
    def neither(scope, x):
        with scope.variable_scope("a"):  # noqa: SIM117
            with scope.variable_scope("b"):
                variable(scope, x)

    def inner_alone(scope, x):
        with scope.variable_scope("a"):  # noqa: SIM117
            with scope.variable_scope("b") as b:
                variable(b, x)

    def outer_alone(scope, x):
        with scope.variable_scope("a") as a:  # noqa: SIM117
            with a.variable_scope("b"):
                variable(a, x)

    # Of the first, the outer one when the inner one is mended: then it is the second.
    for model, scope in ((neither, "b"), (inner_alone, "a"), (outer_alone, "a/b")):
        caught, _ = noticed(model)
        assert [str(each.message).split("'")[1] for each in caught] == [scope]


def test_one_line_of_a_program_is_noticed_once():
    def model(scope, x):
        for i in range(3):
            with scope.variable_scope(f"layer_{i}"):
                scope.get_variable(f"w_{i}", (3, 2))
        with scope.variable_scope("other"):
            scope.get_variable("w", (3, 2))

    caught, names = noticed(model)
    assert names == ["w_0", "w_1", "w_2", "w"]
    assert [str(each.message).split("'")[1] for each in caught] == ["layer_0", "other"]


def test_an_initialization_that_runs_the_model_notices_it_too():
    def model(scope, x):
        with scope.variable_scope("enc"):
            return x @ variable(scope, x)

    with pytest.warns(js.ScopeWarning, match="The scope 'enc' was entered"):
        js.init(model, inline=True)(jax.random.key(0), X)


# A scope that is used after its block, by the name of the one around it.


def a_variable_after(scope, x):
    with scope.variable_scope("enc") as scope:
        variable(scope, x)
    return scope.get_variable("v", (2,))


def a_layer_after(scope, x):
    with scope.variable_scope("enc") as scope:
        x = layers.dense(scope, x, 2)
    return layers.dense(scope, x, 2)


def a_layer_after_two_blocks(scope, x):
    with scope.variable_scope("enc") as scope:
        variable(scope, x)
    with scope.variable_scope("dec") as inner:
        return variable(inner, x)


@pytest.mark.parametrize(
    ("model", "line", "created"),
    [
        (a_variable_after, 3, "enc/v"),
        (a_layer_after, 3, "enc/dense_1/kernel"),
        (a_layer_after_two_blocks, 4, "enc/dec/w"),
    ],
)
def test_a_name_that_refers_to_the_inner_scope_after_its_block_is_noticed(model, line, created):
    caught, names = noticed(model)
    assert created in names
    assert len(caught) == 1
    text, first = str(caught[0].message), model.__code__.co_firstlineno
    assert text.startswith(f"Variable {created!r} was created in the scope 'enc' after its block")
    assert "the Python name scope still refers to that scope" in text
    assert "Write `with scope.variable_scope('enc') as enc`, and enc in the block" in text
    assert "write enc = scope / 'enc' without a block" in text
    assert f"Entered at:\n  {__file__}:{first + 1}, in " in text
    is_its_line = (a_variable_after, a_layer_after, a_layer_after_two_blocks).index(model) < 2
    where = first + line if is_its_line else variable.__code__.co_firstlineno + 1
    assert (caught[0].filename, caught[0].lineno) == (__file__, where)


def test_scopes_of_a_loop_that_come_to_be_in_each_other_are_noticed():
    def model(scope, x):
        for i in range(3):
            with scope.variable_scope(f"layer_{i}") as scope:
                variable(scope, x)

    (warning,), names = noticed(model)
    assert names == ["layer_0/w", "layer_0/layer_1/w", "layer_0/layer_1/layer_2/w"]
    assert str(warning.message).startswith("Variable 'layer_0/layer_1/w' was created in the scope")


# Correct programs. Each creates a variable through the outer scope in a block, but where none is
# created.


def used_for_a_variable(scope, x):
    with scope.variable_scope("a") as a:
        return variable(scope, x), variable(a, x)


def used_before_it_is_entered(scope, x):
    a = scope.variable_scope("a")
    variable(a, x)
    with a:
        return variable(scope, x)


def used_by_a_scope_below(scope, x):
    with scope.variable_scope("a") as a:
        return variable(a / "b", x), variable(scope, x)


def used_by_a_layer(scope, x):
    with scope.variable_scope("a") as a:
        return layers.dense(a, x, 2) + x @ variable(scope, x)


def used_in_a_transform(scope, x):
    with scope.variable_scope("a") as a:
        return jax.jit(variable)(a, x), variable(scope, x)


def used_in_a_transform_that_was_traced_before(scope, x):
    block = jax.jit(lambda s, x: variable(s, x))
    block(scope.shared("a"), x)
    with scope.shared("a") as a:
        return block(a, x), variable(scope, x)


def used_for_a_key(scope, x):
    with scope.variable_scope("a") as a:
        return a.rng("dropout"), variable(scope, x)


def used_for_a_record(scope, x):
    with scope.variable_scope("a") as a:
        a.record("x", x)
        return variable(scope, x)


def used_for_its_name(scope, x):
    with scope.variable_scope("a") as a:
        return scope.get_variable(f"{a.name}_w", (3, 2))


def used_for_a_question(scope, x):
    with scope.variable_scope("a") as a:
        return None if a.has("w") else variable(scope, x)


def used_with_other_defaults(scope, x):
    with scope.variable_scope("a") as a:
        again = a.variable_creator_scope(lambda creator, **arguments: creator(**arguments))
        return variable(again, x), variable(scope, x)


def used_as_an_object(scope, x):
    with scope.variable_scope("a") as a:
        return variable(scope.variable_scope(a), x), variable(scope, x)


def used_by_a_template(scope, x):
    with scope.variable_scope("a") as a:
        return js.make_template("t", variable)(a, x), variable(scope, x)


def kept_scopes_are_entered(scope, x):
    kept = scope.variable_scope("kept")
    with scope.variable_scope("a"):  # noqa: SIM117
        with scope.variable_scope(kept) as again:
            return variable(again, x)


def kept_scopes_are_used(scope, x):
    kept = scope.variable_scope("kept")
    with scope.variable_scope("a"):
        return variable(kept, x), variable(kept.variable_scope("b"), x)


def kept_scopes_get_creators(scope, x):
    kept = scope.variable_scope("kept")
    with scope.variable_scope("a"):
        again = kept.variable_creator_scope(lambda creator, **arguments: creator(**arguments))
        return variable(again, x)


def a_block_of_another_scope_is_inside(scope, x):
    other = scope / "other"
    with scope.variable_scope("a"):  # noqa: SIM117
        with other:
            return variable(other, x), variable(scope, x)


def templates_share_what_there_is(scope, x):
    template = js.make_template("t", variable)
    template(scope, x)
    with scope.variable_scope("a"):
        return template(scope, x)


def templates_may_pass_over_their_scope(scope, x):
    return js.make_template("t", lambda s, x: variable(scope, x))(scope, x)


def a_scope_of_its_own_name_after_its_block(scope, x):
    with scope.variable_scope("a") as a:
        variable(a, x)
    return a.get_variable("v", (2,)), variable(scope, x)


def a_scope_that_takes_the_place_of_the_outer_one(scope, x):
    with scope.variable_scope("a") as a:
        variable(a, x)
        scope = a
    return scope.get_variable("v", (2,))


def a_scope_that_is_kept_under_its_own_name(scope, x):
    with scope.variable_scope("a") as scope:
        a = scope
    return variable(a, x)


def a_name_that_no_one_uses_after_the_block(scope, x):
    with scope.variable_scope("a") as scope:
        x = variable(scope, x)
    return jnp.tanh(x)


def a_name_that_is_bound_anew(scope, x):
    outer = scope
    with scope.variable_scope("a") as scope:
        variable(scope, x)
    scope = outer
    return variable(scope, x)


def a_scope_without_a_block(scope, x):
    scope = scope.variable_scope("a")
    return variable(scope, x)


def what_exists_is_shared(scope, x):
    shared = scope.variable_scope(scope, reuse=js.AUTO_REUSE)
    variable(shared, x)
    with shared.variable_scope("a"):
        return variable(shared, x)


def a_name_for_operations(scope, x):
    with scope.variable_scope("a"):
        return jnp.tanh(x)


def a_scope_by_a_slash(scope, x):
    with scope / "a":
        return x @ variable(scope, x)


def a_scope_below_by_a_slash(scope, x):
    with scope.variable_scope("loss"):
        return x @ variable(scope / "net", x)


def a_scope_with_other_arguments(scope, x):
    with tf1.arg_scope(scope, [layers.dense], use_bias=False):
        return layers.dense(scope, x, 2)


def a_scope_entered_again(scope, x):
    with scope.variable_scope(scope, reuse=js.AUTO_REUSE):
        return variable(scope, x)


def an_error_that_is_caught(scope, x):
    try:
        with scope.variable_scope("a"):
            variable(scope, x)
            raise KeyError
    except KeyError:
        return None


def a_block_of_another_thread(scope, x):
    entered, ended = threading.Event(), threading.Event()

    def other():
        with scope.variable_scope("a"):
            entered.set()
            ended.wait()

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait()
    created = variable(scope, x)
    ended.set()
    thread.join()
    return created


CORRECT = [
    used_for_a_variable,
    used_before_it_is_entered,
    used_by_a_scope_below,
    used_by_a_layer,
    used_in_a_transform,
    used_in_a_transform_that_was_traced_before,
    used_for_a_key,
    used_for_a_record,
    used_for_its_name,
    used_for_a_question,
    used_with_other_defaults,
    used_as_an_object,
    used_by_a_template,
    kept_scopes_are_entered,
    kept_scopes_are_used,
    kept_scopes_get_creators,
    a_block_of_another_scope_is_inside,
    templates_share_what_there_is,
    templates_may_pass_over_their_scope,
    a_scope_of_its_own_name_after_its_block,
    a_scope_that_takes_the_place_of_the_outer_one,
    a_scope_that_is_kept_under_its_own_name,
    a_name_that_no_one_uses_after_the_block,
    a_name_that_is_bound_anew,
    a_scope_without_a_block,
    what_exists_is_shared,
    a_name_for_operations,
    a_scope_by_a_slash,
    a_scope_below_by_a_slash,
    a_scope_with_other_arguments,
    a_scope_entered_again,
    an_error_that_is_caught,
    a_block_of_another_thread,
]


@pytest.mark.parametrize("model", CORRECT, ids=lambda model: model.__name__)
def test_a_correct_program_gets_no_warning(model):
    caught, _ = noticed(model)
    assert not caught


def test_applying_a_model_says_nothing():
    def model(scope, x):
        with scope.variable_scope("enc"):
            return x @ variable(scope, x)

    assert model(js.Scope({"w": jnp.ones((3, 2))}), X).shape == (2, 2)
