"""Devices and precision: what a setting means on this machine."""

import ctypes
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.strategies import DDPStrategy, Strategy
from torch import nn
from torch.amp import GradScaler

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.models.kernels import resolve_kernel
from llm_ctr_pipeline.training.ranks.group import ranks
from llm_ctr_pipeline.training.ranks.shards import resolve_strategy, sharding
from llm_ctr_pipeline.training.settings import Execution

logger = logging.getLogger(__name__)

# Weights from which bfloat16 pays on a CPU; in smaller models the conversions cost more.
LARGE_MODEL = 10_000_000

# Compute capability from which NVIDIA's GPUs have bfloat16: Ampere and newer.
BFLOAT16_CAPABILITY = (8, 0)

# Options of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


class DeviceError(RefusedError, ValueError):
    """The device asked for is not there, or cannot do what is asked of it."""


def resolve_device(requested: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device that is there.

    Of several processes on a machine each takes the GPU of its number.

    Raises:
        DeviceError: It is not there.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if requested == "cpu" or (requested == "auto" and present == 0):
        return torch.device("cpu")
    here = ranks()
    if here.local_count > 1:
        if requested not in {"auto", "cuda"} or here.local_count > present:
            raise DeviceError(
                f"training.device is {requested!r}, and {here.local_count} processes run on this "
                f"machine, which has {present} CUDA device(s): set it to auto or cpu, and "
                "--nproc-per-node to the number of devices at most"
            )
        return torch.device("cuda", here.local_index)
    device = torch.device("cuda:0" if requested == "auto" else requested)
    if (device.index or 0) >= present:
        raise DeviceError(
            f"training.device is {requested!r}, and this machine has {present} CUDA "
            "device(s): set it to auto, cpu or the number of a device that is there"
        )
    return torch.device("cuda", device.index or 0)


def resolve_precision(requested: str, device: torch.device, parameters: int = 0) -> str:
    """Pick mixed precision where the device gains by it.

    Args:
        requested: As `Execution.precision`.
        device: Where the model trains.
        parameters: Weights that take part in matrix products, as `count_weights` counts them.

    Returns:
        A precision of Lightning's: bfloat16 autocast over float32 weights on GPUs that have
        bfloat16, and for large models on CPUs that multiply in it; float16 with loss scaling on
        older GPUs; plain float32 elsewhere.

    Raises:
        DeviceError: The device cannot compute in the precision asked for.
    """
    if requested == "auto":
        if device.type == "cpu":
            gains = parameters >= LARGE_MODEL and multiplies_in_bfloat16()
            return "bf16-mixed" if gains else "32-true"
        return "bf16-mixed" if has_bfloat16(device) else "16-mixed"
    if requested == "16-mixed" and device.type == "cpu":
        raise DeviceError(
            "training.precision is 16-mixed, which needs a CUDA device: set it to auto, 32-true "
            "or bf16-mixed"
        )
    return requested


def count_weights(model: nn.Module) -> int:
    """Weights of a model that take part in matrix products: those of tables are looked up."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    looked_up = {id(weight) for table in tables for weight in table.parameters()}
    return sum(weight.numel() for weight in model.parameters() if id(weight) not in looked_up)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU has units that multiply bfloat16 matrices.

    `torch.cuda.is_bf16_supported` is not asked: it counts emulation, and it means the current
    device.
    """
    on_rocm = torch.version.hip is not None  # all AMD GPUs that PyTorch serves have them
    return on_rocm or torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY


def multiplies_in_bfloat16() -> bool:
    """Whether this machine's processor has instructions for products of bfloat16 matrices."""
    flags = next((line for line in _processor() if line.startswith("flags")), "").split()
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))


def _processor() -> list[str]:
    """Linux's description of the processor, line by line."""
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


def choose_kernel(attention: str, execution: Execution, config: Any | None = None) -> str:
    """Pick the attention kernel for the device and precision that the settings come to.

    Args:
        attention: As `resolve_kernel` takes it.
        execution: Device and precision asked for.
        config: As `resolve_kernel` takes it.

    Raises:
        DeviceError: The device or the precision is not to be had.
        KernelError: The kernel cannot run with them.
    """
    device = resolve_device(execution.device)
    precision = resolve_precision(execution.precision, device)
    return resolve_kernel(attention, device, precision, config)


def describe_device(device: torch.device) -> str:
    """A device's name, with the model of a GPU."""
    if device.type == "cpu":
        return "cpu"
    return f"{device} ({torch.cuda.get_device_name(device)})"


@contextmanager
def refusing_what_is_not_deterministic() -> Iterator[None]:
    """Turn PyTorch's error of an operation with no deterministic way into one with the setting.

    What the process has asked for before is so again afterwards.

    Raises:
        DeviceError: In place of PyTorch's error.
    """
    before = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        operation = str(error).split(maxsplit=1)[0]
        raise DeviceError(
            f"training.deterministic is true, and PyTorch has no deterministic {operation}, which "
            "the model needs on this device: set it to false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)


def keep_freed_memory() -> bool:
    """Keep freed memory in this process for the next tensor of the size, from now on.

    By default glibc gives every large block back to the system when it is freed. A training step
    frees and takes the same blocks again and again, and the system hands each one out page by
    page, filled with zeros, through a fault for every 4 KB; see docs/decisions/0021.

    Returns:
        Whether the C library took it; one other than glibc has its own ways and is left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))


def make_fabric(
    execution: Execution, model: nn.Module, *, trains: bool = False
) -> tuple[Fabric, GradScaler]:
    """Set up Lightning Fabric for this process's device, and what the process has one of.

    That is CPU threads, the precision of float32 products and whether operations are deterministic.

    Args:
        execution: What is asked for.
        model: What will run there.
        trains: Whether the model that is set up learns, and so, in a group of several processes,
            from the gradients of all, as `resolve_strategy` says.

    Returns:
        Fabric, and what scales the loss: float16's gradients would vanish otherwise, in other
        precisions it does nothing.

    Raises:
        DeviceError: The device or the precision is not to be had.
    """
    device = resolve_device(execution.device)
    if execution.cpu_threads is not None:
        torch.set_num_threads(execution.cpu_threads)
    if device.type == "cpu":
        keep_freed_memory()
    torch.set_float32_matmul_precision(execution.float32_matmul)
    # Not with warnings alone: PyTorch's attention kernels would stay as they are.
    torch.use_deterministic_algorithms(execution.deterministic)
    if execution.deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read with the first product on a GPU
    precision = resolve_precision(execution.precision, device, count_weights(model))
    if precision == "bf16-mixed" and device.type == "cuda" and not has_bfloat16(device):
        logger.warning(
            "training.precision is bf16-mixed, which %s (%s) emulates: it is slow, auto is not",
            device,
            torch.cuda.get_device_name(device),
        )
    half = precision == "16-mixed"
    shared_as = resolve_strategy(execution.strategy, model) if trains else "none"
    if half and shared_as == "fsdp":
        raise DeviceError(
            "training.strategy is fsdp, which does not scale the loss as precision 16-mixed needs: "
            "set training.precision to bf16-mixed or 32-true, or training.strategy to ddp"
        )
    scaler = GradScaler(device.type, enabled=half)
    here = ranks()
    shared = shared_as != "none"
    strategy: Strategy | str = "auto"
    if shared_as == "fsdp":
        strategy = sharding(precision)
    elif shared:
        # Its successor, `forward_sync_buffers`, is not in all releases that are taken here.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        # Validation calls it on some rows here and others there, so buffers stay each rank's own.
        strategy = DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    alone: int | list[int] = 1 if device.type == "cpu" else [device.index]
    fabric = Fabric(
        accelerator=device.type,
        devices=here.local_count if shared else alone,
        num_nodes=here.count // here.local_count if shared else 1,
        strategy=strategy,
        # As Fabric makes it of the name, but with a scaler whose state can be kept.
        precision=None if half else precision,
        plugins=[MixedPrecision("16-mixed", device.type, scaler)] if half else None,
    )
    fabric.launch()
    return fabric, scaler
