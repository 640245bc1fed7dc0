"""Rewrites an int8 export of Kokoro so that a CPU speaks it in less time: the same sums of bytes, computed otherwise.

It owns the patterns that exporter and quantizer make, and knows no engine. ONNX Runtime sums a quantized convolution
with unsigned weights, for which its kernels are slow. The same sum with signed weights, as a product of matrices, runs
on the byte instructions of today's CPUs, on weights that are packed once. Those without VNNI add such products in
pairs of 16 bits, which whole bytes overflow, so there the weights are held to seven bits. The normalizations between
them, exported as eight operators that each go through all samples, become the one that they are.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_FEW_CHANNELS = 8
"""A convolution to fewer isn't worth its rewriting."""
_SIGN = 128
"""From an unsigned byte to the signed one that stands for it."""
_NARROW = 64
"""The largest weight of which two products with an unsigned byte fit into 16 bits: 2 · 255 · 64 < 2¹⁵."""


def rewrite(model: ModelProto, *, narrow: bool = False) -> int:
    """Rewrite the quantized convolutions and what normalizes beside them, in the model itself.

    Args:
        model: is changed.
        narrow: hold the weights to seven bits, for CPUs on which products are not exact. Most channels have no larger
            ones; those of the others are rounded to coarser steps.

    Returns:
        How many convolutions there were. Those that don't have the quantizer's form are left as they are, and a model
        without any is not touched.
    """
    graph = _Graph(model)
    convolutions = [node for node in model.graph.node if node.op_type == "ConvInteger"]
    count = sum(_rewrite_convolution(graph, node, narrow=narrow) for node in convolutions)
    if count:
        for node in model.graph.node:
            if node.op_type == "Div":
                _rewrite_normalization(graph, node)
        graph.finish()
    return count


def products_are_exact() -> bool:
    """Whether all products of unsigned and signed bytes are summed exactly: x86 without VNNI saturates pairs of them.

    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html says when and why.
    """
    n, largest_unsigned, largest_signed = 64, 255, 127
    weights = numpy_helper.from_array(np.full((n, n), largest_signed, dtype=np.int8), "b")
    left = helper.make_tensor_value_info("a", TensorProto.UINT8, [n, n])
    sums = helper.make_tensor_value_info("y", TensorProto.INT32, [n, n])
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "sums", [left], [sums], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"a": np.full((n, n), largest_unsigned, dtype=np.uint8)})[0]
    return bool((found == n * largest_unsigned * largest_signed).all())


class _Graph:
    """The nodes of a model by what they make and by what takes that, and what is to stand in the place of some."""

    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._takers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self._takers[name].append(node)
        self._in_place_of: dict[str, list[NodeProto]] = {}
        self._added: list[NodeProto] = []
        self._n_added = 0

    def constant(self, name: str) -> NDArray[Any] | None:
        """An array that the model holds; None for what is computed."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def maker(self, name: str, kind: str) -> NodeProto | None:
        """The node that makes a value, if it is of that kind."""
        node = self._makers.get(name)
        return node if node is not None and node.op_type == kind else None

    def taker(self, node: NodeProto | None, kind: str) -> NodeProto | None:
        """What takes a node's result, if nothing else does and it is of that kind."""
        takers = [] if node is None else self._takers[node.output[0]]
        return takers[0] if len(takers) == 1 and takers[0].op_type == kind else None

    def add_constant(self, value: ArrayLike) -> str:
        """The name of an array."""
        name = self._name()
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The name of what a new node makes."""
        name = self._name()
        self._added.append(helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def put_in_place_of(self, node: NodeProto) -> None:
        """Let all that was added since the last call stand for a node: the last of it makes what the node did."""
        self._added[-1].output[0] = node.output[0]
        self._in_place_of[node.output[0]], self._added = self._added, []

    def finish(self) -> None:
        """Put the model together again, without what nothing takes any more."""
        nodes = [new for old in self._graph.node for new in self._in_place_of.get(next(iter(old.output)), [old])]
        taken = {value.name for value in self._graph.output}
        alive = []
        for node in reversed(nodes):
            if taken.intersection(node.output):
                taken.update(node.input)
                alive.append(node)
        constants = [tensor for tensor in self._graph.initializer if tensor.name in taken]
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(reversed(alive))
        self._graph.initializer.extend(constants)

    def _name(self) -> str:
        self._n_added += 1
        return f"rewritten_{self._n_added}"


def _rewrite_convolution(graph: _Graph, node: NodeProto, *, narrow: bool) -> bool:
    """The convolution, its bias and its way back to floats, as one product of matrices."""
    values, weight_name, zero, weight_zero_name = node.input
    weights, weight_zero = graph.constant(weight_name), graph.constant(weight_zero_name)
    about = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    biased = graph.taker(node, "Add")
    cast = graph.taker(biased or node, "Cast")
    scaled = graph.taker(cast, "Mul")
    if weights is None or weight_zero is None or cast is None or scaled is None:
        return False
    one_dimension = weights.dtype == np.uint8 and len(weights.shape) == len("oit") and weight_zero.size == 1
    scales = graph.maker(_other(scaled, cast.output[0]), "Mul")
    bias = None if biased is None else _float_bias(graph, _other(biased, node.output[0]))
    if not one_dimension or weights.shape[0] < _FEW_CHANNELS or about["group"] != 1 or scales is None:
        return False
    if biased is not None and bias is None:
        return False
    scale, weight_scale = scales.input
    n_out, n_in, n_taps = weights.shape
    by_channel = weights.astype(np.int16).transpose(2, 1, 0).reshape(n_taps * n_in, n_out)
    if narrow:
        signed, steps = _narrowed(by_channel - int(weight_zero.item()))
        weight_scale = graph.add("Mul", weight_scale, graph.add_constant(steps))
        signed_zero = np.int8(0)
    else:
        signed = (by_channel - _SIGN).astype(np.int8)
        signed_zero = np.int8(int(weight_zero.item()) - _SIGN)
    by_time = graph.add("Transpose", graph.add("Squeeze", values, graph.add_constant([0])), perm=[1, 0])
    windows = _windows(graph, by_time, zero, n_taps, n_in, about)
    matrix, matrix_zero = graph.add_constant(signed), graph.add_constant(signed_zero)
    inputs = [windows, matrix, scale, weight_scale, zero, matrix_zero, *([bias] if bias else [])]
    product = graph.add("MatMulIntegerToFloat", *inputs, domain="com.microsoft")
    graph.add("Unsqueeze", graph.add("Transpose", product, perm=[1, 0]), graph.add_constant([0]))
    graph.put_in_place_of(scaled)
    return True


def _narrowed(weights: NDArray[np.int16]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights about zero (n_rows, n_out) in steps of which the largest has few enough, and each channel's step."""
    steps = np.maximum(np.abs(weights).max(axis=0) / _NARROW, 1.0).astype(np.float32)
    return np.rint(weights / steps).astype(np.int8), steps


def _windows(graph: _Graph, by_time: str, zero: str, n_taps: int, n_in: int, about: dict[str, Any]) -> str:
    """From (n_times, n_in) to (n_times_out, n_taps * n_in): beside each other what each place of the kernel covers."""
    (stride,), (dilation,), (before, after) = about["strides"], about["dilations"], about["pads"]
    if n_taps == stride == 1 and before == after == 0:
        return by_time
    padded = graph.add("Pad", by_time, graph.add_constant([before, 0, after, 0]), zero)
    n_times = graph.add("Squeeze", graph.add("Shape", padded, start=0, end=1))
    end = graph.add("Sub", n_times, graph.add_constant((n_taps - 1) * dilation))
    starts = graph.add("Range", graph.add_constant(0), end, graph.add_constant(stride))
    column = graph.add("Unsqueeze", starts, graph.add_constant([1]))
    times = graph.add("Add", column, graph.add_constant([[tap * dilation for tap in range(n_taps)]]))
    gathered = graph.add("Gather", padded, times, axis=0)
    return graph.add("Reshape", gathered, graph.add_constant([-1, n_taps * n_in]))


def _rewrite_normalization(graph: _Graph, node: NodeProto) -> bool:
    """(x − mean) ÷ √(variance + ε) · scale + shift, over the times of each channel."""
    centred = graph.maker(node.input[0], "Sub")
    root = graph.maker(node.input[1], "Sqrt")
    raised = graph.maker(root.input[0], "Add") if root else None
    scaled = graph.taker(node, "Mul")
    shifted = graph.taker(scaled, "Add")
    if centred is None or raised is None or scaled is None or shifted is None:
        return False
    values, mean = centred.input
    variance, epsilon = sorted(raised.input, key=lambda name: graph.constant(name) is not None)
    averaged = graph.maker(variance, "ReduceMean")
    squared = graph.maker(averaged.input[0], "Mul") if averaged else None
    scale, shift = _other(scaled, node.output[0]), _other(shifted, scaled.output[0])
    of_each_channel = all(_is_column(graph, name) for name in (scale, shift))
    if squared is None or list(squared.input) != [centred.output[0]] * 2 or not of_each_channel:
        return False
    about_times = _is_mean_over_time(graph, mean, values) and _is_mean_over_time(graph, variance, squared.output[0])
    added = graph.constant(epsilon)
    if not about_times or added is None or added.size != 1:
        return False
    factors = [graph.add("Reshape", name, graph.add_constant([-1])) for name in (scale, shift)]
    graph.add("InstanceNormalization", values, *factors, epsilon=float(added.item()))
    graph.put_in_place_of(shifted)
    return True


def _is_mean_over_time(graph: _Graph, name: str, values: str) -> bool:
    node = graph.maker(name, "ReduceMean")
    if node is None or node.input[0] != values or len(node.input) == 1:
        return False
    axes = graph.constant(node.input[1])
    return axes is not None and axes.tolist() == [2]


def _is_column(graph: _Graph, name: str) -> bool:
    """Whether a value has one number for each channel, in the shape (1, n_channels, 1)."""
    array = graph.constant(name)
    if array is not None:
        return len(array.shape) == len("oit") and array.shape[0] == array.shape[2] == 1
    added = graph.maker(name, "Add")
    if added is not None:
        name = next((one for one in added.input if graph.constant(one) is None), "")
    split = graph.maker(name, "Split")
    column = graph.maker(split.input[0], "Unsqueeze") if split else None
    axes = graph.constant(column.input[1]) if column else None
    return axes is not None and axes.tolist() == [2]


def _float_bias(graph: _Graph, name: str) -> str | None:
    """The floats behind a bias that is turned into integers of the product's scale; None where it has another form."""
    for kind in ("Reshape", "Cast", "Floor", "Div"):
        node = graph.maker(name, kind)
        if node is None:
            return None
        name = node.input[0]
    return name


def _other(node: NodeProto, name: str) -> str:
    """Of a node's two inputs the one that is not called so."""
    first, second = node.input
    return str(second if first == name else first)
