"""Programs that fail, and what becomes of them with the line that their error offers.

A program ends with the lines that fail, behind ``# Fails:``. The cure takes their place; ``$`` in
it is the offered code, in which ``...`` is what the cure gives in a first line ``FILL ...``.
"""

from typing import NamedTuple


class Situation(NamedTuple):
    """A program that fails.

    Attributes:
        name: What goes wrong.
        program: The program.
        cures: From each offered fragment to the lines that use it.
        also: Globs of fragments that are no offer: what was found, or what is talked of.
    """

    name: str
    program: str
    cures: dict[str, str]
    also: tuple[str, ...] = ()


SITUATIONS = [
    # Trees.
    Situation(
        "a scope is read as a variable",
        """
tree = js.VarTree({'enc/w': jnp.ones(2)})
scope = js.Scope(tree)
# Fails:
tree['enc']
""",
        {
            "tree.subtree('enc')": "assert $ == js.VarTree({'w': jnp.ones(2)})",
            "scope / 'enc'": "assert ($)['w'].shape == (2,)",
        },
    ),
    Situation(
        "a variable is further down",
        """
tree = js.VarTree({'enc/l/w': jnp.ones(2)})
scope = js.Scope(tree)
# Fails:
scope['l/w']
""",
        {
            "tree.subtree('enc')": "assert ($)['l/w'].shape == (2,)",
            "scope / 'enc'": "assert ($)['l/w'].shape == (2,)",
        },
        ("js.init",),
    ),
    Situation(
        "a variable is deleted",
        """
tree = js.VarTree({'v': 1.0, 'w': 2.0})
# Fails:
del tree['w']
""",
        {"tree = js.drop(tree, 'w')": "$\nassert list(tree) == ['v']"},
    ),
    Situation(
        "a variable is set",
        """
tree = js.VarTree({'name': jnp.ones(2)})
value = jnp.zeros(2)
# Fails:
tree['name'] = value
""",
        {
            "tree = tree | {'name': value}": "$\nassert not tree['name'].any()",
            "js.assign(tree, 'name', value)": "assert not ($)['name'].any()",
        },
    ),
    Situation(
        "a tree is divided as a scope",
        """
tree = js.VarTree({'enc/w': jnp.ones(2)})
# Fails:
tree / 'enc'
""",
        {
            "js.Scope(tree) / 'enc'": "assert ($)['w'].shape == (2,)",
            "tree.subtree('enc')": "assert ($)['w'].shape == (2,)",
        },
    ),
    Situation(
        "a model is given a tree",
        """
tree = js.VarTree({'w': jnp.ones(2)})
x = jnp.ones(2)
def model(scope, x):
    return scope.get_variable('w', (2,)) + x
# Fails:
model(tree, x)
""",
        {
            "js.Scope(tree)": "assert model($, x)[0] == 2",
            "model(js.Scope(tree), x)": "assert ($)[0] == 2",
        },
    ),
    Situation(
        "a tree can't be nested",
        """
tree = js.VarTree({'a': 1.0, 'a/b': 2.0})
# Fails:
tree.to_nested()
""",
        {
            "dict(tree)": "assert $ == {'a': 1.0, 'a/b': 2.0}",
            "js.rename(tree, {'a/b': 'a_b'})": "assert ($).to_nested() == {'a': 1.0, 'a_b': 2.0}",
        },
    ),
    # Selections.
    *(
        Situation(
            f"{call} picks nothing",
            f"""
tree = js.VarTree({{'w': 1.0}})
# Fails:
{call}
""",
            {"allow_empty=True": f"{call[:-1]}, $)"},
        )
        for call in (
            "js.select(tree, 'v')",
            "js.drop(tree, [])",
            "js.partition(tree, {'v': 1})",
            "js.mask(tree, {})",
            "js.labels(tree, {'a': lambda name, value: False}, 'rest')",
            "js.rename(tree, {'v': 'u'})",
        )
    ),
    Situation(
        "a label is missing",
        """
tree = js.VarTree({'v': 1.0, 'w': 1.0})
# Fails:
js.labels(tree, {'a': 'w'})
""",
        {"default='...'": "assert js.labels(tree, {'a': 'w'}, $)['v'] == '...'"},
    ),
    Situation(
        "two get one name",
        """
tree = js.VarTree({'v': 1.0, 'w': 1.0})
# Fails:
js.rename(tree, {'w': 'v'})
""",
        {"js.drop": "assert list(js.rename($(tree, 'v'), {'w': 'v'})) == ['v']"},
    ),
    Situation(
        "something is no selector",
        """
import re
tree = js.VarTree({'w': 1.0})
# Fails:
js.select(tree, 3)
""",
        {"re.compile(...)": "FILL 'w'\njs.select(tree, $)"},
    ),
    # Variables of a scope.
    Situation(
        "a shape differs from the tree's",
        """
tree = js.VarTree({'w': jnp.ones(2)})
def model(scope, x):
    return scope.get_variable('w', (3,)) + x
# Fails:
model(js.Scope(tree), 1.0)
""",
        {
            "js.declare(model)(...).check(tree)": """
FILL 1.0
try:
    $
except js.TreeMismatchError as error:
    assert "'w' is (2,) in the tree, (3,) declared" in str(error)
"""
        },
    ),
    Situation(
        "a variable is missing",
        """
tree = js.VarTree({'v': jnp.ones(2)})
def model(scope, x):
    return scope.get_variable('w', (2,)) + x
# Fails:
model(js.Scope(tree), 1.0)
""",
        {"js.init": "tree = $(model)(key, 1.0)\nmodel(js.Scope(tree), 1.0)"},
    ),
    Situation(
        "a model is applied twice to one scope",
        """
tree = js.VarTree({'w': jnp.ones(2)})
def model(scope, x):
    return scope.get_variable('w', (2,)) + x
scope = js.Scope(tree)
model(scope, 1.0)
# Fails:
model(scope, 2.0)
""",
        {
            "model(js.Scope(tree), ...)": "FILL 2.0\nassert ($)[0] == 3",
            "reuse=True": "model(scope.variable_scope(scope, $), 2.0)",
            "reuse=js.AUTO_REUSE": "model(scope.variable_scope(scope, $), 2.0)",
            "scope.shared(...)": """
FILL 'a'
scope = js.Scope({'a/w': jnp.ones(2)})
model($, 1.0)
model($, 2.0)
""",
        },
    ),
    Situation(
        "a layer is called in a loop",
        """
def layer(scope):
    return scope.get_variable('w', (2,))
def model(scope):
    for i in range(2):
        layer(scope)
# Fails:
js.declare(model)()
""",
        {
            "scope / f'layer_{i}'": """
def model(scope):
    for i in range(2):
        layer($)
assert list(js.declare(model)()) == ['layer_0/w', 'layer_1/w']
""",
            "reuse=True": """
def model(scope):
    layer(scope)
    layer(scope.variable_scope(scope, $))
assert list(js.declare(model)()) == ['w']
""",
            "reuse=js.AUTO_REUSE": """
def model(scope):
    for i in range(2):
        layer(scope.variable_scope(scope, $))
assert list(js.declare(model)()) == ['w']
""",
            "scope.shared(...)": """
FILL 'a'
def model(scope):
    for i in range(2):
        layer($)
assert list(js.declare(model)()) == ['a/w']
""",
        },
    ),
    Situation(
        "what is shared doesn't exist",
        """
# Fails:
js.declare(lambda s: s.variable_scope('a', reuse=True).get_variable('w', (2,)))()
""",
        {
            "reuse=js.AUTO_REUSE": (
                "js.declare(lambda s: s.variable_scope('a', $).get_variable('w', (2,)))()"
            )
        },
        ("get_variable()",),
    ),
    Situation(
        "a bound scope must know what is trainable",
        """
def model(scope):
    scope.get_variable('w', (2,))
    scope.get_variable('n', (), trainable=False)
declared = js.declare(model)()
# Fails:
js.Scope(declared.init(key)).trainable_variables()
""",
        {"declared.trainable_variables('')": "assert $ == ('w',)"},
    ),
    Situation(
        "a declaring scope is read",
        """
# Fails:
js.declare(lambda scope: scope['w'])()
""",
        {
            "scope.get_variable(name, shape)": (
                "name, shape = 'w', (2,)\nassert list(js.declare(lambda scope: $)()) == ['w']"
            ),
        },
        ("scope?name?",),
    ),
    Situation(
        "a variable has no shape",
        """
# Fails:
js.declare(lambda scope: scope.get_variable('w'))()
""",
        {"get_variable(..., shape=())": "FILL 'w'\njs.declare(lambda scope: scope.$)()"},
    ),
    Situation(
        "a variable of a tree has no shape",
        """
# Fails:
js.get_variable({}, 'w', key=key)
""",
        {"get_variable(..., shape=())": "FILL {}, 'w', key=key\njs.$"},
    ),
    Situation(
        "a constant comes with a shape",
        """
value = 1.0
# Fails:
js.declare(lambda s: s.get_variable('w', (2,), initializer=value))()
""",
        {
            "initializer=init.constant(value)": (
                "js.declare(lambda s: s.get_variable('w', (2,), $))()"
            )
        },
        ("shape=(2,)",),
    ),
    Situation(
        "a constant has another dtype",
        """
value = np.ones(2, np.float64)
# Fails:
js.declare(lambda s: s.get_variable('w', dtype=jnp.float16, initializer=value))()
""",
        {
            "np.asarray(value, 'float16')": (
                "js.declare(lambda s: s.get_variable('w', dtype=jnp.float16, initializer=$))()"
            )
        },
        ("dtype=",),
    ),
    Situation(
        "64 bits are off",
        """
# Fails:
js.declare(lambda s: s.get_variable('w', (2,), jnp.float64))()
""",
        {
            "dtype=jnp.float32": "js.declare(lambda s: s.get_variable('w', (2,), $))()",
            "jax.config.update('jax_enable_x64', True)": """
$
try:
    js.declare(lambda s: s.get_variable('w', (2,), jnp.float64))()
finally:
    jax.config.update('jax_enable_x64', False)
""",
        },
    ),
    Situation(
        "an initializer is not called",
        """
# Fails:
js.declare(lambda s: s.get_variable('w', (2, 3), initializer=init.he_normal))()
""",
        {
            "init.he_normal()": (
                "js.declare(lambda s: s.get_variable('w', (2, 3), initializer=$))()"
            )
        },
    ),
    Situation(
        "an initializer is a constructor elsewhere",
        """
# Fails:
js.declare(lambda s: s.get_variable('w', (2,), initializer=init.zeros(1)))()
""",
        {"initializer=init.zeros": "js.declare(lambda s: s.get_variable('w', (2,), $))()"},
    ),
    Situation(
        "several values are to fill",
        """
# Fails:
init.fill([1, 2])
""",
        {
            "init.constant([1, 2])": (
                "js.init(lambda s: s.get_variable('w', (2,), initializer=$))(key)"
            )
        },
    ),
    Situation(
        "an initializer gives floats for integers",
        """
minval, maxval = 2, 5
# Fails:
js.init(lambda s: s.get_variable('w', (2,), jnp.int32, init.truncated_normal()))(key)
""",
        {
            "dtype=jnp.float32": (
                "js.init(lambda s: "
                "s.get_variable('w', (2,), initializer=init.truncated_normal(), $))(key)"
            ),
            "init.zeros": "js.init(lambda s: s.get_variable('w', (2,), jnp.int32, $))(key)",
            "init.constant(...)": (
                "FILL 3\njs.init(lambda s: s.get_variable('w', (2,), jnp.int32, $))(key)"
            ),
            "init.random_uniform(minval, maxval)": (
                "js.init(lambda s: s.get_variable('w', (2,), jnp.int32, $))(key)"
            ),
        },
        ("truncated_normal(mean=0.0, stddev=1.0)",),
    ),
    Situation(
        "uniform integers have no end",
        """
maxval = 5
# Fails:
js.init(lambda s: s.get_variable('w', (2,), jnp.int32, init.random_uniform()))(key)
""",
        {
            "init.random_uniform(0, maxval)": (
                "js.init(lambda s: s.get_variable('w', (2,), jnp.int32, $))(key)"
            )
        },
    ),
    Situation(
        "a vector can't be orthogonal",
        """
# Fails:
js.init(lambda s: s.get_variable('w', (2,), initializer=init.orthogonal()))(key)
""",
        dict.fromkeys(
            ("init.glorot_uniform()", "init.zeros"),
            "js.init(lambda s: s.get_variable('w', (2,), initializer=$))(key)",
        ),
    ),
    Situation(
        "a kernel isn't square",
        """
first = init.convolutional_orthogonal_2d()
# Fails:
js.init(lambda s: s.get_variable('w', (3, 2, 4, 4), initializer=first))(key)
""",
        {
            "init.delta_orthogonal()": (
                "js.init(lambda s: s.get_variable('w', (3, 2, 4, 4), initializer=$))(key)"
            )
        },
        ("convolutional_orthogonal_2d(gain=1.0)",),
    ),
    Situation(
        "a value of another variable is computed by itself",
        """
value = init.initialized_value('v')
# Fails:
value(key, (2,), jnp.float32)
""",
        {
            "js.init": """
def model(scope):
    scope.get_variable('v', (2,))
    scope.get_variable('w', (2,), initializer=value)
tree = $(model)(key)
assert (tree['v'] == tree['w']).all()
"""
        },
        ("initialized_value('v')", "initializer="),
    ),
    *(
        Situation(
            f"an initial value depends on an input: {how}",
            f"""
def model(scope, x):
    scope.get_variable('w', {how})
# Fails:
js.init(model)(key, jnp.float32(3))
""",
            {"js.init(model, inline=True)": "assert ($)(key, jnp.float32(3))['w'] == 3"},
            also,
        )
        for how, also in (
            ("initializer=x", ("*Tracer*",)),
            ("(), initializer=lambda k, s, d: x", ("js.init",)),
            ("(), initializer=init.constant(x)", ("*Tracer*",)),
        )
    ),
    Situation(
        "inline in a transform",
        """
block = jax.jit(lambda s, x: s.get_variable('w', (2,)) + x)
def model(scope, x):
    return block(scope, x)
# Fails:
js.init(model, inline=True)(key, jnp.ones(2))
""",
        {"js.init(model)": "$(key, jnp.ones(2))"},
        ("jax.jit", "inline=True"),
    ),
    Situation(
        "inline without values",
        """
def model(scope, x):
    return scope.get_variable('w', (2,)) + x
# Fails:
js.init(model, inline=True)(key, jax.ShapeDtypeStruct((2,), jnp.float32))
""",
        {"js.init(model)": "$(key, jax.ShapeDtypeStruct((2,), jnp.float32))"},
        ("js.init(model, inline=True)", "ShapeDtypeStruct(shape=(2,), dtype=float32)"),
    ),
    Situation(
        "collections are one string",
        """
# Fails:
js.declare(lambda s: s.get_variable('w', (2,), collections='mine'))()
""",
        {"collections=['mine']": "js.declare(lambda s: s.get_variable('w', (2,), $))()"},
    ),
    Situation(
        "a regularizer is a number",
        """
# Fails:
js.declare(lambda s: s.get_variable('w', (2,), regularizer=1e-4))()
""",
        {
            "regularizers.l2(1e-4)": (
                "js.declare(lambda s: s.get_variable('w', (2,), regularizer=$))()"
            )
        },
        ("f(value)",),
    ),
    Situation(
        "a sum of one regularizer",
        """
# Fails:
regularizers.sum(regularizers.l2(0.5))
""",
        {"regularizers.sum([...])": "FILL regularizers.l2(0.5)\nassert ($)(jnp.ones(2)) == 0.5"},
        ("l2(scale=0.5)",),
    ),
    Situation(
        "an integer is regularized",
        """
# Fails:
def model(scope):
    scope = scope.variable_scope(scope, regularizer=regularizers.l2(0.5))
    scope.get_variable('n', (), jnp.int32, init.zeros)
declared = js.declare(model)()
declared.regularization_loss(declared.init(key))
""",
        {
            "js.no_regularizer": """
def model(scope):
    scope = scope.variable_scope(scope, regularizer=regularizers.l2(0.5))
    scope.get_variable('n', (), jnp.int32, init.zeros, regularizer=$)
declared = js.declare(model)()
declared.regularization_loss(declared.init(key))
"""
        },
        ("l2(scale=0.5)",),
    ),
    Situation(
        "an argument has no meaning in JAX",
        """
# Fails:
js.declare(lambda s: s.variable_scope('a', auxiliary_name_scope=True).get_variable('w', (2,)))()
""",
        {
            "with jax.named_scope(name)": """
name = 'a'
def model(scope):
    $:
        scope.variable_scope('a').get_variable('w', (2,))
js.declare(model)()
"""
        },
        ("variable_scope('a')", "auxiliary_name_scope=*", "js.named", "with scope"),
    ),
    Situation(
        "a generator is named",
        """
def model(scope):
    while True:
        yield scope.get_variable('w', (2,))
# Fails:
js.named(model)
""",
        {
            "with scope": """
def model(scope):
    $:
        while True:
            yield scope.get_variable('w', (2,))
js.declare(lambda scope: next(model(scope)))()
"""
        },
        ("js.named(model)",),
    ),
    Situation(
        "a named function is given a tree",
        """
tree = js.VarTree({'w': jnp.ones(2)})
@js.named
def block(scope, x):
    return x * scope.get_variable('w', (2,))
# Fails:
block(tree, 3)
""",
        {"block(js.Scope(tree), ...)": "FILL 3\nassert $.shape == (2,)"},
        ("js.named",),
    ),
    # Scopes.
    Situation(
        "two trees have one name",
        """
a, b = {'w': 1.0, 'u': 3.0}, {'w': 2.0}
# Fails:
js.Scope(a, b)
""",
        {"js.Scope(a | b)": "assert ($)['w'] == 2.0"},
        ("js.Scope(tree, ...)",),
    ),
    Situation(
        "a scope is pickled",
        """
import pickle
tree = js.VarTree({'w': 1.0})
# Fails:
pickle.dumps(js.Scope(tree))
""",
        {"js.Scope(tree)": "tree = pickle.loads(pickle.dumps(tree))\nassert ($)['w'] == 1.0"},
    ),
    Situation(
        "a scope is kept",
        """
kept = []
def model(scope, x):
    kept.append(scope)
    return scope.get_variable('w', (2,)) + x
variables = js.init(model)(key, 1.0)
# Fails:
kept[-1].get_variable('w', (2,))
""",
        {"model(js.Scope(variables), ...)": "FILL 1.0\n$"},
    ),
    Situation(
        "a default name is to be shared",
        """
# Fails:
js.declare(lambda scope: scope.variable_scope(None, 'conv', reuse=js.AUTO_REUSE))()
""",
        {
            "scope.variable_scope('conv', reuse=js.AUTO_REUSE)": "js.declare(lambda scope: $)()",
            "reuse=js.AUTO_REUSE": "js.declare(lambda scope: scope.variable_scope('a', $))()",
        },
    ),
    Situation(
        "a default name in a body",
        """
def block(scope, x):
    return scope.variable_scope(None, 'conv').get_variable('w', (2,)) + x
def model(scope, x):
    return jax.jit(block)(scope, x)
# Fails:
js.declare(model)(jnp.ones(2))
""",
        {
            "scope.variable_scope('conv')": """
def block(scope, x):
    return $.get_variable('w', (2,)) + x
assert list(js.declare(model)(jnp.ones(2))) == ['conv/w']
"""
        },
        ("jax.jit",),
    ),
    Situation(
        "a template in a body",
        """
layer = lambda scope, x: scope.get_variable('w', (2,)) + x
template = js.make_template('t', layer)
def model(scope, x):
    return jax.jit(lambda s, x: template(s, x))(scope, x)
# Fails:
js.declare(model)(jnp.ones(2))
""",
        {
            "make_template(..., unique_name_='t')": """
FILL 't', layer
template = js.$
assert list(js.declare(model)(jnp.ones(2))) == ['t/w']
"""
        },
        ("jax.jit",),
    ),
    Situation(
        "a template is created now",
        """
def layer(scope, x):
    return scope.get_variable('w', (2,)) + x
# Fails:
js.make_template('t', layer, create_scope_now_=True)
""",
        {
            "create_scope_now_=scope": """
def model(scope, x):
    return js.make_template('t', layer, $)(scope, x)
js.declare(model)(jnp.ones(2))
"""
        },
        ("make_template('t', ...)", "create_scope_now_=True"),
    ),
    Situation(
        "a stack is not sliced",
        """
length, name = 3, 'layers'
def block(scope, x):
    return scope.get_variable('w', (2,)) + x
def model(scope, x):
    return block(scope.stacked(name, length), x)
# Fails:
js.declare(model)(jnp.ones(2))
""",
        {
            "jax.lax.scan(lambda x, layer: (block(layer, x), None), x, "
            "scope.stacked(name, length))": """
def model(scope, x):
    return $[0]
assert js.declare(model)(jnp.ones(2))['layers/w'].shape == (3, 2)
""",
            "jax.vmap(block, in_axes=(0, None))(scope.stacked(name, length), x)": """
def model(scope, x):
    return $
assert js.declare(model)(jnp.ones(2))['layers/w'].shape == (3, 2)
""",
            "scope['name/of/variable']": """
scope = js.Scope({'name/of/variable': jnp.ones((3, 2))})
assert ($).shape == (3, 2)
""",
        },
    ),
    Situation(
        "layers of their own are requested as a stack",
        """
tree = js.VarTree({'layers/0/w': jnp.ones(2), 'layers/1/w': jnp.ones(2)})
# Fails:
js.Scope(tree).stacked('layers', 3)
""",
        {
            "js.stack(tree, 'layers')": "js.Scope($).stacked('layers', 2)",
        },
    ),
    Situation(
        "how many slices",
        """
tree = js.VarTree({'layers/name': 'x'})
# Fails:
js.unstack(tree, 'layers')
""",
        {"length=": "js.unstack(tree, 'layers', $2)"},
    ),
    # Random streams.
    Situation(
        "a stream is missing",
        """
tree = js.VarTree({'w': jnp.ones(2)})
# Fails:
js.Scope(tree).rng('dropout')
""",
        {
            "js.Scope(tree, rngs={'dropout': key})": "$.rng('dropout')",
            "rngs=key": "js.Scope(tree, $).rng('dropout')",
        },
    ),
    Situation(
        "a key is drawn twice",
        """
scope = js.Scope({}, rngs=key)
scope.rng('dropout')
# Fails:
scope.rng('dropout')
""",
        {
            "scope.rng('dropout', name='second')": "$",
            "scope.fold(step)": "for step in range(3):\n    $.rng('dropout')",
        },
    ),
    Situation(
        "streams beside a scope that has its own",
        """
tree = js.VarTree({})
model = lambda scope, x: x
# Fails:
js.with_updates(model)(js.Scope(tree), 1.0, rngs=key)
""",
        {"js.Scope(tree, rngs=...)": "FILL key\njs.with_updates(model)($, 1.0)"},
        ("js.with_updates(model)(scope, ..., rngs=...)",),
    ),
    # Updates and records.
    Situation(
        "an assignment is lost",
        """
state = tree = js.VarTree({'n': jnp.zeros(())})
def model(scope, x):
    scope.assign('n', scope['n'] + x)
    return x
# Fails:
model(js.Scope(tree), 2.0)
""",
        {
            "out, updates = js.with_updates(model)(tree, ...)": (
                "FILL 2.0\n$\nassert updates['n'] == 2"
            ),
            "state | updates": (
                "out, updates = js.with_updates(model)(tree, 2.0)\nassert ($)['n'] == 2"
            ),
        },
    ),
    Situation(
        "an assignment in a transform",
        """
tree = js.VarTree({'b/n': jnp.zeros(())})
x = 2.0
def block(scope, x):
    scope.assign('n', scope['n'] + x)
    return x
def model(scope, x):
    return jax.jit(block)(scope / 'b', x)
# Fails:
js.with_updates(model)(tree, x)
""",
        {
            "y, updates = js.with_updates(block)(scope, x)": """
def inside(scope, x):
    $
    return y, updates
def model(scope, x):
    scope = scope / 'b'
    y, updates = jax.jit(inside)(scope, x)
    scope.update(updates)
    return y
assert js.with_updates(model)(tree, x)[1]['b/n'] == 2
""",
            "scope.update(updates)": """
def model(scope, x):
    scope = scope / 'b'
    y, updates = jax.jit(js.with_updates(block))(scope, x)
    $
    return y
assert js.with_updates(model)(tree, x)[1]['b/n'] == 2
""",
            "js.with_updates(model)(js.Scope(tree), x)": """
def model(scope, x):
    return block(scope / 'b', x)
assert jax.jit(lambda tree, x: $)(tree, x)[1]['b/n'] == 2
""",
        },
        ("jax.jit",),
    ),
    Situation(
        "a record in a loop",
        """
def model(scope, value):
    for i in range(2):
        scope.record('h', value)
# Fails:
js.with_records(model)({}, 1.0)
""",
        {
            "scope.record(f'h_{i}', value)": """
def model(scope, value):
    for i in range(2):
        $
assert list(js.with_records(model)({}, 1.0)[1]) == ['h_0', 'h_1']
"""
        },
    ),
    Situation(
        "a record in a transform",
        """
def block(scope, x):
    scope.record('h', x)
    return x
def model(scope, x):
    return jax.jit(lambda x: block(scope, x))(x)
# Fails:
js.with_records(model, 'h')({}, 1.0)
""",
        {
            "y, records = js.with_records(block)(scope, x)": """
def inside(scope, x):
    $
    return y, records
def model(scope, x):
    return jax.jit(inside)(scope, x)
assert model(js.Scope({}), 1.0)[1]['h'] == 1
"""
        },
        ("scope.with_values(tree)",),
    ),
    # Declarations.
    Situation(
        "rules without a mesh",
        """
declared = js.declare(lambda s: s.get_variable('w', (8, 4)))()
rules = [('w', P('data', 'model'))]
# Fails:
declared.init(key, rules=rules)
""",
        {
            "mesh=jax.make_mesh((2, 4), ('data', 'model'))": "declared.init(key, rules=rules, $)",
        },
    ),
    Situation(
        "a rule is no pair",
        """
declared = js.declare(lambda s: s.get_variable('a/w', (8, 4)))()
mesh = {'model': 2}
# Fails:
declared.plan(mesh, ['w'])
""",
        {
            "rules=[('**/w', PartitionSpec(None, 'model'))]": "declared.plan(mesh, $)",
        },
    ),
    Situation(
        "a sharding doesn't divide",
        """
declared = js.declare(lambda s: s.get_variable('w', (7, 2), sharding=P('data')))()
selector = 'w'
# Fails:
declared.plan({'data': 2})
""",
        {
            "rules=[(selector, PartitionSpec(...))]": (
                "FILL None, 'data'\ndeclared.plan({'data': 2}, $)"
            ),
        },
    ),
    Situation(
        "a sharding is a string",
        """
# Fails:
js.declare(lambda s: s.get_variable('w', (8, 4), sharding='model'))()
""",
        {
            "PartitionSpec(None, 'model')": (
                "js.declare(lambda s: s.get_variable('w', (8, 4), sharding=$))()"
            )
        },
        ("jax.sharding.PartitionSpec",),
    ),
    Situation(
        "a mesh has no devices",
        """
declared = js.declare(lambda s: s.get_variable('w', (8, 4)))()
mesh = jax.sharding.AbstractMesh((2,), ('data',))
# Fails:
declared.init(key, mesh=mesh)
""",
        {
            "mesh=jax.make_mesh(...)": "FILL (2,), ('data',)\ndeclared.init(key, $)",
            "with jax.set_mesh(mesh)": (
                "mesh = jax.make_mesh((2,), ('data',))\n$:\n    declared.init(key)"
            ),
            "declared.plan": "$(mesh)",
            "declared.abstract": "$(mesh)",
        },
        ("axis_types=*",),
    ),
    Situation(
        "a part isn't declared",
        """
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
tree = js.VarTree({'w': jnp.ones(2), 'v': jnp.ones(2)})
# Fails:
declared.split(tree)
""",
        {"js.drop": "declared.split($(tree, 'v'))"},
    ),
    Situation(
        "a tree is of other settings",
        """
declared = js.declare(lambda s: s.get_variable('a/w', (2,)))()
tree = js.VarTree({'b/w': jnp.ones(2), 'v': jnp.ones(2)})
# Fails:
declared.check(tree)
""",
        {
            "js.select": "declared.check(js.rename($(tree, 'b/**'), {'b': 'a'}))",
            "js.drop": "declared.check(js.rename($(tree, 'v'), {'b': 'a'}))",
            "js.rename": "declared.check(js.drop($(tree, {'b': 'a'}), 'v'))",
        },
    ),
    Situation(
        "only picks nothing",
        """
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
# Fails:
declared.init(key, only='x')
""",
        {"only=": "declared.init(key)"},
    ),
    Situation(
        "a key is a number",
        """
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
# Fails:
declared.init(3)
""",
        {"jax.random.key(3)": "declared.init($)"},
    ),
    Situation(
        "several keys",
        """
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
keys = jax.random.split(key, 3)
# Fails:
declared.init(keys)
""",
        {
            "jax.vmap(declared.init)(keys)": "assert ($)['w'].shape == (3, 2)",
            "jax.random.key(0)": "declared.init($)",
        },
    ),
    # Operations on trees.
    Situation(
        "a variable of a tree is missing",
        """
# Fails:
js.get_variable({'v': jnp.ones(2)}, 'w', (2,))
""",
        {"key=jax.random.key(...)": "FILL 0\njs.get_variable({'v': jnp.ones(2)}, 'w', (2,), $)"},
    ),
    Situation(
        "a counter is at its limit",
        """
tree = js.VarTree({'n': jnp.int32(3)})
# Fails:
js.count_up_to(tree, 'n', 3)
""",
        {"js.assign(tree, 'n', 0)": "assert js.count_up_to($, 'n', 3)[0] == 0"},
    ),
    Situation(
        "what is assigned isn't there",
        """
tree = js.VarTree({'v': jnp.ones(2)})
value = jnp.ones(2)
# Fails:
js.assign(tree, 'w', value)
""",
        {"tree | {'w': value}": "assert list($) == ['v', 'w']"},
        ("js.assign",),
    ),
    Situation(
        "a flag is counted up",
        """
tree = js.VarTree({'v': jnp.array(True)})
value = jnp.array(False)
# Fails:
js.assign_add(tree, 'v', value)
""",
        {"js.assign(tree, 'v', value)": "assert not ($)['v']"},
        ("js.assign_add",),
    ),
    Situation(
        "another dtype is assigned",
        """
tree = js.VarTree({'v': jnp.ones(2)})
value = jnp.zeros(2, jnp.int32)
# Fails:
js.assign(tree, 'v', value)
""",
        {"value.astype('float32')": "js.assign(tree, 'v', $)"},
    ),
    Situation(
        "arrays in a list are assigned",
        """
tree = js.VarTree({'v': jnp.ones(2)})
value = [jnp.float32(1), jnp.float32(2)]
# Fails:
js.assign(tree, 'v', value)
""",
        {"jnp.asarray(value, 'float32')": "js.assign(tree, 'v', $)"},
        ("Array(*",),
    ),
    *(
        Situation(
            f"{value} doesn't fit into {dtype}",
            f"""
tree = js.VarTree({{'v': jnp.zeros((), '{dtype}')}})
value = {value}
# Fails:
js.assign(tree, 'v', value)
""",
            {f"np.asarray(value).astype('{dtype}')": "js.assign(tree, 'v', $)"},
        )
        for value, dtype in (("300", "int8"), ("2**40", "int32"), ("1.5", "int32"))
    ),
    Situation(
        "a shape is to be broadcast",
        """
tree = js.VarTree({'v': jnp.ones((2, 3))})
value = jnp.zeros(3)
# Fails:
js.assign(tree, 'v', value)
""",
        {"jnp.broadcast_to(value, (2, 3))": "js.assign(tree, 'v', $)"},
        ("js.assign",),
    ),
    Situation(
        "a scalar is to be broadcast",
        """
tree = js.VarTree({'v': jnp.ones((2, 3))})
value = 0.5
# Fails:
js.assign(tree, 'v', value)
""",
        {"jnp.full_like(tree['v'], value)": "js.assign(tree, 'v', $)"},
        ("js.assign",),
    ),
    Situation(
        "updates are to be broadcast",
        """
tree = js.VarTree({'v': jnp.ones((2, 3))})
updates = jnp.zeros(3)
# Fails:
js.scatter_update(tree, 'v', [0, 1], updates)
""",
        {"jnp.broadcast_to(updates, (2, 3))": "js.scatter_update(tree, 'v', [0, 1], $)"},
        ("js.scatter_update",),
    ),
    *(
        Situation(
            f"indices are {indices}",
            f"""
tree = js.VarTree({{'v': jnp.ones(3)}})
indices = {indices}
# Fails:
js.scatter_update(tree, 'v', indices, jnp.zeros(2))
""",
            {"jnp.asarray(indices, 'int32')": "js.scatter_update(tree, 'v', $, jnp.zeros(2))"},
            ("js.scatter_update",),
        )
        for indices in ("jnp.array([0.0, 1.0])", "[0.0, 1.0]", "np.array([0, 1], np.uint8)")
    ),
    Situation(
        "a scalar has no rows",
        """
tree = js.VarTree({'v': jnp.ones(())})
value = jnp.zeros(())
# Fails:
js.scatter_update(tree, 'v', [0], [0.0])
""",
        {"js.assign(tree, 'v', value)": "$"},
        ("js.scatter_update",),
    ),
    Situation(
        "a tree is abstract",
        """
tree = js.VarTree({'v': jax.ShapeDtypeStruct((2,), jnp.float32)})
# Fails:
js.assign_add(tree, 'v', jnp.ones(2))
""",
        {
            "jax.eval_shape(lambda tree: js.assign_add(tree, ...), tree)": (
                "FILL 'v', jnp.ones(2)\nassert ($)['v'].shape == (2,)"
            )
        },
    ),
    # Moving averages.
    Situation(
        "there is no average",
        """
ema = js.ExponentialMovingAverage(0.9)
params = js.VarTree({'w': jnp.ones(2)})
averages = ema.init(params)
# Fails:
ema.average(params)
""",
        {
            "ema.init(params)": "ema.average($)",
            "ema.apply(averages, params)": "ema.average($)",
        },
    ),
    Situation(
        "averages are of other variables",
        """
ema = js.ExponentialMovingAverage(0.9)
params = js.VarTree({'w': jnp.ones(2)})
tree = js.VarTree({'w': jnp.ones(2), 'v': jnp.ones(2)})
averages = ema.init(params)
# Fails:
ema.apply(averages, tree)
""",
        {
            "averages = ema.init(params)": "params = tree\n$\nema.apply(averages, tree)",
            "ema.apply(averages, js.select(tree, ...))": "FILL 'w'\n$",
        },
    ),
    Situation(
        "an integer has no average",
        """
def model(scope):
    scope.get_variable('w', (2,))
    scope.get_variable('n', (), jnp.int32, trainable=False)
declared = js.declare(model)()
variables = declared.init(key)
ema = js.ExponentialMovingAverage(0.9)
# Fails:
ema.init(variables)
""",
        {"params, state = declared.split(variables)": "$\nema.init(params)"},
    ),
    Situation(
        "steps are given once",
        """
params, step = js.VarTree({'w': jnp.ones(2)}), 3
averages = js.ExponentialMovingAverage(0.9).init(params)
# Fails:
js.ExponentialMovingAverage(0.9, 3)
""",
        {
            "ema.apply(averages, params, num_updates=step)": (
                "ema = js.ExponentialMovingAverage(0.9)\n$"
            )
        },
        ("num_updates=3",),
    ),
    Situation(
        "averages of nothing",
        """
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
ema = js.ExponentialMovingAverage(0.9)
# Fails:
ema.variables_to_restore(declared, 'x')
""",
        {"moving_average_variables=": "ema.variables_to_restore(declared)"},
    ),
    # Layers.
    Situation(
        "dropout in attention is neither on nor off",
        """
def attention(scope, x, **more):
    return layers.multi_head_attention(scope, x, num_heads=4, head_size=2, dropout_rate=0.1, **more)
# Fails:
js.declare(attention)(jnp.ones((1, 8, 8)))
""",
        dict.fromkeys(
            ("training=True", "training=False"),
            "js.declare(lambda scope, x: attention(scope, x, $))(jnp.ones((1, 8, 8)))",
        ),
    ),
    Situation(
        "a layer of integers",
        """
x = jnp.ones((1, 8), jnp.int32)
layer = lambda scope, x: layers.dense(scope, x, units=4)
# Fails:
js.declare(layer)(x)
""",
        {
            "x.astype(jnp.float32)": "js.declare(layer)($)",
            "layers.embedding": """
layer = lambda scope, x: $(scope, x, input_dim=10, output_dim=4)
js.declare(layer)(x)
""",
        },
    ),
    Situation(
        "a convolution without a batch",
        """
x = jnp.ones((8, 4))
conv = lambda scope, x: layers.conv(scope, x, filters=4, kernel_size=3)
# Fails:
js.declare(conv)(x)
""",
        {"x[None]": "js.declare(conv)($)"},
    ),
    Situation(
        "training is traced",
        """
layer = lambda scope, x, training: layers.batch_norm(scope, x, training=training)
x = jnp.ones((2, 4))
# Fails:
js.declare(lambda scope, x: jax.jit(layer)(scope, x, True))(x)
""",
        {
            "functools.partial(layer, training=...)": (
                "FILL True\n"
                "js.declare(lambda scope, x: jax.jit(js.with_updates($))(scope, x)[0])(x)"
            ),
            "jax.jit(..., static_argnames='training')": (
                "FILL js.with_updates(layer)\n"
                "js.declare(lambda scope, x: $(scope, x, training=True)[0])(x)"
            ),
        },
    ),
    # The Saver.
    Situation(
        "functions are saved",
        """
saver, step = Saver(directory), 1
relu = lambda x: x
tree = js.VarTree({'w': jnp.ones(2), 'f': relu})
# Fails:
saver.save(tree, step)
""",
        {
            "js.drop(tree, lambda name, x: callable(x))": "saver.save($, step)",
            "jax.tree.map(lambda x: None if callable(x) else x, tree)": "saver.save($, step)",
        },
    ),
    Situation(
        "a module with functions in it is saved",
        """
import dataclasses
@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Module:
    w: jax.Array
    activation: object
saver, step = Saver(directory), 1
tree = Module(jnp.ones(2), jax.nn.relu)
# Fails:
saver.save(tree, step)
""",
        {
            "js.drop(tree, lambda name, x: callable(x))": (
                "tree = js.VarTree(vars(tree))\nsaver.save($, step)"
            ),
            "jax.tree.map(lambda x: None if callable(x) else x, tree)": """
saver.save($, step)
target = Module(jnp.zeros(2), None)
assert saver.restore(target).w.all()
""",
        },
    ),
    Situation(
        "sets and dates are saved",
        """
saver, step = Saver(directory), 1
tree = {'w': jnp.ones(2), 'o': {1}, 'd': np.array('2020', 'datetime64[Y]')}
# Fails:
saver.save(tree, step)
""",
        {
            "js.drop(tree, lambda name, x: type(x).__name__ in ['set'] or str(getattr(x, 'dtype', "
            "'')) in ['datetime64[Y]'])": "saver.save($, step)",
            "jax.tree.map(lambda x: None if type(x).__name__ in ['set'] or str(getattr(x, 'dtype', "
            "'')) in ['datetime64[Y]'] else x, tree)": "saver.save($, step)",
        },
    ),
    Situation(
        "functions are restored",
        """
saver = Saver(directory)
saver.save({'w': jnp.ones(2)}, 1)
target = js.VarTree({'w': jnp.zeros(2), 'f': jax.nn.relu})
# Fails:
saver.restore(target)
""",
        {
            "js.drop(target, lambda name, x: callable(x))": "assert saver.restore($)['w'].all()",
            "jax.tree.map(lambda x: None if callable(x) else x, target)": (
                "assert saver.restore($, missing='keep')['w'].all()"
            ),
        },
        ("jax.ShapeDtypeStruct", "jax.tree_util.register_dataclass"),
    ),
    Situation(
        "values of another number of processes are restored",
        """
from unittest import mock
saver = Saver(directory)
with mock.patch('jscope.saver._write.joined', lambda texts: '[3, 4]'):
    saver.save({'data': js.PerProcess(3)}, 1)
value = 0
# Fails:
saver.restore({'data': js.PerProcess(value)})
""",
        {
            "js.PerProcess(value, on_other_count=lambda values, process, count: ...)": (
                "FILL sum(values)\nassert saver.restore({'data': $})['data'].value == 7"
            ),
            "saver.open('DIRECTORY/1')['data'].read()": "assert $ == (3, 4)",
        },
        ("select=",),
    ),
    Situation(
        "a word stands for a function of the values of all processes",
        """
value = 3
# Fails:
js.PerProcess(value, on_other_count='first')
""",
        {
            "js.PerProcess(value, on_other_count=lambda values, process, count: ...)": (
                "FILL values[0]\nassert $.value == 3"
            ),
        },
    ),
    Situation(
        "a declaration is saved",
        """
saver, step = Saver(directory), 1
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
# Fails:
saver.save(declared.abstract(), step)
""",
        {"declared.init(key)": "saver.save($, step)"},
    ),
    Situation(
        "select picks nothing",
        """
saver = Saver(directory)
saver.save({'w': jnp.ones(2)}, 1)
target = {'w': jnp.zeros(2)}
# Fails:
saver.restore(target, select='x')
""",
        {"select=": "assert saver.restore(target)['w'].all()"},
    ),
    Situation(
        "var_list picks nothing",
        """
tree = js.VarTree({'w': jnp.ones(2)})
# Fails:
Saver(directory, var_list=['x']).save(tree, 1)
""",
        {"var_list=": "Saver(directory).save(tree, 1)"},
    ),
    Situation(
        "var_list is a string",
        """
tree = js.VarTree({'enc/w': jnp.ones(2)})
# Fails:
Saver(directory, var_list='enc/w')
""",
        {"var_list=['enc/**']": "Saver(directory, $).save(tree, 1)"},
    ),
    Situation(
        "var_list holds values",
        """
tree = js.VarTree({'w': jnp.ones(2)})
# Fails:
Saver(directory, var_list=dict(tree))
""",
        {"var_list=list(tree)": "Saver(directory, $).save(tree, 1)"},
    ),
    Situation(
        "a dtype differs",
        """
saver = Saver(directory)
saver.save({'w': jnp.ones(2)}, 1)
target = {'w': jnp.zeros(2, jnp.bfloat16)}
# Fails:
saver.restore(target)
""",
        {"convert=True": "assert saver.restore(target, $)['w'].all()"},
    ),
    Situation(
        "the checkpoint holds more",
        """
saver = Saver(directory)
saver.save({'w': jnp.ones(2), 'v': 1.0}, 1)
target = {'w': jnp.zeros(2)}
# Fails:
saver.restore(target)
""",
        {"unexpected='ignore'": "assert saver.restore(target, $)['w'].all()"},
    ),
    Situation(
        "the target holds more",
        """
saver = Saver(directory)
saver.save({'w': jnp.ones(2)}, 1)
def model(scope):
    scope.get_variable('v', (2,))
    scope.get_variable('w', (2,))
declared = js.declare(model)()
# Fails:
saver.restore(declared.init(key))
""",
        {
            "missing='keep'": "assert saver.restore(declared.init(key), $)['w'].all()",
            "missing='init'": "assert saver.restore(declared, $, key=key)['w'].all()",
            "key=": "assert saver.restore(declared, missing='init', $key)['w'].all()",
        },
    ),
    *(
        Situation(
            f"all is below a scope: {rename}",
            f"""
saver = Saver(directory)
saver.save(js.VarTree({{'{saved}': jnp.ones(2)}}), 1)
target = js.VarTree({{'{name}': jnp.zeros(2)}})
# Fails:
saver.restore(target)
""",
            {f"rename={rename}": f"assert saver.restore(target, $)['{name}'].all()"},
        )
        for saved, name, rename in (("a/w", "w", "{'a': ''}"), ("w", "a/w", "{'': 'a'}"))
    ),
    Situation(
        "a step is saved again",
        """
saver, tree = Saver(directory), {'w': jnp.ones(2)}
saver.save(tree, 1)
# Fails:
saver.save(tree, 1)
""",
        {"saver.save(tree, 1, overwrite=True)": "$"},
    ),
    Situation(
        "nothing is saved",
        """
saver, tree, step = Saver(directory), {'w': jnp.ones(2)}, 3
# Fails:
saver.restore(tree)
""",
        {"saver.save(tree, step)": "$\nsaver.restore(tree)"},
    ),
    Situation(
        "a step is damaged",
        """
saver, target = Saver(directory), {'w': jnp.ones(2)}
saver.save(target, 1)
(saver.save(target, 2) / 'packed.bin').write_bytes(b'')
# Fails:
saver.restore(target, 2)
""",
        {"saver.restore(target, step=1)": "$"},
    ),
    Situation(
        "initial values need a key",
        """
saver = Saver(directory)
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
saver.save(js.VarTree(), 1)
# Fails:
saver.restore(declared, missing='init')
""",
        {"key=jax.random.key(0)": "saver.restore(declared, missing='init', $)"},
        ("missing='init'",),
    ),
    Situation(
        "a tree has no initial values",
        """
saver = Saver(directory)
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
target = declared.init(key)
saver.save(js.VarTree(), 1)
# Fails:
saver.restore(target, missing='init')
""",
        {
            "missing='init'": "saver.restore(declared, $, key=key)",
            "key=jax.random.key(0)": "saver.restore(declared, missing='init', $)",
            "missing='keep'": "saver.restore(target, $)",
            "declared.init(key)": "saver.restore($, missing='keep')",
        },
    ),
    Situation(
        "a part of a declaration is restored",
        """
saver = Saver(directory)
def model(scope):
    scope.get_variable('v', (2,))
    scope.get_variable('w', (2,))
declared = js.declare(model)()
saver.save(declared.init(key), 1)
# Fails:
saver.restore(declared, select='w')
""",
        {
            "key=jax.random.key(0)": "saver.restore(declared, select='w', $)",
            "declared.init(key)": "saver.restore($, select='w')",
            "js.select(declared.abstract(), ...)": "FILL 'w'\nsaver.restore($, select='w')",
        },
    ),
    Situation(
        "a part of an abstract tree is restored",
        """
saver = Saver(directory)
saver.save({'w': jnp.ones(2), 'v': jnp.ones(2)}, 1)
leaf = jax.ShapeDtypeStruct((2,), jnp.float32)
target = js.VarTree({'v': leaf, 'w': leaf})
# Fails:
saver.restore(target, select='w')
""",
        {"js.select(target, ...)": "FILL 'w'\nsaver.restore($, select='w')"},
    ),
    Situation(
        "a store can't hold what stock Orbax reads",
        """
saver = Saver('s3://bucket/run')
tree = {'w': jnp.ones(2)}
# Fails:
saver.save(tree, 1, portable=True)
""",
        {
            "Saver('runs/portable').save(tree, 1, portable=True)": """
import contextlib
with contextlib.chdir(directory):
    $
""",
        },
        ("portable=True",),
    ),
    Situation(
        "a step for stock Orbax is saved beside others",
        """
saver = Saver(directory)
tree = {'w': jnp.ones(2)}
saver.save(tree, 1)
# Fails:
saver.save(tree, 2, portable=True)
""",
        {
            "Saver('runs/portable').save(tree, 2, portable=True)": """
import contextlib
with contextlib.chdir(directory):
    $
""",
        },
    ),
    Situation(
        "a step is saved beside those for stock Orbax",
        """
saver = Saver(directory)
tree = {'w': jnp.ones(2)}
saver.save(tree, 1, portable=True)
# Fails:
saver.save(tree, 2)
""",
        {"saver.save(tree, 2, portable=True)": "$"},
    ),
    Situation(
        "what is best has no direction",
        """
# Fails:
Saver(directory, best='loss')
""",
        dict.fromkeys(("best='min:loss'", "best='max:accuracy'"), "Saver(directory, $)"),
    ),
    Situation(
        "a metric has no name",
        """
saver = Saver(directory, best='min:loss')
tree, step = {'w': jnp.ones(2)}, 1
# Fails:
saver.save(tree, step, metrics=0.5)
""",
        {"metrics={'loss': 0.5}": "saver.save(tree, step, $)"},
    ),
    Situation(
        "a metric is missing",
        """
saver = Saver(directory, best='min:loss')
tree, step = {'w': jnp.ones(2)}, 1
# Fails:
saver.save(tree, step)
""",
        {"saver.save(tree, step, metrics={'loss': ...})": "FILL 0.5\n$"},
    ),
    Situation(
        "nothing is best",
        """
tree, step = {'w': jnp.ones(2)}, 1
# Fails:
Saver(directory).best_step()
""",
        {
            "Saver(directory, best='min:loss')": "saver = $",
            "saver.save(tree, step, metrics={'loss': ...})": """
FILL 0.5
saver = Saver(directory, best='min:loss')
$
assert saver.best_step() == 1
""",
        },
    ),
    Situation(
        "a name can't be nested for Orbax",
        """
saver, tree = Saver(directory), js.VarTree({'a': jnp.ones(2), 'a/b': jnp.ones(2)})
# Fails:
saver.save(tree, 1, portable=True)
""",
        {"portable=True": "saver.save(tree, 1)"},
    ),
    Situation(
        "a tree is laid out by rules",
        """
saver = Saver(directory)
saver.save({'w': jnp.ones(2)}, 1)
mesh = jax.make_mesh((1,), ('a',))
# Fails:
saver.restore({'w': jnp.ones(2)}, mesh=mesh)
""",
        {
            "jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)": """
shape, dtype, sharding = (2,), jnp.float32, jax.sharding.NamedSharding(mesh, P('a'))
assert saver.restore({'w': $})['w'].sharding == sharding
"""
        },
    ),
    Situation(
        "what is no array is indexed",
        """
saver = Saver(directory)
saver.save({'w': 'text'}, 1)
# Fails:
saver.open()['w'][0]
""",
        {"saver.open('DIRECTORY/1')['w'].read()": "assert $ == 'text'"},
    ),
    Situation(
        "strings of a TensorFlow checkpoint are read as a variable",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm-7'), {'st': np.array([b'x'], object)})
checkpoint = Saver(directory).open(path)
# Fails:
checkpoint['st']
""",
        {"checkpoint.strings['st'].read()": "assert $[0] == b'x'"},
    ),
    Situation(
        "saved keys are made an array of NumPy's",
        """
saver = Saver(directory)
saver.save({'w': key}, 1)
# Fails:
np.asarray(saver.open()['w'])
""",
        {"saver.open('DIRECTORY/1')['w'].read()": "assert $ == key"},
    ),
    Situation(
        "a selector picks nothing in a checkpoint",
        """
saver = Saver(directory)
saver.save(js.VarTree({'enc/w': jnp.ones(2)}), 1)
# Fails:
saver.restore(select='dec/*')
""",
        {"select=": "assert list(saver.restore($None)) == ['enc/w']"},
    ),
    Situation(
        "an argument needs a target",
        """
saver = Saver(directory)
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
mesh, rules = jax.make_mesh((2,), ('x',)), [('w', P('x'))]
saver.save({'u': jnp.ones(2)}, 1)
# Fails:
saver.restore(
    missing='init', unexpected='ignore', convert=True, key=key, mesh=mesh, rules=rules
)
""",
        {
            "saver.restore(declared, missing='init', unexpected='ignore', convert=True, key=key, "
            "mesh=mesh, rules=rules)": "assert $['w'].sharding.spec == P('x')"
        },
        ("*=",),
    ),
    *(
        Situation(
            f"a saved name is illegal in what {read} gives",
            f"""
saver, path = Saver(directory), os.path.join(directory, 'm.npz')
np.savez(path, **{{'w:0': np.ones(2)}})
function = lambda name: name.removesuffix(':0')
# Fails:
{read}
""",
            {
                "saver.restore(step='DIRECTORY/m.npz', rename=function)": (
                    "assert list($) == ['w']"
                ),
                "saver.open('DIRECTORY/m.npz')['w:0'].read()": "assert $.shape == (2,)",
            },
        )
        for read in ("saver.restore(step=path)", "js.VarTree(saver.open(path))")
    ),
    # TensorFlow's checkpoints.
    Situation(
        "the checkpoint holds slots and averages",
        """
def ones(*names):
    return {name: np.ones(2, np.float32) for name in names}
tree = js.VarTree({'w': jnp.zeros(2)})
path = tf_checkpoint.write(
    os.path.join(directory, 'm'), ones('w', 'w/Adam', 'w/ExponentialMovingAverage', 'x')
)
# Fails:
tensorflow.restore(tree, path)
""",
        {
            "drop=tensorflow.SLOTS": "tensorflow.restore(tree, path, $, unexpected='ignore')",
            "averages='ExponentialMovingAverage'": (
                "tensorflow.restore(tree, path, $, unexpected='ignore')"
            ),
            "drop='**/ExponentialMovingAverage'": (
                "tensorflow.restore(tree, path, $, unexpected='ignore')"
            ),
            "unexpected='ignore'": "tensorflow.restore(tree, path, $)",
        },
    ),
    Situation(
        "a kernel is transposed",
        """
value = np.arange(6, dtype=np.float32).reshape(2, 3)
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'w': value})
tree = js.VarTree({'w': jnp.zeros((3, 2))})
# Fails:
tensorflow.restore(tree, path)
""",
        {
            "assignment_map={'/': '/', 'w': js.Through('w', lambda x: x.transpose(1, 0))}": (
                "tree, _ = tensorflow.restore(tree, path, $)\nassert (tree['w'] == value.T).all()"
            )
        },
    ),
    Situation(
        "a dtype of TensorFlow's differs",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'w': np.ones(2, np.float32)})
tree = js.VarTree({'w': jnp.zeros(2, jnp.bfloat16)})
# Fails:
tensorflow.restore(tree, path)
""",
        {"convert=True": "tensorflow.restore(tree, path, $)"},
    ),
    Situation(
        "TensorFlow's checkpoint lacks one",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'w': np.ones(2, np.float32)})
def model(scope):
    scope.get_variable('v', (2,))
    scope.get_variable('w', (2,))
declared = js.declare(model)()
# Fails:
tensorflow.restore(declared.init(key), path)
""",
        {
            "missing='keep'": "tensorflow.restore(declared.init(key), path, $)",
            "missing='init'": "tensorflow.restore(declared, path, $, key=key)",
            "key=": "tensorflow.restore(declared, path, missing='init', $key)",
        },
    ),
    Situation(
        "no rule speaks of one",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'w': np.ones(2, np.float32)})
def model(scope):
    scope.get_variable('v', (2,))
    scope.get_variable('w', (2,))
declared = js.declare(model)()
# Fails:
tensorflow.restore(declared, path, {'w': 'w'})
""",
        {
            "key=jax.random.key(0)": "tensorflow.restore(declared, path, {'w': 'w'}, $)",
            "declared.init(key)": "tensorflow.restore($, path, {'w': 'w'})",
            "js.select(declared.abstract(), ...)": (
                "FILL 'w'\ntensorflow.restore($, path, {'w': 'w'})"
            ),
        },
    ),
    Situation(
        "there are no averages",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'w': np.ones(2, np.float32)})
# Fails:
tensorflow.load(path, averages='EMA')
""",
        {"averages=": "tensorflow.load(path)"},
    ),
    Situation(
        "a function is exported",
        """
tree, path = js.VarTree({'v': jnp.ones(2), 'w': jnp.ones((2, 3))}), os.path.join(directory, 'm')
name, function, inverse = 'w', np.transpose, np.transpose
# Fails:
tensorflow.export(tree, path, {'x': 'v', 'y': tensorflow.Through(name, function)})
""",
        {
            "js.Through(name, function, inverse)": (
                "tensorflow.export(tree, path, {'x': 'v', 'y': $})"
            ),
            "js.select(tree, ...)": "FILL 'v'\ntensorflow.export($, path, {'x': 'v'})",
        },
    ),
    Situation(
        "an export meets a checkpoint",
        """
tree, path = js.VarTree({'w': jnp.ones(2)}), os.path.join(directory, 'm')
tensorflow.export(tree, path)
# Fails:
tensorflow.export(tree, path)
""",
        {"overwrite=True": "tensorflow.export(tree, path, $)"},
    ),
    Situation(
        "what is not an array is exported to safetensors",
        """
tree = {'epoch': 3, 'name': 'first', 'rng': jax.random.key(0), 'w': jnp.ones(2)}
path, number, key = os.path.join(directory, 'm'), tree['epoch'], tree['rng']
# Fails:
safetensors.export(tree, path)
""",
        {
            "jax.random.key_data(key)": "safetensors.export({'rng': $}, path)",
            "np.asarray(number, np.float32)": "safetensors.export({'epoch': $}, path)",
            "metadata={'name': 'text'}": "safetensors.export({'w': tree['w']}, path, $)",
            "js.drop(tree, ...)": "FILL ['epoch', 'name', 'rng']\nsafetensors.export($, path)",
            "js.select(tree, ...)": "FILL 'w'\nsafetensors.export($, path)",
        },
    ),
    Situation(
        "a size of shards is not one",
        """
tree, path = {'w': jnp.ones(2)}, os.path.join(directory, 'm')
# Fails:
safetensors.export(tree, path, max_shard_size='5GiB')
""",
        {"max_shard_size='5GB'": "safetensors.export(tree, path, $)"},
        ("'5GiB'",),
    ),
    Situation(
        "a separator of names is not one",
        """
tree, path = {'a/w': jnp.ones(2)}, os.path.join(directory, 'm')
# Fails:
safetensors.export(tree, path, names='_')
""",
        {"names='.'": "safetensors.export(tree, path, $)"},
    ),
    Situation(
        "metadata of safetensors are not strings",
        """
tree, path = {'a/w': jnp.ones(2)}, os.path.join(directory, 'm')
# Fails:
safetensors.export(tree, path, metadata={'step': 1000})
""",
        {"metadata={'step': '1000'}": "safetensors.export(tree, path, $)"},
    ),
    Situation(
        "the directory of an export is named as a file",
        """
tree = {'a/w': jnp.ones(2)}
os.chdir(directory)
# Fails:
safetensors.export(tree, 'model.safetensors')
""",
        {"safetensors.export(tree, 'exported')": "$"},
    ),
    Situation(
        "an export to safetensors meets another",
        """
tree, path = {'w': jnp.ones(2)}, os.path.join(directory, 'm')
safetensors.export(tree, path)
# Fails:
safetensors.export(tree, path)
""",
        {"overwrite=True": "safetensors.export(tree, path, $)"},
    ),
    Situation(
        "text is restored from TensorFlow",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'w': np.ones(2, np.float32)})
target = js.VarTree({'s': 'text', 'w': jnp.zeros(2)})
# Fails:
tensorflow.restore(target, path)
""",
        {"missing='keep'": "tensorflow.restore(target, path, $)"},
        ("missing='init'", "key="),
    ),
    Situation(
        "another library's checkpoint is restored as TensorFlow's",
        """
path = os.path.join(directory, 'x.npz')
np.savez(path, v=np.ones(2, np.float32))
target = js.VarTree({'w': jnp.zeros(2)})
# Fails:
tensorflow.restore(target, path)
""",
        {
            "js.Saver('DIRECTORY/x.npz').restore(target)": (
                "js.Saver(path).restore(js.VarTree({'v': jnp.zeros(2)}))"
            ),
            "rename=": "js.Saver(path).restore(target, ${'v': 'w'})",
        },
        ("DIRECTORY/x.npz",),
    ),
    Situation(
        "a scope of TensorFlow's has another name",
        """
def filled(value, *names):
    return {name: np.full(2, value, np.float32) for name in names}
path = tf_checkpoint.write(os.path.join(directory, 'm'), filled(1, 'bert/w', 'bert/b', 'step'))
tree = js.VarTree(filled(0, 'enc/w', 'enc/b', 'step'))
# Fails:
tensorflow.restore(tree, path)
""",
        {
            "assignment_map={'/': '/', 'bert': 'enc'}": (
                "tree, _ = tensorflow.restore(tree, path, $)\n"
                "assert all(value.all() for value in tree.values())"
            )
        },
    ),
    Situation(
        "a map of TensorFlow's has a list",
        """
value = np.arange(6, dtype=np.float32).reshape(2, 3)
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'kernel': value})
tree = js.VarTree({'w': jnp.zeros((3, 2))})
# Fails:
tensorflow.restore(tree, path, {'kernel': ['w']})
""",
        {"js.Through('w', np.transpose)": "tensorflow.restore(tree, path, {'kernel': $})"},
    ),
    Situation(
        "a scalar is stacked",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'a/w': np.float32(1)})
tree = js.VarTree({'a/w': jnp.zeros(())})
# Fails:
tensorflow.restore(tree, path, stacks=['a'])
""",
        {"stacks=": "tensorflow.restore(tree, path)"},
    ),
    Situation(
        "a name of TensorFlow's is not legal",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'w:0': np.ones(2), 'v': np.ones(2)})
# Fails:
tensorflow.load(path)
""",
        {
            "rename=": "tensorflow.load(path, $lambda name: name.partition(':')[0])",
            "drop=": "tensorflow.load(path, $lambda name, entry: ':' in name)",
        },
    ),
    Situation(
        "a tree gets initial values from TensorFlow",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'w': np.ones(2, np.float32)})
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
# Fails:
tensorflow.restore(declared.init(key), path, missing='init')
""",
        {
            "missing='init'": "tensorflow.restore(declared, path, $, key=key)",
            "key=jax.random.key(0)": "tensorflow.restore(declared, path, missing='init', $)",
            "missing='keep'": "tensorflow.restore(declared.init(key), path, $)",
            "declared.init(key)": "tensorflow.restore($, path, missing='keep')",
        },
    ),
    Situation(
        "initial values need a key, beside TensorFlow's",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'w': np.ones(2, np.float32)})
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
# Fails:
tensorflow.restore(declared, path, missing='init')
""",
        {"key=jax.random.key(0)": "tensorflow.restore(declared, path, missing='init', $)"},
        ("missing='init'",),
    ),
    Situation(
        "select picks nothing of TensorFlow's",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'w': np.ones(2, np.float32)})
tree = js.VarTree({'w': jnp.zeros(2)})
# Fails:
tensorflow.restore(tree, path, select='x')
""",
        {"select=": "tensorflow.restore(tree, path)"},
    ),
    Situation(
        "a number has no dtype",
        """
path, value = os.path.join(directory, 'm'), 1.0
# Fails:
tf_checkpoint.write(path, {'w': value})
""",
        {"np.asarray(value, np.float32)": "tf_checkpoint.write(path, {'w': $})"},
    ),
    Situation(
        "a writer outside its block",
        """
path = os.path.join(directory, 'm')
# Fails:
tf_checkpoint.Writer(path).add('w', np.ones(2))
""",
        {"with tf_checkpoint.Writer(path) as writer": "$:\n    writer.add('w', np.ones(2))"},
    ),
    # Transforms over meshes.
    Situation(
        "a shard's shape is requested",
        """
mesh = jax.make_mesh((2,), ('data',))
sharding = jax.sharding.NamedSharding(mesh, P('data'))
tree = js.VarTree({'w': jax.device_put(jnp.ones(4), sharding)})
def model(scope, x):
    return scope.get_variable('w', (2,)) + x
wrong = lambda scope, x: scope.get_variable('w', (4,)) + x
scope, x = js.Scope(tree), jnp.ones(())
function = lambda name, value: P('data')
# Fails:
jax.shard_map(wrong, mesh=mesh, in_specs=(P('data'), P()), out_specs=P('data'))(scope, x)
""",
        {
            "in_specs=(scope.specs(function, P()), ...)": (
                "FILL P()\njax.shard_map(model, mesh=mesh, $, out_specs=P('data'))(scope, x)"
            ),
            "js.declare(model)(...).check(tree)": """
FILL x
try:
    $
except js.TreeMismatchError as error:
    assert "'w' is (4,) in the tree, (2,) declared" in str(error)
""",
        },
        ("jax.shard_map",),
    ),
    Situation(
        "a sharded variable is created by a shard",
        """
mesh, spec = jax.make_mesh((2,), ('data',)), P('data')
def block(scope, x):
    return scope.get_variable('w', (2,), sharding=spec) + x
def model(scope, x):
    return jax.shard_map(block, mesh=mesh, in_specs=(P(), P()), out_specs=P('data'))(scope, x)
# Fails:
js.declare(model)(jnp.ones(2))
""",
        {
            "in_specs=(scope.specs(lambda name, value: spec, PartitionSpec()), ...)": """
FILL P()
def model(scope, x):
    return jax.shard_map(block, mesh=mesh, $, out_specs=P('data'))(scope, x)
assert js.declare(model)(jnp.ones(2))['w'].shape == (4,)
"""
        },
        ("sharding=*", "jax.shard_map"),
    ),
    # What remains.
    *(
        Situation(
            f"a partitioner has no axis {axis}",
            f"""
from jscope import sharding
part = sharding.fixed_size_partitioner(2, axis={axis}, mesh_axis='model')
def model(scope, partitioner):
    scope = scope.variable_scope('a', partitioner=partitioner)
    scope.get_variable('b', (4,))
    scope.get_variable('w', (4, 4))
# Fails:
js.declare(model)(part)
""",
            {
                "partitioner=lambda name, shape, dtype: part(name, shape, dtype) "
                "if len(shape) > 1 else None": """
declared = js.declare(model)(**dict($))
assert declared['a/b'].sharding is None
assert 'model' in declared['a/w'].sharding
"""
            },
        )
        for axis in (1, -2)
    ),
    Situation(
        "a mesh is a dict",
        """
declared = js.declare(lambda s: s.get_variable('w', (8, 4)))()
# Fails:
declared.init(key, mesh={'model': 8})
""",
        {"mesh=jax.make_mesh((8,), ('model',))": "declared.init(key, $)"},
    ),
    Situation(
        "classes aren't integers",
        """
first = init.categorical([[0.0, 0.0]])
# Fails:
js.init(lambda s: s.get_variable('w', (1, 3), jnp.float32, first))(key)
""",
        {
            "dtype=jnp.int32": (
                "js.init(lambda s: s.get_variable('w', (1, 3), initializer=first, $))(key)"
            )
        },
        ("categorical(*",),
    ),
    Situation(
        "a scope is rebuilt before it is assigned to",
        """
tree = js.VarTree({'n': jnp.zeros(())})
def block(scope, x):
    scope.assign('n', scope['n'] + x)
    return x
def model(scope, x):
    return block(jax.lax.stop_gradient(scope), x)
# Fails:
js.with_updates(model)(tree, 2.0)
""",
        {
            "y, updates = js.with_updates(block)(rebuilt, x)": """
def model(scope, x):
    rebuilt = jax.lax.stop_gradient(scope)
    $
    scope.update(updates)
    return y
assert js.with_updates(model)(tree, 2.0)[1]['n'] == 2
""",
            "scope.update(updates)": """
def model(scope, x):
    y, updates = js.with_updates(block)(jax.lax.stop_gradient(scope), x)
    $
    return y
assert js.with_updates(model)(tree, 2.0)[1]['n'] == 2
""",
        },
        ("jax.lax.stop_gradient(scope)", "jax.tree.map(f, scope)", "js.with_updates"),
    ),
    Situation(
        "branches assign different variables",
        """
tree = js.VarTree({'n': jnp.zeros(())})
def branch(scope, x):
    scope.assign('n', scope['n'] + x)
    return x
def other(scope, x):
    return x
def model(scope, x, collected):
    y, updates = jax.lax.cond(x > 0, collected(branch), collected(other), scope, x)
    scope.update(updates)
    return y
# Fails:
js.with_updates(model)(tree, 2.0, js.with_updates)
""",
        {
            "js.with_updates(branch, always=['n'])": (
                "assert js.with_updates(model)(tree, 2.0, lambda branch: $)[1]['n'] == 2"
            )
        },
        ("jax.lax.cond",),
    ),
    Situation(
        "a variable is text",
        """
tree, value = js.VarTree({'w': 'text'}), jnp.ones(2)
scope = js.Scope(tree)
# Fails:
scope.get_variable('w', (2,))
""",
        {
            "tree['w']": "assert $ == 'text'",
            "scope[...]": "FILL 'w'\nassert $ == 'text'",
            "tree | {'w': value}": "js.Scope($).get_variable('w', (2,))",
        },
    ),
    Situation(
        "a large number is an int32",
        """
# Fails:
js.declare(lambda s: s.get_variable('n', initializer=2**40, dtype=jnp.int32))()
""",
        {
            "dtype=jnp.int64": """
jax.config.update('jax_enable_x64', True)
try:
    js.declare(lambda s: s.get_variable('n', initializer=2**40, $))()
finally:
    jax.config.update('jax_enable_x64', False)
""",
            "jax.config.update('jax_enable_x64', True)": """
$
try:
    js.declare(lambda s: s.get_variable('n', initializer=2**40, dtype=jnp.int64))()
finally:
    jax.config.update('jax_enable_x64', False)
""",
        },
    ),
    Situation(
        "attention has a cache and a memory",
        """
def attention(scope, x, **more):
    return layers.multi_head_attention(scope, x, num_heads=2, head_size=2, cache_length=3, **more)
x = jnp.ones((1, 1, 8))
# Fails:
js.declare(lambda scope: attention(scope, x, memory=x))()
""",
        {
            "memory=": "js.declare(lambda scope: attention(scope, x))()",
            "mask=": "js.declare(lambda scope: attention(scope, x))()",
        },
    ),
    Situation(
        "padding is full",
        """
x = jnp.ones((1, 8, 8, 4))
conv = lambda scope, x, padding: layers.conv(scope, x, filters=4, kernel_size=3, padding=padding)
# Fails:
js.declare(conv)(x, 'full')
""",
        {
            "jnp.pad(x, ...)": (
                "FILL ((0, 0), (2, 2), (2, 2), (0, 0))\njs.declare(conv)($, 'valid')"
            )
        },
    ),
    Situation(
        "a draw of a name is repeated",
        """
scope = js.Scope({}, rngs=key)
scope.rng('dropout', name='first')
# Fails:
scope.rng('dropout', name='first')
""",
        {
            "name=": "scope.rng('dropout', $'second')",
            "scope.fold(step)": "step = 3\n$.rng('dropout', name='first')",
        },
    ),
    Situation(
        "a scope is divided by a number",
        """
scope, name = js.Scope({'3/w': 1.0}), '3'
# Fails:
scope / 3
""",
        {"scope / name": "assert ($)['w'] == 1.0"},
    ),
    *(
        Situation(
            f"{call} takes a function",
            f"""
def model(scope, f):
    {call}.get_variable('w', (2,))
# Fails:
js.declare(model)(3)
""",
            dict.fromkeys(codes, f"def f({arguments}):\n    {body}\njs.declare(model)(f)"),
            also,
        )
        for call, arguments, body, codes, also in (
            (
                "scope.variable_creator_scope(f)",
                "next_creator, **arguments",
                "return next_creator(**arguments)",
                ("f(next_creator, **arguments)", "next_creator(**arguments)"),
                (),
            ),
            (
                "scope.variable_scope('a', custom_getter=f)",
                "getter, name, **arguments",
                "return getter(name, **arguments)",
                ("f(getter, name, **arguments)",),
                (),
            ),
            (
                "scope.variable_scope('a', constraint=f)",
                "value",
                "return value",
                ("f(value)",),
                (),
            ),
        )
    ),
    Situation(
        "a replicated variable is requested",
        """
mesh = jax.make_mesh((1,), ('model',))
def model(scope, **more):
    scope.get_variable('w', (2,), **more)
# Fails:
js.declare(model)(synchronization='on_read')
""",
        {
            "sharding=": "js.declare(lambda s: s.get_variable('w', (2,), $P('model')))()",
            "trainable=False": "js.declare(lambda s: s.get_variable('w', (2,), $))()",
            "synchronization=": "js.declare(model)()",
        },
        ("get_variable('w')", "synchronization='on_read'"),
    ),
    Situation(
        "a variable is to live somewhere",
        """
mesh = jax.make_mesh((1,), ('model',))
def model(scope, **more):
    scope.get_variable('w', (2,), **more)
# Fails:
js.declare(model)(caching_device='gpu')
""",
        {
            "sharding=": "js.declare(lambda s: s.get_variable('w', (2,), $P('model')))()",
            "rules=": "js.declare(model)().init(key, mesh=mesh, $[('w', P('model'))])",
            "declared.init(key, mesh=mesh)": "declared = js.declare(model)()\n$",
            "caching_device=": "js.declare(model)()",
        },
        ("get_variable('w')", "caching_device='gpu'"),
    ),
    Situation(
        "shapes are other than they were saved",
        """
saver = Saver(directory)
saver.save({'w': jnp.ones((2, 3))}, 1)
target = {'w': jnp.zeros(6)}
# Fails:
saver.restore(target)
""",
        {"Saver(..., reshape=True)": "FILL directory\nassert $.restore(target)['w'].all()"},
    ),
    *(
        Situation(
            f"a saved kernel is transposed, with reshape={reshape}",
            f"""
saver = Saver(directory, reshape={reshape})
saver.save({{'b': jnp.ones(3), 'w': jnp.arange(6.0).reshape(2, 3)}}, 1)
target = {{'b': jnp.zeros(3), 'w': jnp.zeros((3, 2))}}
# Fails:
saver.restore(target)
""",
            {
                "rename={'w': js.Through('w', lambda x: x.transpose(1, 0))}": """
restored = saver.restore(target, $)
assert (restored['w'] == np.arange(6.0).reshape(2, 3).T).all()
""",
                **more,
            },
            ("js.Through(HOLE, lambda x: xHOLE)",),
        )
        for reshape, more in (
            ("False", {}),
            (
                "True",
                {
                    "Saver(..., reshape=['w'])": (
                        "FILL directory\nassert $.restore(target)['w'][0, 1] == 1"
                    )
                },
            ),
        )
    ),
    Situation(
        "all differs",
        """
saver = Saver(directory)
saver.save(js.VarTree({'old': jnp.ones(2), 'w': jnp.ones(2), 'u': jnp.ones(1)}), 1)
target = js.VarTree({
    'name': jnp.zeros(2), 'new': jnp.zeros(2), 'w': jnp.zeros(2, jnp.bfloat16)
})
most = {'convert': True, 'missing': 'keep', 'unexpected': 'ignore'}
# Fails:
saver.restore(target)
""",
        {
            "rename={saved: name}": (
                "saved, name = 'old', 'name'\n"
                "assert saver.restore(target, **(most | dict($)))['name'].all()"
            ),
            **dict.fromkeys(
                ("missing='keep'", "unexpected='ignore'", "convert=True"),
                "saver.restore(target, **(most | dict($)))",
            ),
            "select=": "saver.restore(target, $'w', convert=True)",
        },
    ),
    Situation(
        "rename is a list",
        """
saver = Saver(directory)
saver.save(js.VarTree({'saved/scope/w': jnp.ones(2)}), 1)
target = js.VarTree({'scope/w': jnp.zeros(2)})
# Fails:
saver.restore(target, rename=['saved'])
""",
        {"rename={'saved/scope': 'scope'}": "saver.restore(target, $)"},
    ),
    Situation(
        "rename is to nothing",
        """
saver = Saver(directory)
saver.save({'saved': jnp.ones(2)}, 1)
target = {'name': jnp.zeros(2)}
# Fails:
saver.restore(target, rename={'saved': None})
""",
        {
            "rename={'saved': 'name'}": "saver.restore(target, $)",
            "rename={'saved': ('name', 'another')}": (
                "saver.restore(target | {'another': jnp.zeros(2)}, $)"
            ),
            "rename={'saved': js.Through('name', np.transpose)}": "saver.restore(target, $)",
            "unexpected='ignore'": "saver.restore(target, $, missing='keep')",
        },
    ),
    Situation(
        "saved names have dots",
        """
saver = Saver(directory)
path = os.path.join(directory, 'm.npz')
np.savez(path, **{'model.0.w': np.ones(2, np.float32), 'model.1.w': np.ones(2, np.float32)})
target = {'block': {str(i): {'w': jnp.zeros(2)} for i in range(2)}}
# Fails:
saver.restore(target, path)
""",
        {
            "names='.'": "saver.restore(target, path, $, rename={'model/*/': 'block/*/'})",
            "select=": "saver.restore(target, path, $'block/0/*', rename={'model': 'block'}, "
            "names='.')",
            "rename=": "saver.restore(target, path, $lambda name: name.replace('model', 'block'), "
            "names='.')",
        },
    ),
    Situation(
        "names is no separator",
        """
saver = Saver(directory)
saver.save({'w': jnp.ones(2)}, 1)
target = {'w': jnp.zeros(2)}
# Fails:
saver.restore(target, names=None)
""",
        {"names='.'": "saver.restore(target, $)"},
    ),
    Situation(
        "names makes two names of a checkpoint one",
        """
saver = Saver(directory)
path = os.path.join(directory, 'm.npz')
np.savez(path, **{'a.w': np.ones(2, np.float32), 'a/w': np.ones(2, np.float32)})
target = {'a': {'w': jnp.zeros(2)}, 'b': jnp.zeros(2)}
# Fails:
saver.restore(target, path, names='.')
""",
        {"rename=": "saver.restore(target, path, $lambda name: 'b' if '.' in name else name)"},
    ),
    Situation(
        "a scope with stars lacks its slash",
        """
saver = Saver(directory)
saver.save({'layer_0': {'w': jnp.ones(2)}}, 1)
target = {'layers': {'0': {'w': jnp.zeros(2)}}}
# Fails:
saver.restore(target, rename={'layer_*': 'layers/*'})
""",
        {"rename={'layer_*/': 'layers/*/'}": "saver.restore(target, $)"},
    ),
    Situation(
        "reshape picks nothing",
        """
saver = Saver(directory)
saver.save({'w': jnp.ones(2)}, 1)
target = {'w': jnp.zeros(2)}
# Fails:
Saver(directory, reshape=['x']).restore(target)
""",
        {"Saver(..., reshape=False)": "FILL directory\n$.restore(target)"},
    ),
    Situation(
        "a Saver's second argument is a number",
        """
# Fails:
Saver(directory, None, 5)
""",
        {"max_to_keep=5": "Saver(directory, $)"},
        ("Saver('DIRECTORY')",),
    ),
    Situation(
        "one file is compressed",
        """
# Fails:
Saver(directory, sharded=False, compression='zstd')
""",
        {"sharded=False": "Saver(directory, $)\nSaver(directory, compression='zstd')"},
    ),
    Situation(
        "a target isn't cut evenly",
        """
saver = Saver(directory)
saver.save({'w': jnp.ones(3)}, 1)
mesh = jax.make_mesh((2,), ('data',))
def leaf(spec):
    sharding = jax.sharding.NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct((3,), jnp.float32, sharding=sharding)
# Fails:
saver.restore({'w': leaf(P('data'))})
""",
        {"jax.sharding.PartitionSpec()": "saver.restore({'w': leaf($)})"},
        ("jax.ShapeDtypeStruct", "*P('data',)*", "PartitionSpec('data',)"),
    ),
    Situation(
        "signals in a thread",
        """
import concurrent.futures
saver = Saver(directory)
def save():
    with saver.saving_on_termination():
        pass
# Fails:
concurrent.futures.ThreadPoolExecutor().submit(save).result()
""",
        {"saver.saving_on_termination()": "with $:\n    pass"},
    ),
    Situation(
        "a dict renames what is loaded",
        """
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'old': np.ones(2)})
# Fails:
tensorflow.load(path, rename={'old': 'new'})
""",
        {"js.rename(tensorflow.load(path), {'old': 'new'})": "assert list($) == ['new']"},
    ),
    *(
        Situation(
            f"stacks are {stacks}",
            f"""
path = tf_checkpoint.write(
    os.path.join(directory, 'm'), {{'encoder/layers/0/w': np.ones(2, np.float32)}}
)
tree = js.VarTree({{'encoder/layers/w': jnp.zeros((1, 2))}})
# Fails:
tensorflow.restore(tree, path, stacks={stacks})
""",
            {"stacks=['encoder/layers']": "tensorflow.restore(tree, path, $)"},
        )
        for stacks in ("'encoder/layers'", "[3]")
    ),
    Situation(
        "a part is outside of the whole",
        """
path = os.path.join(directory, 'm')
def write(index):
    part = tf_checkpoint.Part(np.ones((2, 3)), (2, 3), index)
    tf_checkpoint.write(path, {'w': part})
# Fails:
write(np.s_[0:9, :])
""",
        {"np.s_[0:2, :]": "write($)"},
        ("*slice*",),
    ),
    Situation(
        "a state file has a checkpoint's name",
        """
directory = os.path.join(directory, '')
state = tf_checkpoint.CheckpointState(os.path.join(directory, 'checkpoint'))
# Fails:
tf_checkpoint.write_state(directory, state)
""",
        {"tf_checkpoint.write_state(directory, state, 'another')": "$"},
    ),
    Situation(
        "an initializer is text",
        """
# Fails:
js.declare(lambda s: s.get_variable('w', initializer='zeros'))()
""",
        {
            "f(key, shape, dtype)": (
                "f = jax.nn.initializers.ones\n"
                "js.init(lambda s: s.get_variable('w', (2, 3), initializer=f))(key)"
            ),
            **dict.fromkeys(
                ("init.zeros", "init.glorot_uniform()"),
                "js.init(lambda s: s.get_variable('w', (2, 3), initializer=$))(key)",
            ),
        },
    ),
    Situation(
        "a getter is given what has no meaning in JAX",
        """
def model(scope, **more):
    def custom(getter, name, **arguments):
        return getter(name, **(arguments | more))
    scope.variable_scope('a', custom_getter=custom).get_variable('w', (2,))
# Fails:
js.declare(model)(use_resource=True)
""",
        {"use_resource=": "js.declare(model)()"},
        ("getter('w')", "getter('a/w')", "use_resource=True"),
    ),
    *(
        Situation(
            f"metadata has {value}",
            f"""
import dataclasses, pathlib
Point = dataclasses.make_dataclass('Point', ['x'])
metadata = {{'a': {value}}}
# Fails:
Saver(directory).save({{'w': jnp.ones(2)}}, 1, metadata=metadata)
""",
            {code: "metadata['a'] = $\nSaver(directory).save({}, 1, metadata=metadata)"},
        )
        for value, code in (
            ("pathlib.Path('x')", "str(metadata['a'])"),
            ("np.ones(2)", "metadata['a'].tolist()"),
            ("{3, 1}", "sorted(metadata['a'])"),
            ("(3, 1)", "list(metadata['a'])"),
            ("Point(1)", "dataclasses.asdict(metadata['a'])"),
        )
    ),
    Situation(
        "a saved kernel is transposed, with an axis of length 1",
        """
saver = Saver(directory)
saver.save({'b': jnp.ones(3), 'w': jnp.arange(6.0).reshape(1, 2, 3)}, 1)
target = {'b': jnp.zeros(3), 'w': jnp.zeros((3, 2))}
# Fails:
saver.restore(target)
""",
        {
            "rename={'w': js.Through('w', lambda x: x.squeeze().transpose(1, 0)"
            ".reshape((3, 2)))}": (
                "restored = saver.restore(target, $)\n"
                "assert (restored['w'] == np.arange(6.0).reshape(2, 3).T).all()"
            ),
        },
    ),
    Situation(
        "a kernel of TensorFlow's is transposed, with an axis of length 1",
        """
value = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
path = tf_checkpoint.write(os.path.join(directory, 'm'), {'w': value})
tree = js.VarTree({'w': jnp.zeros((3, 2))})
# Fails:
tensorflow.restore(tree, path)
""",
        {
            "assignment_map={'/': '/', 'w': js.Through('w', lambda x: "
            "x.squeeze().transpose(1, 0).reshape((3, 2)))}": (
                "tree, _ = tensorflow.restore(tree, path, $)\n"
                "assert (tree['w'] == value[0].T).all()"
            )
        },
    ),
    Situation(
        "a model needs a value",
        """
def model(scope, x):
    return scope.get_variable('w', (int(x.sum()),))
# Fails:
js.declare(model)(jnp.ones(2))
""",
        {
            "js.init(model, inline=True)(key, ...)": (
                "FILL jnp.ones(2)\nassert ($)['w'].shape == (2,)"
            )
        },
        ("js.declare(model)", "jnp.where", "jax.lax.cond", "x.astype", "functools.partial"),
    ),
    Situation(
        "a model uses an axis",
        """
def model(scope, x):
    return jax.lax.pmean(scope.get_variable('w', (2,)) * x, 'b')
# Fails:
js.declare(model)(jnp.ones(2))
""",
        {
            "js.declare(model, axis_sizes={'b': 8})(...)": (
                "FILL jnp.ones(2)\nassert ($)['w'].shape == (2,)"
            ),
            "js.init": "$(model, axis_sizes={'b': 8})(key, jnp.ones(2))",
        },
        ("jax.*",),
    ),
    *(
        Situation(
            f"a model uses an axis inline{sizes}",
            f"""
def model(scope, x):
    return jax.lax.pmean(scope.get_variable('w', (2,)) * x, 'b')
# Fails:
js.init(model, inline=True{sizes})(key, jnp.ones(2))
""",
            {
                "js.init(model, inline=True)": """
tree = jax.vmap(lambda x: $(key, x), axis_name='b')(jnp.ones((3, 2)))
assert tree['w'].shape == (3, 2)
"""
            },
            ("js.init(model, inline=True, axis_sizes=*)", "jax.*"),
        )
        for sizes in ("", ", axis_sizes={'b': 8}")
    ),
    Situation(
        "a block's scope is not used",
        """
import warnings
warnings.simplefilter('error', js.ScopeWarning)
def model(scope):
    with scope.variable_scope('enc'):
        scope.get_variable('w', (2,))
# Fails:
js.declare(model)()
""",
        {
            "with scope.variable_scope('enc') as enc": """
name, shape = 'w', (2,)
def model(scope):
    $:
        enc.get_variable(name, shape)
assert list(js.declare(model)()) == ['enc/w']
""",
            "enc.get_variable(name, shape)": """
name, shape = 'w', (2,)
def model(scope):
    with scope.variable_scope('enc') as enc:
        return $
assert list(js.declare(model)()) == ['enc/w']
""",
            "jax.named_scope('enc')": """
def model(scope):
    with $:
        scope.get_variable('w', (2,))
assert list(js.declare(model)()) == ['w']
""",
        },
    ),
    Situation(
        "a scope is used after its block by the name of the one around it",
        """
import warnings
warnings.simplefilter('error', js.ScopeWarning)
def model(scope):
    with scope.variable_scope('enc') as scope:
        scope.get_variable('w', (2,))
    return scope.get_variable('v', (2,))
# Fails:
js.declare(model)()
""",
        {
            "with scope.variable_scope('enc') as enc": """
def model(scope):
    $:
        enc.get_variable('w', (2,))
    return scope.get_variable('v', (2,))
assert list(js.declare(model)()) == ['enc/w', 'v']
""",
            "enc = scope / 'enc'": """
def model(scope):
    $
    enc.get_variable('w', (2,))
    return enc.get_variable('v', (2,))
assert list(js.declare(model)()) == ['enc/w', 'enc/v']
""",
        },
    ),
    Situation(
        "an integer is among the parameters",
        """
import warnings
def model(scope, x):
    return x * scope.get_variable('n', (), jnp.int32)
variables = js.init(model)(key, 1.0)
# Fails:
js.declare(model)(1.0).split(variables)
""",
        {
            "scope.get_variable(name, shape, dtype, trainable=False)": """
name, shape, dtype = 'n', (), jnp.int32
def model(scope, x):
    return x * $
params, state = js.declare(model)(1.0).split(variables)
assert list(state) == ['n']
""",
            "jax.grad(loss, allow_int=True)": """
loss = lambda params: model(js.Scope(params), 1.0)
$(variables)
""",
        },
        ("jax.grad", "'n'*"),
    ),
    Situation(
        "Flax's bytes have a variable under another name",
        """
import jscope.interop.flax
from flax import serialization
data = serialization.to_bytes(js.VarTree({'enc/w': jnp.ones(2)}))
target = js.VarTree({'encoder/w': jnp.zeros(2)})
# Fails:
serialization.from_bytes(target, data)
""",
        {
            "js.rename(tree, {old: new})": """
tree = serialization.from_bytes(js.rename(target, {'encoder': 'enc'}), data)
old, new = 'enc', 'encoder'
assert ($)['encoder/w'].all()
""",
        },
        ("flax.serialization.from_bytes",),
    ),
    # Programs of TF1.
    Situation(
        "arg_scope is given another scope, and arguments",
        """
other = js.Scope(js.VarTree({'a': 1.0}))
scope = js.Scope(js.VarTree({'w': 1.0}))
# Fails:
tf1.arg_scope(scope, other, stride=2)
""",
        {"tf1.arg_scope(scope, other)": "assert ($)['w'] == 1"},
    ),
    Situation(
        "arg_scope is given a function without a list",
        """
scope = js.Scope(js.VarTree({'w': 1.0}))
# Fails:
tf1.arg_scope(scope, tf1.contrib.conv2d, stride=2)
""",
        {
            "tf1.arg_scope(scope, [function], ...)": """FILL stride=2
function = tf1.contrib.conv2d
assert ($)['w'] == 1
"""
        },
    ),
    Situation(
        "a function that arg_scope doesn't know",
        """
scope = js.Scope(js.VarTree({'w': 1.0}))
def block(scope, x, stride=1):
    return x * stride
# Fails:
tf1.arg_scope(scope, [block], stride=2)
""",
        {},
        ("Write @tf1.add_arg_scope", "tf1.layers", "tf1.contrib"),
    ),
    Situation(
        "a layer of contrib is called without a scope, as in TF1",
        """
x = jnp.ones((2, 3))
# Fails:
tf1.contrib.fully_connected(x, 4)
""",
        {
            "fully_connected(scope, x, ...)": """FILL 4
from jscope.tf1.contrib import fully_connected
names = list(js.declare(lambda scope: $)())
assert sorted(names) == ['fully_connected/biases', 'fully_connected/weights']
"""
        },
    ),
    Situation(
        "a layer's activity is regularized",
        """
x, f = jnp.ones((2, 3)), jnp.sum
# Fails:
js.declare(lambda scope: tf1.layers.dense(scope, x, 4, activity_regularizer=f))()
""",
        {
            "scope.record('activity_loss', f(y))": """
def model(scope):
    y = tf1.layers.dense(scope, x, 4)
    $
    return y
_, records = js.with_records(model)(js.declare(model)().init(key))
assert list(records) == ['activity_loss']
""",
            "js.with_records(model)": """
def model(scope):
    scope.record('activity_loss', 1.0)
assert $(js.VarTree())[1]['activity_loss'] == 1
""",
        },
    ),
    Situation(
        "an LSTM's weights are in shards",
        """
# Fails:
tf1.layers.LSTMCell(4, num_unit_shards=2)
""",
        {
            "scope.variable_scope(name, partitioner=...)": """FILL None
def model(scope, name='a'):
    with $ as scope:
        cell = tf1.layers.LSTMCell(4)
        return cell(scope, jnp.ones((2, 3)), cell.zero_state(2, jnp.float32))
assert 'a/lstm_cell/kernel' in js.declare(model)()
"""
        },
        ("LSTMCell(..., num_unit_shards=2)",),
    ),
    Situation(
        "rows of a sparse gradient have the axes of their ids",
        """
table = jnp.zeros((5, 2))
ids, rows = jnp.array([[0, 1, 1]]), jnp.ones((1, 3, 2))
# Fails:
tf1.train.IndexedSlices(rows, ids, table.shape)
""",
        {
            "tf1.train.IndexedSlices(rows.reshape(-1, *table.shape[1:]), ids.reshape(-1), "
            "table.shape)": "assert ($).indices.shape == (3,)"
        },
    ),
    Situation(
        "an optimizer is not given the parameters",
        """
optimizer = tf1.train.AdamOptimizer(0.1)
params = js.VarTree({'w': jnp.ones(())})
gradients, opt_state = params, optimizer.init(params)
# Fails:
optimizer.update(gradients, opt_state)
""",
        {"optimizer.update(gradients, opt_state, params)": "assert list(($)[0]) == ['w']"},
    ),
    Situation(
        "an optimizer's state is of other variables",
        """
optimizer = tf1.train.AdamOptimizer(0.1)
params = js.VarTree({'w': jnp.ones(())})
opt_state = optimizer.init(js.VarTree({'v': jnp.ones(())}))
# Fails:
optimizer.update(params, opt_state, params)
""",
        {
            "opt_state = optimizer.init(params)": """
$
optimizer.update(params, opt_state, params)
"""
        },
    ),
    Situation(
        "a learning rate is given a step, as in TF1",
        """
# Fails:
tf1.train.polynomial_decay(0.1, 5, 10, 0.0)
""",
        {
            "rate = tf1.train.polynomial_decay(...)": """FILL 0.1, None, 10, 0.0
$
assert rate(10) == 0
"""
        },
    ),
    Situation(
        "the slots of a chain are asked for",
        """
params = js.VarTree({'w': jnp.ones(())})
clip = optax.clip(1.0)
adam = tf1.train.AdamOptimizer(0.1)
chain = optax.chain(clip, adam)
opt_state = chain.init(params)
# Fails:
tf1.train.to_slots(chain, opt_state)
""",
        {
            "adam = tf1.train.AdamOptimizer()": "$\nassert adam.init(params).slots",
            "chain = optax.chain(clip, adam)": "$\nchain.init(params)",
            "tf1.train.to_slots(adam, opt_state[1])": "assert 'w/Adam' in $",
        },
    ),
    Situation(
        "the slots are of variables without names",
        """
params = [jnp.ones(2)]
optimizer = tf1.train.MomentumOptimizer(0.1, 0.9)
# Fails:
tf1.train.to_slots(optimizer, optimizer.init(params))
""",
        {
            "optimizer.init(js.VarTree(params))": """
params = {'w': params[0]}
assert list(tf1.train.to_slots(optimizer, $)) == ['w/Momentum']
"""
        },
    ),
    Situation(
        "a tree lacks slots",
        """
optimizer = tf1.train.MomentumOptimizer(0.1, 0.9)
params = js.VarTree({'w': jnp.ones(2)})
# Fails:
tf1.train.from_slots(optimizer, params, params)
""",
        {"optimizer.init(params)": "assert list(($).slots.values())"},
        ("name='Momentum'*",),
    ),
    Situation(
        "a checkpoint has more than the program's own variables",
        """
declared = js.declare(lambda scope: scope.get_variable('w', (2,)))()
params = declared.init(key)
optimizer = tf1.train.GradientDescentOptimizer(0.1)
path = os.path.join(directory, 'model.ckpt')
tensorflow.export(params | {'w/ExponentialMovingAverage': np.ones(2)}, path)
# Fails:
tf1.train.restore(declared, path, optimizer)
""",
        {
            "others='**/ExponentialMovingAverage'": """
training = tf1.train.restore(declared, path, optimizer, $)
assert list(training.state) == ['w/ExponentialMovingAverage']
""",
        },
        ("others=", "var_list=", "name='GradientDescent'"),
    ),
    Situation(
        "the variables of an optimizer have moving statistics among them",
        """
def model(s):
    s.get_variable('a/w', (2,))
    s.get_variable('a/mean', (2,), trainable=False)
declared, scope = js.declare(model)(), 'a'
optimizer = tf1.train.MomentumOptimizer(0.1, 0.9)
path = os.path.join(directory, 'model.ckpt')
params, state = declared.split(declared.init(key))
slots = tf1.train.to_slots(optimizer, optimizer.init(params))
tensorflow.export(params | state | slots, path)
# Fails:
tf1.train.restore(declared, path, optimizer, var_list='a/**')
""",
        {
            "var_list=declared.trainable_variables()": """
training = tf1.train.restore(declared, path, optimizer, $)
assert list(training.state) == ['a/mean']
""",
            "declared.trainable_variables(scope)": """
training = tf1.train.restore(declared, path, optimizer, var_list=$)
assert list(training.state) == ['a/mean']
""",
        },
        ("var_list=", "name='Momentum'"),
    ),
    Situation(
        "the step of a training state is not that of its variables",
        """
optimizer = tf1.train.GradientDescentOptimizer(0.1)
params, state = js.VarTree({'w': jnp.ones(())}), js.VarTree({'global_step': 3})
training_state = tf1.train.TrainingState(params, state, optimizer.init(params), 4)
path = os.path.join(directory, 'model.ckpt')
# Fails:
tf1.train.save(training_state, path, optimizer)
""",
        {
            "training_state._replace(global_step=training_state.state['global_step'])": """
tf1.train.save($, path, optimizer)
assert tensorflow.load(path)['global_step'] == 3
""",
        },
    ),
    Situation(
        "two functions declare a variable differently",
        """
def model(scope, x):
    return x @ scope.get_variable('w', (x.shape[-1],))
x = jnp.ones(2)
act = js.declare(model)(jnp.ones(3))
# Fails:
act | js.declare(model)(x)
""",
        {
            "js.declare(lambda scope, x: model(scope / 'target', x))(x)": """
assert list(act | $) == ['w', 'target/w']
"""
        },
    ),
    Situation(
        "an initializer in TF1's form",
        """
def ones(shape, dtype=None, partition_info=None):
    return np.ones(shape, dtype)
arguments = dict(initializer=ones)
# Fails:
js.init(lambda s: s.get_variable('w', (2,), **arguments))(key)
""",
        {
            "initializer=js.tf1.initializer(ones)": """
arguments = dict($)
assert js.init(lambda s: s.get_variable('w', (2,), **arguments))(key)['w'].all()
""",
        },
        ("f(key, shape, dtype)",),
    ),
    Situation(
        "a warm start of a declaration without a key",
        """
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
path = tensorflow.export({'w': jnp.ones(2)}, 'model.ckpt', overwrite=True)
# Fails:
js.tf1.warm_start(declared, path)
""",
        {
            "key=jax.random.key(0)": """
assert js.tf1.warm_start(declared, path, $)['w'].all()
""",
        },
    ),
    Situation(
        "an RNN's initial state has another size than its cell",
        """
x, batch_size, dtype = jnp.ones((2, 4, 3)), 2, jnp.float32
cell = tf1.layers.GRUCell(2)
def model(scope, state):
    return tf1.layers.dynamic_rnn(scope, cell, x, initial_state=state)[0]
# Fails:
js.declare(model)(jnp.ones((2, 5)))
""",
        {"cell.zero_state(batch_size, dtype)": "assert len(js.declare(model)($)) == 4"},
    ),
    Situation(
        "an RNN's initial state has another dtype than its inputs",
        """
x = jnp.ones((2, 4, 3))
# Fails:
js.declare(lambda s: tf1.layers.dynamic_rnn(s, tf1.layers.GRUCell(2), x, dtype=jnp.float16))()
""",
        {
            "dtype=x.dtype": """
names = js.declare(lambda s: tf1.layers.dynamic_rnn(s, tf1.layers.GRUCell(2), x, $))()
assert len(names) == 4
"""
        },
    ),
    Situation(
        "an RNN is given a class of cells",
        """
x = jnp.ones((2, 4, 3))
# Fails:
js.declare(lambda s: tf1.layers.dynamic_rnn(s, tf1.layers.GRUCell, x, dtype=x.dtype))()
""",
        {
            "GRUCell(...)": """FILL 2
from jscope.tf1.layers import GRUCell
assert len(js.declare(lambda s: tf1.layers.dynamic_rnn(s, $, x, dtype=x.dtype))()) == 4
"""
        },
    ),
    Situation(
        "dynamic_rnn is given the list of static_rnn",
        """
inputs = [jnp.ones((2, 3))] * 4
cell = tf1.layers.GRUCell(2)
# Fails:
js.declare(lambda s: tf1.layers.dynamic_rnn(s, cell, inputs, dtype=jnp.float32))()
""",
        {
            "jnp.stack(inputs, 1)": """
assert len(js.declare(lambda s: tf1.layers.dynamic_rnn(s, cell, $, dtype=jnp.float32))()) == 4
"""
        },
    ),
    Situation(
        "static_rnn is given the array of dynamic_rnn",
        """
x = jnp.ones((2, 4, 3))
cell = tf1.layers.GRUCell(2)
# Fails:
js.declare(lambda s: tf1.layers.static_rnn(s, cell, x, dtype=jnp.float32))()
""",
        {
            "list(jnp.unstack(x, axis=1))": """
assert len(js.declare(lambda s: tf1.layers.static_rnn(s, cell, $, dtype=jnp.float32))()) == 4
"""
        },
    ),
    Situation(
        "a cell without a name is called in a transform",
        """
x, h = jnp.ones((2, 3)), jnp.ones((2, 2))
# Fails:
js.declare(lambda s: jax.jit(lambda s: tf1.layers.GRUCell(2)(s, x, h))(s))()
""",
        {
            "GRUCell(..., name='gru_cell')": """FILL 2
from jscope.tf1.layers import GRUCell
assert len(js.declare(lambda s: jax.jit(lambda s: $(s, x, h))(s))()) == 4
"""
        },
        ("jax.jit",),
    ),
    Situation(
        "warm_start with a pattern that is not a regular expression",
        """
from jscope.tf1 import warm_start
import re
name = 'w(1'
path = tensorflow.export({'w': jnp.ones(2)}, 'model.ckpt', overwrite=True)
# Fails:
warm_start({'w': jnp.zeros(2)}, path, name)
""",
        {
            "re.escape(name)": """
name = 'w'
assert warm_start({'w': jnp.zeros(2)}, path, $)['w'].all()
"""
        },
        ("'w(1'",),
    ),
    Situation(
        "warm_start with a pattern that matches nothing",
        """
path = tensorflow.export({'w': jnp.ones(2)}, 'model.ckpt', overwrite=True)
# Fails:
tf1.warm_start({'w': jnp.zeros(2)}, path, 'v')
""",
        {
            "vars_to_warm_start=None": """
assert not tf1.warm_start({'w': jnp.zeros(2)}, path, $)['w'].any()
"""
        },
    ),
    Situation(
        "assign_from_checkpoint_fn of a variable that the checkpoint lacks",
        """
path = tensorflow.export({'w': jnp.ones(2)}, 'model.ckpt', overwrite=True)
tree = {'w': jnp.zeros(2), 'v': jnp.zeros(2)}
# Fails:
tf1.assign_from_checkpoint_fn(path, ['v', 'w'])(tree)
""",
        {
            "ignore_missing_vars=True": """
import warnings
with warnings.catch_warnings(action='ignore'):
    assigned = tf1.assign_from_checkpoint_fn(path, ['v', 'w'], $)(tree)
assert assigned['w'].all()
"""
        },
    ),
    Situation(
        "assign_from_checkpoint_fn of a tree",
        """
path = tensorflow.export({'w': jnp.ones(2)}, 'model.ckpt', overwrite=True)
tree = js.VarTree({'w': jnp.zeros(2)})
declared = js.declare(lambda s: s.get_variable('w', (2,)))()
# Fails:
tf1.assign_from_checkpoint_fn(path, tree)
""",
        {
            "list(declared)": "assert tf1.assign_from_checkpoint_fn(path, $)(tree)['w'].all()",
            "list(tree)": "assert tf1.assign_from_checkpoint_fn(path, $)(tree)['w'].all()",
        },
    ),
    Situation(
        "a window is larger than its input",
        """
x = jnp.ones((2, 6, 6, 3))
# Fails:
js.declare(lambda s: layers.conv(s, x, filters=4, kernel_size=9))()
""",
        {
            "padding='SAME'": """
assert len(js.declare(lambda s: layers.conv(s, x, filters=4, kernel_size=9, $))()) == 2
"""
        },
    ),
    Situation(
        "an initializer is a string",
        """
x = jnp.ones((2, 3))
# Fails:
js.declare(lambda s: s.get_variable('w', (2,), initializer='random_normal'))()
""",
        {
            "initializer=init.random_normal()": """
assert len(js.declare(lambda s: s.get_variable('w', (2,), $))()) == 1
"""
        },
        ("f(key, shape, dtype)",),
    ),
    Situation(
        "an initializer is called without a dtype",
        """
def ones(key, shape):
    return jnp.ones(shape)
# Fails:
js.declare(lambda s: s.get_variable('w', (2,), initializer=ones))()
""",
        {},
        ("f(key, shape, dtype)",),
    ),
    Situation(
        "an initializer of jscope's is passed as one of TF1's",
        """
def ones(key, shape, dtype):
    return jnp.ones(shape, dtype)
# Fails:
js.tf1.initializer(ones)
""",
        {
            "initializer=ones": """
assert len(js.declare(lambda s: s.get_variable('w', (2,), $))()) == 1
"""
        },
        ("js.tf1.initializer",),
    ),
]
