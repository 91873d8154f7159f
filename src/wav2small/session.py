"""The ONNX Runtime session that every part of the package uses: one thread, no spinning."""

from __future__ import annotations

from typing import Any

from wav2small.errors import WeightsError


def session(content: bytes, source: str, optimised: bool = True) -> Any:
    """Create an ONNX Runtime session with one thread that does not spin.

    Args:
        content: content of an ONNX file
        source: name of the file, for error messages
        optimised: whether ONNX Runtime may rewrite the graph; a static int8 file needs this for integer kernels

    Returns:
        onnxruntime.InferenceSession

    Raises:
        WeightsError: if ONNX Runtime cannot load the file
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # otherwise memory grows with every new input length, without saving time
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
