"""Convolutions that ONNX's own quantizer has made are computed otherwise, and give what they gave."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from deployments.tts import kokoro_graph  # noqa: E402

needs_exact = pytest.mark.skipif(
    not kokoro_graph.products_are_exact(), reason="this CPU doesn't sum products of bytes exactly"
)


def one(nodes, arrays, n_in, n_out):
    """A model from x to y."""
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, n_in, "n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, n_out, "m"])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def quantized(tmp_path, *, n_out=16, n_in=12, taps=5, group=1, **attributes):
    """A model of one convolution, by the quantizer that makes int8 models: it adds the bias to the floats."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    draw = np.random.default_rng(taps)
    arrays = {"w": draw.normal(0.3, 1.0, (n_out, n_in // group, taps)), "b": draw.normal(0.0, 2.0, n_out)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], kernel_shape=[taps], group=group, **attributes)
    model = one([node], {name: array.astype(np.float32) for name, array in arrays.items()}, n_in, n_out)
    quantize_dynamic(model, tmp_path / "int8.onnx", op_types_to_quantize=["Conv"], weight_type=QuantType.QUInt8)
    return onnx.load(tmp_path / "int8.onnx")


WEIGHT_SCALE = 0.02


def with_integer_bias(n_out=16, n_in=12, taps=5):
    """What older quantizers made, and the packaged model has: the bias in integers of the product's scale."""
    draw = np.random.default_rng(3)
    arrays = {
        "w": draw.integers(0, 256, (n_out, n_in, taps)).astype(np.uint8),
        "w_zero": np.uint8(131),
        "w_scale": np.float32(WEIGHT_SCALE),
        "b": draw.normal(0.0, 2.0, n_out).astype(np.float32),
        "shape": np.array([1, -1, 1]),
    }
    shape = {"kernel_shape": [taps], "group": 1, "strides": [1], "dilations": [1], "pads": [2, 2]}
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("ConvInteger", ["q", "w", "zero", "w_zero"], ["sums"], **shape),
        helper.make_node("Mul", ["scale", "w_scale"], ["scales"]),
        helper.make_node("Div", ["b", "scales"], ["b_scaled"]),
        helper.make_node("Floor", ["b_scaled"], ["b_floor"]),
        helper.make_node("Cast", ["b_floor"], ["b_int"], to=TensorProto.INT32),
        helper.make_node("Reshape", ["b_int", "shape"], ["b_column"]),
        helper.make_node("Add", ["sums", "b_column"], ["biased"]),
        helper.make_node("Cast", ["biased"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scales"], ["y"]),
    ]
    return one(nodes, arrays, n_in, n_out)


def run(model, samples):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": samples})[0]


def sound(n_in=12, n_times=97):
    return np.random.default_rng(1).normal(1.0, 3.0, (1, n_in, n_times)).astype(np.float32)


def kinds(model):
    return [node.op_type for node in model.graph.node]


SHAPES = [
    {"taps": 1, "pads": [0, 0]},
    {"taps": 1, "pads": [0, 0], "strides": [3]},
    {"taps": 5, "pads": [2, 2]},
    {"taps": 3, "pads": [5, 5], "dilations": [5]},
    {"taps": 12, "pads": [3, 3], "strides": [6]},
    {"taps": 4, "pads": [0, 3]},
]


@needs_exact
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_are_the_same_to_the_last_bit(tmp_path, shape):
    model = quantized(tmp_path, **{"strides": [1], "dilations": [1], **shape})
    expected = run(model, sound())
    assert kokoro_graph.rewrite(model) == 1
    assert "ConvInteger" not in kinds(model)
    np.testing.assert_array_equal(run(model, sound()), expected)


@needs_exact
def test_a_bias_of_integers_is_no_longer_rounded_down():
    """It was floored to a multiple of the product's scale, and that is all that differs."""
    model = with_integer_bias()
    before = run(model, sound())
    assert kokoro_graph.rewrite(model) == 1
    gained = run(model, sound()) - before
    step = np.ptp(np.append(sound(), 0.0)) / 255 * WEIGHT_SCALE
    assert gained.max() > 0.5 * step
    assert gained.min() >= -0.01 * step
    assert gained.max() <= 1.01 * step


def weights_of(model):
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.INT8 and t.dims)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_narrow_weights_give_the_same_sums_on_every_cpu_but_for_their_rounding(tmp_path, shape):
    """A whole byte's products overflow in pairs on x86 without VNNI, and are then wrong by hundreds of steps."""
    model = quantized(tmp_path, **{"strides": [1], "dilations": [1], **shape})
    expected = run(model, sound())
    assert kokoro_graph.rewrite(model, narrow=True) == 1
    weights = weights_of(model).astype(int)
    assert np.abs(weights).max() <= 64
    assert 2 * 255 * np.abs(weights).max() < 2**15, "no pair of products overflows"
    found = run(model, sound())
    assert np.std(found - expected) < 0.02 * np.std(expected)
    assert np.abs(np.mean(found - expected)) < 0.005 * np.std(expected)


def test_channels_whose_weights_are_small_enough_are_narrowed_without_rounding():
    model = with_integer_bias()
    [weights] = [t for t in model.graph.initializer if t.name == "w"]
    small = np.random.default_rng(5).integers(131 - 64, 131 + 65, (16, 12, 5)).astype(np.uint8)
    small[3] = 255  # one channel has larger ones
    weights.CopyFrom(numpy_helper.from_array(small, "w"))
    kokoro_graph.rewrite(model, narrow=True)
    expected = (small.astype(int) - 131).transpose(2, 1, 0).reshape(-1, 16)
    found = weights_of(model)
    others = [channel for channel in range(16) if channel != 3]
    np.testing.assert_array_equal(found[:, others], expected[:, others])
    assert (found[:, 3] == 64).all()


@pytest.mark.parametrize("odd", [{"n_out": 4}, {"group": 2, "n_out": 16}], ids=str)
def test_what_has_another_form_is_left_alone(tmp_path, odd):
    model = quantized(tmp_path, strides=[1], dilations=[1], pads=[2, 2], **odd)
    before = model.SerializeToString()
    assert kokoro_graph.rewrite(model) == 0
    assert model.SerializeToString() == before


@needs_exact
def test_what_only_the_old_convolution_needed_is_gone():
    model = with_integer_bias()
    kokoro_graph.rewrite(model)
    taken = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= taken
    assert not {"ConvInteger", "Floor", "Div"} & set(kinds(model))


def normalized(axes=(2,), column=(2,), n_out=16):
    """The convolution, and its result normalized over an axis, with a scale and a shift that a style gives."""
    model = with_integer_bias(n_out)
    graph = model.graph
    graph.node[-1].output[0] = "c"
    draw = np.random.default_rng(4)
    arrays = {
        "style": draw.normal(0.0, 1.0, (1, 2 * n_out)).astype(np.float32),
        "axes": np.array(axes),
        "column": np.array(column),
        "halves": np.array([n_out, n_out]),
        "one": np.float32(1.0),
        "epsilon": np.float32(1e-5),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items())
    for kind, inputs, outputs, about in (
        ("Unsqueeze", ["style", "column"], ["styles"], {}),
        ("Split", ["styles", "halves"], ["gain", "shift"], {"axis": 3 - column[0]}),
        ("Add", ["gain", "one"], ["styled"], {}),
        ("ReduceMean", ["c", "axes"], ["mean"], {}),
        ("Sub", ["c", "mean"], ["centred"], {}),
        ("Mul", ["centred", "centred"], ["squared"], {}),
        ("ReduceMean", ["squared", "axes"], ["variance"], {}),
        ("Add", ["variance", "epsilon"], ["raised"], {}),
        ("Sqrt", ["raised"], ["root"], {}),
        ("Div", ["centred", "root"], ["normal"], {}),
        ("Mul", ["styled", "normal"], ["scaled"], {}),
        ("Add", ["scaled", "shift"], ["y"], {}),
    ):
        graph.node.append(helper.make_node(kind, inputs, outputs, **about))
    return model


@needs_exact
def test_a_normalization_over_time_becomes_one_operator():
    model = normalized()
    expected = run(model, sound())
    kokoro_graph.rewrite(model)
    assert "InstanceNormalization" in kinds(model)
    assert not {"Sqrt", "ReduceMean"} & set(kinds(model))
    np.testing.assert_allclose(run(model, sound()), expected, atol=0.02)  # the bias isn't rounded down


@needs_exact
@pytest.mark.parametrize(("axes", "column"), [((1,), (2,)), ((2,), (1,))])
def test_a_normalization_over_anything_else_is_left_alone(axes, column):
    n_times = 16  # as many as channels, so that every form can be computed
    model = normalized(axes, column)
    expected = run(model, sound(n_times=n_times))
    kokoro_graph.rewrite(model)
    assert "InstanceNormalization" not in kinds(model)
    np.testing.assert_allclose(run(model, sound(n_times=n_times)), expected, atol=0.02)
