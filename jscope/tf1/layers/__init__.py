"""``tf.layers``: TF1's signatures, default names and order of creation, with the scope in front.

``tf.layers.dense(x, 10)`` becomes ``layers.dense(scope, x, 10)``. The arithmetic is that of
`jscope.layers`, whose functions choose no names and take channels last. Here

* **a layer opens a scope**: the one of its ``name``, or of its default name, made unique as TF1
  makes it: ``dense``, ``dense_1``, ... In the body of a transform a name is required;
* **variables are created in TF1's order**, with its initializers;
* **what TF1 decides by a tensor is static** here: ``training``;
* **cells and loops of RNNs** are here too, those of ``tf.nn.rnn_cell`` and ``tf.nn``;
* all functions but those of RNNs take default arguments from `tf1.arg_scope`.

Names, order, values and gradients are compared with TensorFlow's own (`tests/tf1`).
"""

from typing import TYPE_CHECKING

from ..._names.tf1 import no_attribute, public
from ._convolution import conv1d as conv1d
from ._convolution import conv2d as conv2d
from ._convolution import conv2d_transpose as conv2d_transpose
from ._convolution import conv3d as conv3d
from ._convolution import conv3d_transpose as conv3d_transpose
from ._convolution import separable_conv1d as separable_conv1d
from ._convolution import separable_conv2d as separable_conv2d
from ._core import dense as dense
from ._core import dropout as dropout
from ._core import embedding as embedding
from ._core import flatten as flatten
from ._normalization import batch_normalization as batch_normalization
from ._pooling import average_pooling1d as average_pooling1d
from ._pooling import average_pooling2d as average_pooling2d
from ._pooling import average_pooling3d as average_pooling3d
from ._pooling import max_pooling1d as max_pooling1d
from ._pooling import max_pooling2d as max_pooling2d
from ._pooling import max_pooling3d as max_pooling3d
from ._rnn import bidirectional_dynamic_rnn as bidirectional_dynamic_rnn
from ._rnn import dynamic_rnn as dynamic_rnn
from ._rnn import static_rnn as static_rnn
from ._rnn_cells import BasicLSTMCell as BasicLSTMCell
from ._rnn_cells import BasicRNNCell as BasicRNNCell
from ._rnn_cells import DropoutWrapper as DropoutWrapper
from ._rnn_cells import GRUCell as GRUCell
from ._rnn_cells import LSTMCell as LSTMCell
from ._rnn_cells import LSTMStateTuple as LSTMStateTuple
from ._rnn_cells import MultiRNNCell as MultiRNNCell
from ._rnn_cells import RNNCell as RNNCell

if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        raise no_attribute(__name__, name, public(globals()))


def __dir__() -> list[str]:
    return public(globals())
