"""From a torch module to an ONNX graph, and whether the graph gives torch's numbers."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from saywhere.config import Precision
from saywhere.errors import MissingExtraError, TowerError
from saywhere.towers.adapted import AdapterInputs, free_adapter
from saywhere.towers.cache import OPSET

if TYPE_CHECKING:
    import onnx
    import onnxruntime
    from torch import Tensor, nn
    from torch.export import Dim

SIZE_STEP = 32  # every convolutional tower halves its input at most five times
# Largest difference over the largest number. Eight bits move single numbers by a tenth or two and
# rankings hardly: the bound finds a broken graph, benchmarks/int8.py what quantising costs.
_TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "int8": 0.5}


@dataclass(frozen=True, slots=True)
class Trace:
    """What is traced: a module, and example inputs with their free axes.

    Attributes:
        adapter: None for a frozen tower.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    axes: dict[str, Any]
    adapter: AdapterInputs | None

    @property
    def sites(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array of an adapter, the rank's axis as 0; empty for a frozen tower."""
        return self.adapter.shapes if self.adapter else {}

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the torch module."""
        return self.inputs | ({"adapter": self.adapter.example} if self.adapter else {})

    @property
    def feed(self) -> dict[str, Tensor]:
        """Of the exported graph."""
        if self.adapter is None:
            return self.inputs
        return self.inputs | dict(zip(self.adapter.names, self.adapter.example, strict=True))


def batch_axis() -> Dim:
    """The axis along which inputs are batched."""
    import torch

    return torch.export.Dim("n", min=1, max=4096)


def run_torch(traced: Trace) -> Tensor:
    """What the module gives for the example inputs.

    Raises:
        TowerError: it cannot take them.
    """
    import torch

    try:
        with torch.inference_mode():
            features: Tensor = traced.module(**traced.arguments)
    except TowerError:
        raise
    except Exception as error:  # whatever a model of others raises
        raise TowerError(_cannot("run", traced.name, error)) from None
    return features


def trace(traced: Trace) -> onnx.ModelProto:
    """The module as an ONNX graph with the one output ``features``.

    Raises:
        TowerError: the exporter cannot.
        MissingExtraError: it is not installed.
    """
    import torch

    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about its own deprecations
            program = torch.onnx.export(
                traced.module,
                kwargs=traced.arguments,
                dynamic_shapes=traced.axes,
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
                output_names=["features"],
            )
    except ImportError as error:
        raise MissingExtraError("exporting a tower", "train", error.name or "onnxscript") from None
    except Exception as error:  # the exporter's own exceptions share no public base
        raise TowerError(_cannot("trace", traced.name, error)) from None
    finally:
        log.setLevel(level)
    if program is None:
        raise TowerError("torch.onnx gave no program; check the installed torch and onnxscript")
    model: onnx.ModelProto = program.model_proto
    if traced.adapter is not None:
        free_adapter(model, traced.adapter)
    return model


def _cannot(verb: str, name: str, error: Exception) -> str:
    cause = next((line for line in str(error).splitlines() if line.strip()), "")[:200]
    return (
        f"the exporter cannot {verb} the tower {name!r} ({type(error).__name__}: {cause}); "
        "choose another tower"
    )


def free_spatial_axes(model: onnx.ModelProto, traced: Trace, size: int) -> bool:
    """Let the graph take any multiple of 32 pixels, if it then still agrees with torch.

    A convolutional graph holds no size but the input's; a vision transformer's positions do not
    stretch, and it keeps its one size.
    """
    import torch

    freed = type(model)()
    freed.CopyFrom(model)
    for axis, name in ((2, "h"), (3, "w")):
        dimension = freed.graph.input[0].type.tensor_type.shape.dim[axis]
        dimension.ClearField("dim_value")
        dimension.dim_param = name
    del freed.graph.value_info[:]
    high, wide = (-(-size // SIZE_STEP) * SIZE_STEP + more for more in (64, 32))
    pixels = torch.rand(1, 3, high, wide, generator=torch.Generator().manual_seed(0))
    other = replace(traced, inputs={"pixels": pixels})
    try:
        with torch.inference_mode():
            expected = other.module(**other.arguments)
        found = _run_graph(freed, other.feed)
    except Exception:  # either side refusing the size, in whatever way, is the answer
        return False
    if not _agree(found, expected, _TOLERANCE["float32"]):
        return False
    model.CopyFrom(freed)
    return True


def check_parity(
    model: onnx.ModelProto, traced: Trace, expected: Tensor, precision: Precision
) -> None:
    """Refuse a graph whose numbers are not torch's, as far as its precision allows.

    Raises:
        TowerError: they are not.
    """
    if not _agree(_run_graph(model, traced.feed), expected, _TOLERANCE[precision]):
        raise TowerError(
            f"the exported graph of {traced.name!r} does not give torch's numbers ({precision}); "
            "install another version of torch or onnxscript, or choose another tower or precision"
        )


def open_graph(model: onnx.ModelProto, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session of a graph in memory, on the CPU; 0 threads: as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _run_graph(model: onnx.ModelProto, inputs: dict[str, Tensor]) -> np.ndarray[Any, Any]:
    session = open_graph(model)
    feed = {name: tensor.numpy() for name, tensor in inputs.items()}
    return np.asarray(session.run(None, feed)[0])


def _agree(found: np.ndarray[Any, Any], expected: Tensor, tolerance: float) -> bool:
    wanted = expected.numpy()
    scale = max(float(np.abs(wanted).max()), 1e-6)
    return found.shape == wanted.shape and bool(np.abs(found - wanted).max() <= tolerance * scale)
