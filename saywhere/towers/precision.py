"""Smaller weights in an exported graph: half precision, or eight bits with dynamic quantisation.

One ONNX file holds 2 GiB, protobuf's limit. External data would lift it, at the price of a tower
being two files that can part; so a tower of more than 536 million float32 weights (BGE-M3 has 568)
is exported in one of the smaller precisions instead.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saywhere.config import Precision
from saywhere.errors import MissingExtraError, TowerError

if TYPE_CHECKING:
    import onnx

LARGEST_FILE = 2**31 - 1
_ROOM = 64 << 20  # for the graph itself and a tokenizer of 250,000 words
_SMALL = 1024  # tensors below it, norms and biases, cost nothing and stay float32


def reduce_weights(
    model: onnx.ModelProto,
    precision: Precision,
    side: str,
    name: str,
    inputs: Collection[str] = (),
) -> onnx.ModelProto:
    """The graph of ``model`` with weights of ``precision``; inputs and outputs stay as they are.

    Args:
        side, name: of the tower, image or text.
        inputs: initialisers that may be overridden, by an adapter; they stay as they are.

    Raises:
        TowerError: the weights do not fit that precision, or the result into one file.
        MissingExtraError: ONNX Runtime's quantisation needs a package that is missing.
    """
    if precision == "float16":
        _halve(model, side, name, inputs)
    elif precision == "int8":
        model = _quantise(model, side, name, inputs)
    size = weight_bytes(model)
    if size + min(_ROOM, LARGEST_FILE // 32) > LARGEST_FILE:
        smaller = "float16 or int8" if precision == "float32" else "int8"
        raise TowerError(
            f"{side} tower {name!r}: its weights are {size / 1e9:.1f} GB as {precision}, one ONNX "
            f"file holds {LARGEST_FILE / 1e9:.1f}; set towers.{side}.precision = {smaller}"
        )
    return model


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all weights; the graph around them is small."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _halve(model: onnx.ModelProto, side: str, name: str, inputs: Collection[str]) -> None:
    """Store large weights as float16; a Cast gives the graph its float32 back.

    ONNX Runtime folds the Casts when it opens the file: memory, speed and sums are float32's.
    """
    from onnx import TensorProto, helper, numpy_helper

    largest = float(np.finfo(np.float16).max)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _SMALL:
            continue
        if tensor.name in inputs:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.abs(values).max() <= largest:
            raise TowerError(
                f"{side} tower {name!r}: the weight {tensor.name!r} exceeds float16; "
                f"set towers.{side}.precision = float32 or int8"
            )
        full, half = tensor.name, f"{tensor.name}.float16"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [full], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def _quantise(
    model: onnx.ModelProto, side: str, name: str, inputs: Collection[str]
) -> onnx.ModelProto:
    """Eight-bit weights of matrix products and embedding tables; activations follow at run time.

    Convolutions stay float32: their eight-bit kernels are slower than the others on a CPU.
    """
    import onnx

    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingExtraError("int8 towers", "train", error.name or "onnxruntime") from None
    before = weight_bytes(model)
    # Says that shapes are inferred, as the exporter did: else a warning goes to the root logger.
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory(prefix="saywhere.") as folder:
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_users(model, inputs),
        )
        quantised: onnx.ModelProto = onnx.load(str(path))
    if weight_bytes(quantised) > 0.9 * before:
        raise TowerError(
            f"{side} tower {name!r}: int8 makes it no smaller, it has hardly any matrix products; "
            f"set towers.{side}.precision = float32 or float16"
        )
    return quantised


def _users(model: onnx.ModelProto, names: Collection[str]) -> list[str]:
    """Nodes that take one of the tensors called ``names``, transposed or as it is."""
    reached, users = set(names), []
    for node in model.graph.node:  # sorted by what they need
        if reached & set(node.input):
            users.append(node.name)
            if node.op_type in ("Transpose", "Cast", "Identity"):
                reached |= set(node.output)
    return users
