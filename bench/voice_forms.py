"""Forms of the packaged Kokoro that don't ship, to be timed beside those that do: with its convolutions in floats."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from deployments.tts import kokoro_graph
from deployments.tts.onnx_graph import Graph


def dequantize(source: Path, target: Path, *, half: bool = False) -> int:
    """Write a model whose quantized convolutions are convolutions of floats, with the weights that theirs stand for.

    Args:
        source: the quantized model.
        target: the file to write.
        half: store the weights as float16; ONNX Runtime makes float32 of them while it loads, since its CPU kernels
            have no other.

    Returns:
        How many there are.
    """
    model = onnx.load(source)
    graph = Graph(model)
    count = 0
    for node in model.graph.node:
        found = kokoro_graph.read(graph, node) if node.op_type == "ConvInteger" else None
        scale = graph.constant(found.weight_scale) if found else None
        quantizer = graph.maker(found.values, "DynamicQuantizeLinear") if found else None
        if found is None or scale is None or quantizer is None:
            continue
        floats = ((found.weights.astype(np.int16) - found.weight_zero) * scale).astype(np.float32)
        if half:
            weights = graph.add("Cast", graph.add_constant(floats.astype(np.float16)), to=TensorProto.FLOAT)
        else:
            weights = graph.add_constant(floats)
        graph.add("Conv", quantizer.input[0], weights, *([found.bias] if found.bias else []), **found.about)
        graph.put_in_place_of(found.result)
        count += 1
    kokoro_graph.rewrite_normalizations(graph, model)
    graph.finish()
    onnx.save(model, target)
    return count
