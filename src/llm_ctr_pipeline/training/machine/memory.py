"""How many rows a device's memory holds in one pass, and what to lower when it holds too few."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from llm_ctr_pipeline.data.errors import RefusedError, first_line
from llm_ctr_pipeline.data.input.batches import EncodedSplit, TrainingRows
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.training.settings import Execution

logger = logging.getLogger(__name__)

# Left free for what the probe does not see: fragments, other kernels.
RESERVE = 0.1
# Two passes with so many rows show what a row takes.
PROBED_ROWS = (4, 12)
# With fewer rows in a pass the prompt is repeated too often and the device works too little.
FEW_ROWS = 16
# Of what a GPU has beside weights, gradients and moments, what the training rows may take.
SHARE_OF_ROWS = 0.25
# AdamW keeps two moments a weight.
MOMENTS = 2


class DeviceMemoryError(RefusedError, MemoryError):
    """The device's memory does not hold what the settings ask for."""


@dataclass(frozen=True)
class MemoryPlan:
    """How a batch is cut up to fit.

    Attributes:
        micro_batch_size: Most rows in one forward and backward pass.
        activation_checkpointing: Whether layers are computed again in the backward pass.
    """

    micro_batch_size: int
    activation_checkpointing: bool


@dataclass(frozen=True)
class CudaMemory:
    """A GPU's memory."""

    device: torch.device

    def available(self) -> int:
        """Bytes that are free on the device, and those PyTorch holds unused."""
        free, _ = torch.cuda.mem_get_info(self.device)
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return free + unused

    def peak(self, run: Callable[[], None]) -> int:
        """Bytes that a call allocates at its peak, beyond what was allocated before."""
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        run()
        return torch.cuda.max_memory_allocated(self.device) - before


def memory_of(device: torch.device) -> CudaMemory | None:
    """A GPU's memory; None for the CPU's, which is not asked."""
    return CudaMemory(device) if device.type == "cuda" else None


def on_device_if_it_fits(
    rows: TrainingRows, model: nn.Module, device: torch.device
) -> TrainingRows:
    """Move rows in memory to a GPU of which they take little beside the model; leave others.

    To be done before `plan_memory`, which finds them there.
    """
    memory = memory_of(device)
    if memory is None or not isinstance(rows, EncodedSplit):
        return rows
    moved = sum(weight.nbytes for weight in model.parameters() if weight.device != device)
    free = memory.available() - moved - (1 + MOMENTS) * _gradient_bytes(model)
    needed = rows.ids_NF.nbytes + rows.labels_N.nbytes
    return rows.to(device) if needed < SHARE_OF_ROWS * free else rows


def plan_memory(
    model: nn.Module,
    batch_size: int,
    execution: Execution,
    memory: CudaMemory | None,
    forward_backward: Callable[[int], None],
    *,
    gradients_at_once: bool = False,
) -> MemoryPlan:
    """Decide how a batch is cut up, and set the model's activation checkpointing accordingly.

    Where the settings leave it open, a few rows are passed forward and backward to see what a row
    takes, and as many are taken as fit. The optimiser's state, which comes with the first step, is
    reckoned in. Gradients of the probe are discarded.

    Args:
        model: The model, on its device; its frozen parameters take no gradients.
        batch_size: Rows of a batch.
        execution: What the settings say.
        memory: The device's memory; None where it is not to be asked (on the CPU).
        forward_backward: Passes so many rows forward and backward.
        gradients_at_once: Whether a pass gives all its gradients at its end, as a compiled one
            does: from the second pass on they lie beside those of the passes before.

    Raises:
        DeviceMemoryError: Not even one row fits.
    """
    asked = execution.activation_checkpointing
    if memory is None or execution.micro_batch_size is not None:
        plan = MemoryPlan(min(execution.micro_batch_size or batch_size, batch_size), asked == "on")
        set_activation_checkpointing(model, on=plan.activation_checkpointing)
        return plan
    ways = {"auto": (False, True), "on": (True,), "off": (False,)}[asked]
    has_layers = any(isinstance(module, LlmDecoder) for module in model.modules())
    for again in ways if has_layers else (False,):
        set_activation_checkpointing(model, on=again)
        rows = _rows_that_fit(model, memory, forward_backward)
        if gradients_at_once and rows < batch_size:
            rows = _rows_that_fit(model, memory, forward_backward, _gradient_bytes(model))
        if rows >= min(batch_size, FEW_ROWS):
            break
    if rows < 1:
        raise DeviceMemoryError(
            "not even one row fits into the device's free memory "
            f"({memory.available() / 2**30:.1f} GiB): free some of it, take a smaller language "
            "model, or set training.activation_checkpointing to auto"
        )
    plan = MemoryPlan(min(rows, batch_size), again)
    logger.info(
        "Memory: %d rows fit into one pass%s, so a batch of %d takes %d",
        rows,
        " with its layers computed again in the backward pass" if again else "",
        batch_size,
        -(-batch_size // plan.micro_batch_size),
    )
    return plan


def _rows_that_fit(
    model: nn.Module, memory: CudaMemory, forward_backward: Callable[[int], None], beside: int = 0
) -> int:
    """Rows whose passes fit with `beside` bytes beside weights, gradients and optimiser's state."""
    few, more = PROBED_ROWS
    try:
        # The gradients are there from the first pass on, so the others show the rows alone.
        forward_backward(few)
        peaks = [memory.peak(partial(forward_backward, rows)) for rows in (few, more)]
        budget = (1 - RESERVE) * memory.available() - MOMENTS * _gradient_bytes(model) - beside
    except torch.OutOfMemoryError:
        return 0
    finally:
        for weight in model.parameters():
            weight.grad = None
    a_row = max(1.0, (peaks[1] - peaks[0]) / (more - few))
    return max(0, int((budget - (peaks[0] - few * a_row)) / a_row))


def _gradient_bytes(model: nn.Module) -> int:
    return sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)


def check_validation(
    model: nn.Module, rows: int, memory: CudaMemory | None, score: Callable[[int], None]
) -> None:
    """Refuse before training what would fail at its first validation, an epoch later.

    Args:
        model: As `plan_memory` takes it, which comes first.
        rows: Rows that a validation scores at a time.
        memory: The device's memory; None where it is not to be asked.
        score: Scores so many rows, without what a backward pass needs.

    Raises:
        DeviceMemoryError: They do not fit beside the weights and the optimiser's state.
    """
    if memory is None:
        return
    with naming_the_setting(f"lower training.eval_batch_size (now {rows})"):
        needed = memory.peak(lambda: score(rows))
        free = memory.available() - MOMENTS * _gradient_bytes(model)
        if needed > free:
            raise torch.OutOfMemoryError(f"{needed / 2**30:.1f} of {free / 2**30:.1f} GiB")


def set_activation_checkpointing(model: nn.Module, *, on: bool) -> None:
    """Let the language model's layers keep their input alone and compute the rest again."""
    for module in model.modules():
        if isinstance(module, LlmDecoder):
            module.recompute_layers(on=on)


@contextmanager
def naming_the_setting(cure: str) -> Iterator[None]:
    """Turn an allocation that failed into an error that says what to lower.

    Args:
        cure: The setting and its present value.

    Raises:
        DeviceMemoryError: In place of PyTorch's error.
    """
    try:
        yield
    except RuntimeError as error:
        # The CPU's allocator raises no class of its own.
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            reason = first_line(error)
            raise DeviceMemoryError(f"out of memory: {cure} ({reason})") from error
        raise
