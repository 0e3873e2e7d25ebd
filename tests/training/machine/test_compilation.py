from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from llm_ctr_pipeline.training.machine.compilation import Forward, resolve_compile

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("requested", "device", "mode"),
    [
        ("auto", CPU, None),
        ("auto", CUDA, "default"),
        ("off", CUDA, None),
        ("default", CPU, "default"),
        ("reduce-overhead", CUDA, "reduce-overhead"),
    ],
)
def test_the_mode_that_a_setting_comes_to(
    requested: str, device: torch.device, mode: str | None
) -> None:
    assert resolve_compile(requested, device) == mode


def test_without_a_mode_the_model_is_left_as_it_is() -> None:
    model = nn.Linear(2, 1)
    forward = Forward(model)
    ones_BF = torch.ones(3, 2)
    assert torch.equal(forward(ones_BF, often=True), model(ones_BF))
    assert [*forward.parameters()] == [*model.parameters()]


class PartlyCompiled(nn.Module):
    """Holds a part that is compiled in any case, as FlexAttention is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.graphs: dict[str, int] = {"part": 0, "model": 0}
        self.part = torch.compile(torch.square, backend=self.counting("part"))

    def counting(self, name: str) -> Callable[..., Callable[..., Any]]:
        def backend(graph: torch.fx.GraphModule, _inputs: Any, **_: Any) -> Callable[..., Any]:
            self.graphs[name] += 1
            return graph.forward

        return backend

    def forward(self, values_BF: Tensor) -> Tensor:
        squares_BF: Tensor = self.part(values_BF * self.weight)
        return squares_BF.sum(1)


def test_a_rare_shape_runs_uncompiled_but_for_what_is_compiled_in_any_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch._dynamo.reset()
    fabric = Fabric(accelerator="cpu", devices=1)
    model = PartlyCompiled()
    backend = model.counting("model")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    forward = fabric.setup_module(Forward(model, "default"))
    for rows, often in ((4, True), (4, True), (3, False), (2, False), (4, True)):
        values_BF = torch.full((rows, 3), 2.0)
        assert torch.equal(forward(values_BF, often=often), torch.full((rows,), 12.0))
    assert model.graphs["model"] == 1
    assert model.graphs["part"] >= 1
    assert [*forward.parameters()] == [*model.parameters()]


@pytest.mark.parametrize(("passes", "mode"), [(1, "reduce-overhead"), (2, "default")])
def test_no_cuda_graphs_over_several_passes(passes: int, mode: str) -> None:
    assert resolve_compile("reduce-overhead", CUDA, passes) == mode
    assert resolve_compile("off", CUDA, passes) is None


@pytest.mark.parametrize(("ranks", "mode"), [(1, "reduce-overhead"), (2, "default")])
def test_no_cuda_graphs_over_several_processes(ranks: int, mode: str) -> None:
    assert resolve_compile("reduce-overhead", CUDA, ranks=ranks) == mode


@pytest.mark.parametrize(("requested", "warned"), [("auto", False), ("default", True)])
def test_weights_in_parts_are_not_compiled(
    caplog: pytest.LogCaptureFixture, requested: str, warned: bool
) -> None:
    assert resolve_compile(requested, CUDA, ranks=2, sharded=True) is None
    assert ("training.compile is default, and training.strategy is fsdp" in caplog.text) == warned
