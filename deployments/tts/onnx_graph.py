"""A model's graph, to be read by what makes and takes its values, and to be changed piece by piece."""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper


class Graph:
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
