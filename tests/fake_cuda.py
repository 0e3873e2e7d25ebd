"""A GPU's devices, dtypes and layouts on a machine without one: CUDA tensors without data.

PyTorch's `FakeTensorMode` computes what each operation would return, raises where devices or dtypes
do not fit together, and where the host would have to read a value off the device. Autograd's own
engine refuses CUDA tensors in builds for CPUs, so a plain one stands in for it.
"""

import contextlib
import copy
import ctypes
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.autograd.graph import get_gradient_edge
from torch.utils._python_dispatch import TorchDispatchMode

from llm_ctr_pipeline.training import score as training_score
from llm_ctr_pipeline.training import step as training_step

CUDA = torch.device("cuda", 0)
# Of c10's enumeration of devices.
CUDA_TYPE, META_TYPE = 1, 14


class TransferError(AssertionError):
    """A tensor goes from one device to another within a step, which makes the host wait."""


class NoTransfers(TorchDispatchMode):
    """Raises for what copies between devices."""

    supports_higher_order_operators = True

    @classmethod
    def is_infra_mode(cls) -> bool:
        return True  # or nothing would be compiled within it

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}:
            source = args[-1] if func is torch.ops.aten.copy_.default else args[0]
            if isinstance(source, Tensor) and source.device != result.device:
                raise TransferError(f"{func} from {source.device} to {result.device}")
        return result


class Backward:
    """What autograd's engine does: visit each node once all of its gradients are there."""

    def __init__(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        self.roots = [get_gradient_edge(output) for output in outputs]
        edges = [get_gradient_edge(tensor) for tensor in inputs]
        self.wanted = {(edge.node, edge.output_nr): n for n, edge in enumerate(edges)}
        self.before: dict[Any, list[Any]] = {}
        todo = [(root.node, None) for root in self.roots]
        while todo:
            node, came_from = todo.pop()
            if node not in self.before:
                self.before[node] = []
                todo += [(following, node) for following, _ in node.next_functions if following]
            if came_from is not None:
                self.before[node].append(came_from)
        # With inputs asked for, what does not lead to them is left out.
        self.needed: set[Any] = set() if inputs else set(self.before)
        leads = [node for node, _ in self.wanted]
        while leads:
            ahead = [node for node in self.before[leads.pop()] if node not in self.needed]
            self.needed.update(ahead)
            leads += ahead
        self.sums: dict[Any, dict[int, Tensor]] = defaultdict(dict)
        self.found: list[Tensor | None] = [None] * len(inputs)

    def add(self, node: Any, number: int, gradient: Tensor) -> None:
        """Bring a gradient to a node, in the form that the forward pass had."""
        expected = node._input_metadata[number]
        assert gradient.device == expected.device, node
        gradient = gradient.to(expected.dtype).sum_to_size(expected.shape)
        so_far = self.sums[node].get(number)
        self.sums[node][number] = gradient if so_far is None else so_far + gradient

    def visit(self, node: Any) -> tuple[Any, ...]:
        """Compute what a node passes on."""
        arrived = self.sums.pop(node, {})
        for number, gradient in arrived.items():
            if (node, number) in self.wanted:
                self.found[self.wanted[node, number]] = gradient
        if not arrived or node not in self.needed:
            return (None,) * len(node.next_functions)
        apply = getattr(node, "apply", node)  # a Python function's node, or one of C++
        passed = apply(*(arrived.get(n) for n in range(len(node._input_metadata))))
        return passed if isinstance(passed, tuple) else (passed,)

    def run(self, gradients: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """Compute the gradients of the inputs, and add those of the leaves to their `grad`."""
        for root, gradient in zip(self.roots, gradients, strict=True):
            self.add(root.node, root.output_nr, gradient)
        waits = {node: len(before) for node, before in self.before.items()}
        ready = [node for node, number in waits.items() if number == 0]
        while ready:
            node = ready.pop()
            passed = self.visit(node)
            for (following, number), gradient in zip(node.next_functions, passed, strict=False):
                if following is not None:
                    if gradient is not None:
                        self.add(following, number, gradient)
                    waits[following] -= 1
                    ready += [] if waits[following] else [following]
        return tuple(self.found)


def engine(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    _keep_graph: bool,
    _create_graph: bool,
    inputs: Sequence[Tensor],
    *_: bool,
    **__: bool,
) -> tuple[Tensor | None, ...]:
    """Stand in for autograd's engine. By the number of its pass, layers are computed again once."""
    number = mock.patch.object(torch._C, "_current_graph_task_id", return_value=0)
    with torch.no_grad(), number:
        return Backward(outputs, inputs).run(gradients)


def on_fake_cuda(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Copy a model to a GPU: its parameters and buffers, as `Module.to` does, and nothing else."""
    with FakeCopyMode(mode):
        model = copy.deepcopy(model)
    moved: dict[int, nn.Parameter] = {}
    with mode:
        for module in model.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    if id(weight) not in moved:
                        on_device = weight.detach().to(CUDA)
                        moved[id(weight)] = nn.Parameter(on_device, weight.requires_grad)
                    module._parameters[name] = moved[id(weight)]
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(CUDA)
    return model


def _make_fabric(make: Callable[..., Any]) -> Callable[..., Any]:
    """Make Fabric as on a machine with a GPU; only while it is made is there said to be one."""

    def made(*args: Any, **kwargs: Any) -> Any:
        there = {"is_available": lambda: True, "device_count": lambda: 1}
        able = {"get_device_capability": lambda *_: (8, 0), "get_device_name": lambda *_: "A100"}
        with mock.patch.multiple(torch.cuda, **there, **able):
            return make(*args, **kwargs)

    return made


@contextlib.contextmanager
def fake_cuda() -> Iterator[FakeTensorMode]:
    """Let a `TrainingStep` run on a GPU that is not there."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 32).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    before, make = guards[CUDA_TYPE], _make_fabric(training_step.make_fabric)
    guards[CUDA_TYPE] = before or guards[META_TYPE]  # which does nothing
    try:
        with (
            mock.patch("torch.autograd._engine_run_backward", engine),
            # Asks the engine.
            torch._functorch.config.patch(donated_buffer=False),
            mock.patch("torch.cuda.is_bf16_supported", return_value=True),
            mock.patch("torch.cuda.get_device_name", return_value="A100"),
            mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
            mock.patch("lightning.fabric.accelerators.CUDAAccelerator.setup_device"),
            mock.patch("lightning.fabric.strategies.SingleDeviceStrategy.module_to_device"),
            mock.patch.object(training_step, "make_fabric", make),
            mock.patch.object(training_score, "make_fabric", make),
            mock.patch.object(training_step, "check_validation"),  # asks for free memory
            mock.patch.object(training_step, "random_states", return_value=[]),
            mock.patch.object(training_step, "set_random_states"),
        ):
            yield FakeTensorMode(allow_non_fake_inputs=False)
    finally:
        guards[CUDA_TYPE] = before
