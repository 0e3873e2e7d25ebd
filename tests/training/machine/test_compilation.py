import pytest
import torch
from torch import nn

from llm_ctr_pipeline.training.machine.compilation import compiled, resolve_compile

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
    assert compiled(model, None) is model


@pytest.mark.parametrize(("passes", "mode"), [(1, "reduce-overhead"), (2, "default")])
def test_no_cuda_graphs_over_several_passes(passes: int, mode: str) -> None:
    assert resolve_compile("reduce-overhead", CUDA, passes) == mode
    assert resolve_compile("off", CUDA, passes) is None
