"""Data-parallel training in several processes, started by torchrun; each computes its share of every batch.

The loss, batch normalisation and dropout masks are computed over the whole batch, so the loss equals that of one
process with the same batch, up to the order of sums. A single process is unchanged, bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

from wav2small.errors import Wav2SmallError

PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@contextmanager
def as_one(device: str = "cpu") -> Iterator[bool]:
    """Context manager that joins the processes started by torchrun, with NCCL on GPUs and gloo otherwise.

    Args:
        device: torch device

    Yields:
        whether this process writes files and reports
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield rank() == 0
    finally:
        distributed.destroy_process_group()


def own_device(device: str) -> str:
    """The GPU of this process if ``device`` is "cuda", else ``device``."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device


def world() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Index of this process; process 0 writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def share(batch_size: int) -> slice:
    """The rows of a batch that this process computes.

    Raises:
        Wav2SmallError: if the batch cannot be divided evenly
    """
    size, rest = divmod(batch_size, world())
    if rest:
        raise Wav2SmallError(f"{world()} processes cannot divide a batch of {batch_size} evenly. Start 2, 4 or 8.")
    return slice(rank() * size, (rank() + 1) * size)


def gathered(own: Tensor) -> Tensor:
    """The rows of all processes. Only the own rows have a gradient, so that summed gradients count each row once."""
    if world() == 1:
        return own
    rows = [torch.empty_like(own) for _ in range(world())]
    distributed.all_gather(rows, own.detach().contiguous())
    rows[rank()] = own
    return torch.cat(rows)


def largest(own: Tensor) -> Tensor:
    """The largest value over all processes."""
    if world() > 1:
        distributed.all_reduce(own, distributed.ReduceOp.MAX)
    return own


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients over all processes, in place."""
    if world() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    for gradient, summed in zip(
        gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True
    ):
        gradient.copy_(summed.view_as(gradient))


def see_whole_batches(net: nn.Module) -> None:
    """Make batch normalisation and dropout of a network operate on the whole batch, in place.

    Raises:
        Wav2SmallError: if the network has an unsupported kind of batch normalisation
    """
    if world() == 1:
        return
    for module in net.modules():
        if isinstance(module, PLAIN_NORMS) and type(module) in PLAIN_NORMS:  # a subclass may compute something else
            vars(module)["forward"] = partial(_batch_norm, module)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise Wav2SmallError(f"a network with {type(module).__name__} must be trained by one process. Start one.")
        elif type(module) is nn.Dropout:
            vars(module)["forward"] = partial(_dropout, module)


def sum_of_all(own: Tensor) -> Tensor:
    """The sum over all processes, differentiable."""
    total: Tensor = all_reduce(own)  # type: ignore[no-untyped-call]
    return total


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm of (batch, channels, ...) with mean and variance over all processes."""
    over, shape = [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
    values = x.float()
    count = world() * values.numel() // values.shape[1]
    mean = sum_of_all(values.sum(over)) / count
    centred = values - mean.view(shape)
    variance = sum_of_all(centred.square().sum(over)) / count
    assert module.running_mean is not None and module.running_var is not None and module.momentum is not None
    with torch.no_grad():
        module.running_mean.lerp_(mean, module.momentum)
        module.running_var.lerp_(variance * count / (count - 1), module.momentum)
        module.get_buffer("num_batches_tracked").add_(1)
    scale = module.weight * (variance + module.eps).rsqrt()
    normalised: Tensor = centred * scale.view(shape) + module.bias.view(shape)
    return normalised.to(x.dtype)


def _dropout(module: nn.Dropout, x: Tensor) -> Tensor:
    """Dropout of the own rows with the mask of a single process."""
    if not module.p:
        return x
    whole = x.new_empty((world() * len(x), *x.shape[1:])).bernoulli_(1 - module.p).div_(1 - module.p)
    return x * whole[share(len(whole))]
