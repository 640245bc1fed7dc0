"""Rewrites an int8 export of Kokoro so that a CPU speaks it in less time: the same sums of bytes, computed otherwise.

It owns the patterns that exporter and quantizer make, and knows no engine. ONNX Runtime sums a quantized convolution
with unsigned weights, for which its kernels are slow. The same sum with signed weights, as a product of matrices, runs
on the byte instructions of today's CPUs, on weights that are packed once. Those without VNNI add such products in
pairs of 16 bits, which whole bytes overflow, so there the weights are held to seven bits. The normalizations between
them, exported as eight operators that each go through all samples, become the one that they are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from deployments.tts.onnx_graph import Graph

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
    graph = Graph(model)
    convolutions = [node for node in model.graph.node if node.op_type == "ConvInteger"]
    count = sum(_rewrite_convolution(graph, node, narrow=narrow) for node in convolutions)
    if count:
        rewrite_normalizations(graph, model)
        graph.finish()
    return count


def rewrite_normalizations(graph: Graph, model: ModelProto) -> None:
    """Put one operator in the place of each normalization over time; `graph.finish()` then does it."""
    for node in model.graph.node:
        if node.op_type == "Div":
            _rewrite_normalization(graph, node)


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


@dataclass(frozen=True, slots=True)
class Convolution:
    """A quantized convolution with its bias and its way back to floats. What isn't an array is a value's name."""

    values: str
    zero: str
    """Of the values, bytes; likewise `scale`."""
    scale: str
    weights: NDArray[np.uint8]
    """(n_out, n_in, n_taps)."""
    weight_zero: int
    weight_scale: str
    bias: str | None
    """Floats (n_out,)."""
    about: dict[str, Any]
    """The node's attributes."""
    result: NodeProto
    """What makes the floats."""


def read(graph: Graph, node: NodeProto) -> Convolution | None:
    """A ConvInteger and what belongs to it; None where it has another form than the quantizer's."""
    values, weight_name, zero, weight_zero_name = node.input
    weights, weight_zero = graph.constant(weight_name), graph.constant(weight_zero_name)
    about = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    biased = graph.taker(node, "Add")
    cast = graph.taker(biased or node, "Cast")
    scaled = graph.taker(cast, "Mul")
    if weights is None or weight_zero is None or cast is None or scaled is None:
        return None
    one_dimension = weights.dtype == np.uint8 and len(weights.shape) == len("oit") and weight_zero.size == 1
    scales = graph.maker(_other(scaled, cast.output[0]), "Mul")
    bias = None if biased is None else _float_bias(graph, _other(biased, node.output[0]))
    if not one_dimension or scales is None or (biased is not None and bias is None):
        return None
    scale, weight_scale = scales.input
    return Convolution(values, zero, scale, weights, int(weight_zero.item()), weight_scale, bias, about, scaled)


def _rewrite_convolution(graph: Graph, node: NodeProto, *, narrow: bool) -> bool:
    """As one product of matrices."""
    found = read(graph, node)
    if found is None or found.weights.shape[0] < _FEW_CHANNELS or found.about["group"] != 1:
        return False
    n_out, n_in, n_taps = found.weights.shape
    by_channel = found.weights.astype(np.int16).transpose(2, 1, 0).reshape(n_taps * n_in, n_out)
    weight_scale = found.weight_scale
    if narrow:
        signed, steps = _narrowed(by_channel - found.weight_zero)
        weight_scale = graph.add("Mul", weight_scale, graph.add_constant(steps))
        signed_zero = np.int8(0)
    else:
        signed = (by_channel - _SIGN).astype(np.int8)
        signed_zero = np.int8(found.weight_zero - _SIGN)
    by_time = graph.add("Transpose", graph.add("Squeeze", found.values, graph.add_constant([0])), perm=[1, 0])
    windows = _windows(graph, by_time, found.zero, n_taps, n_in, found.about)
    matrix, matrix_zero = graph.add_constant(signed), graph.add_constant(signed_zero)
    inputs = [windows, matrix, found.scale, weight_scale, found.zero, matrix_zero]
    inputs += [found.bias] if found.bias else []
    product = graph.add("MatMulIntegerToFloat", *inputs, domain="com.microsoft")
    graph.add("Unsqueeze", graph.add("Transpose", product, perm=[1, 0]), graph.add_constant([0]))
    graph.put_in_place_of(found.result)
    return True


def _narrowed(weights: NDArray[np.int16]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights about zero (n_rows, n_out) in steps of which the largest has few enough, and each channel's step."""
    steps = np.maximum(np.abs(weights).max(axis=0) / _NARROW, 1.0).astype(np.float32)
    return np.rint(weights / steps).astype(np.int8), steps


def _windows(graph: Graph, by_time: str, zero: str, n_taps: int, n_in: int, about: dict[str, Any]) -> str:
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


def _rewrite_normalization(graph: Graph, node: NodeProto) -> bool:
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


def _is_mean_over_time(graph: Graph, name: str, values: str) -> bool:
    node = graph.maker(name, "ReduceMean")
    if node is None or node.input[0] != values or len(node.input) == 1:
        return False
    axes = graph.constant(node.input[1])
    return axes is not None and axes.tolist() == [2]


def _is_column(graph: Graph, name: str) -> bool:
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


def _float_bias(graph: Graph, name: str) -> str | None:
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
