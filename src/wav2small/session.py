"""An ONNX Runtime session as every part of the package uses it: one thread that never spins."""

from __future__ import annotations

from typing import Any

from wav2small.errors import WeightsError


def session(content: bytes, source: str, optimised: bool = True) -> Any:
    """An ONNX Runtime session on one thread that never spins.

    Args:
        content: of an ONNX file
        source: its name in errors
        optimised: whether ONNX Runtime may rewrite the graph, which it does to compute a static int8 file in integers

    Raises:
        WeightsError: if ONNX Runtime cannot load it
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # a plan of memory is kept for every length seen, and saves no time
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise WeightsError(f"{source}: ONNX Runtime cannot load it ({reason}); export or fetch it again") from None
