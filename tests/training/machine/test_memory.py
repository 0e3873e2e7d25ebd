"""How many rows a pass gets, where memory is counted as what the backward pass keeps."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import DeepFmSettings
from llm_ctr_pipeline.training.machine import memory as machine_memory
from llm_ctr_pipeline.training.machine.memory import (
    FEW_ROWS,
    MOMENTS,
    RESERVE,
    SHARE_OF_ROWS,
    DeviceMemoryError,
    MemoryPlan,
    check_validation,
    on_device_if_it_fits,
    plan_memory,
)
from llm_ctr_pipeline.training.settings import Execution

MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]


class CountedMemory:
    """So many bytes, of which a pass takes what it keeps for its backward pass."""

    def __init__(self, available: int) -> None:
        self.bytes = available

    def available(self) -> int:
        return self.bytes

    def peak(self, run: Callable[[], None]) -> int:
        sizes: list[int] = []

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            run()
        return sum(sizes)


class Planned:
    """A model whose passes are counted."""

    def __init__(
        self, model: nn.Module, split: EncodedSplit, make_execution: Callable[..., Execution]
    ) -> None:
        self.model = model.train()
        self.split = split
        self.make_execution = make_execution
        self.passes: list[int] = []

    def forward_backward(self, rows: int) -> None:
        self.passes.append(rows)
        self.model(self.split.ids_NF[:rows]).sum().backward()

    def plan(
        self,
        batch_size: int,
        memory: CountedMemory | None,
        at_once: bool = False,
        **changes: object,
    ) -> MemoryPlan:
        execution = self.make_execution(**changes)
        return plan_memory(
            self.model,
            batch_size,
            execution,
            memory,
            self.forward_backward,
            gradients_at_once=at_once,
        )

    def kept(self, rows: int) -> int:
        return CountedMemory(0).peak(lambda: self.forward_backward(rows))


@pytest.fixture
def make_planned(
    make_model: MakeModel, make_split: MakeSplit, make_execution: Callable[..., Execution]
) -> Callable[[], Planned]:
    return lambda: Planned(make_model(), make_split(512, 1), make_execution)


@pytest.fixture
def planned(make_planned: Callable[[], Planned]) -> Planned:
    return make_planned()


def moments(model: nn.Module) -> int:
    return MOMENTS * sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)


def enough_for(planned: Planned, rows: int) -> int:
    """Memory that holds passes of so many rows and hardly more."""
    needed = planned.kept(rows) + moments(planned.model)
    return int((needed + 0.5 * planned.kept(rows) / rows) / (1 - RESERVE))


@pytest.mark.parametrize("rows", [FEW_ROWS, 40, 200])
def test_as_many_rows_are_taken_as_fit(planned: Planned, rows: int) -> None:
    available = enough_for(planned, rows)
    plan = planned.plan(256, CountedMemory(available))
    assert plan == MemoryPlan(pytest.approx(rows, abs=1), activation_checkpointing=False)
    assert planned.kept(plan.micro_batch_size) + moments(planned.model) <= available


def test_a_batch_that_fits_is_taken_whole(planned: Planned) -> None:
    assert planned.plan(32, CountedMemory(10**9)) == MemoryPlan(32, False)


def test_layers_are_computed_again_only_where_few_rows_fit(planned: Planned) -> None:
    available = CountedMemory(enough_for(planned, FEW_ROWS // 2))
    plan = planned.plan(256, available)
    assert plan.activation_checkpointing
    assert plan.micro_batch_size > FEW_ROWS // 2
    without = planned.plan(256, available, activation_checkpointing="off")
    assert without == MemoryPlan(pytest.approx(FEW_ROWS // 2, abs=1), False)
    roomy = CountedMemory(enough_for(planned, 100))
    assert planned.plan(256, roomy, activation_checkpointing="on").activation_checkpointing


def test_gradients_that_come_at_once_lie_beside_those_of_the_passes_before(
    planned: Planned,
) -> None:
    """A compiled pass holds all of its own gradients when it adds them to the sum."""
    gradients = moments(planned.model) // MOMENTS
    a_row = (planned.kept(40) - planned.kept(20)) / 20
    available = CountedMemory(enough_for(planned, 200))
    plan = planned.plan(256, available, at_once=True)
    assert plan.micro_batch_size == pytest.approx(200 - gradients / a_row, abs=2)
    assert plan.micro_batch_size < 199
    # A batch of one pass adds to nothing.
    assert planned.plan(199, available, at_once=True) == MemoryPlan(199, False)


def test_rows_move_to_a_gpu_of_which_they_take_little_beside_the_model(
    planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, model, meta = planned.split, planned.model, torch.device("meta")
    weights = sum(weight.nbytes for weight in model.parameters())
    rows = split.ids_NF.nbytes + split.labels_N.nbytes
    needed = int(rows / SHARE_OF_ROWS) + (2 + MOMENTS) * weights
    assert on_device_if_it_fits(split, model, torch.device("cpu")) is split
    for available, moved in ((needed + 100, True), (needed - 100, False)):
        counted = CountedMemory(available)
        monkeypatch.setattr(machine_memory, "memory_of", lambda _, counted=counted: counted)
        found = on_device_if_it_fits(split, model, meta)
        assert (found.ids_NF.device == meta) == moved
    frozen = CountedMemory(needed - 100)
    monkeypatch.setattr(machine_memory, "memory_of", lambda _: frozen)
    model.llm.requires_grad_(False)
    assert on_device_if_it_fits(split, model, meta).ids_NF.device == meta


def test_a_validation_that_will_not_fit_is_refused_before_training(planned: Planned) -> None:
    def score(rows: int) -> None:
        planned.model(planned.split.ids_NF[:rows])

    needed = CountedMemory(0).peak(lambda: score(64)) + moments(planned.model)
    check_validation(planned.model, 64, CountedMemory(needed), score)
    check_validation(planned.model, 64, None, score)
    lower = r"out of memory: lower training\.eval_batch_size \(now 64\) \(0\.0 of -?0\.0 GiB\)$"
    with pytest.raises(DeviceMemoryError, match=lower):
        check_validation(planned.model, 64, CountedMemory(needed - 1), score)


def test_frozen_weights_need_no_moments(make_planned: Callable[[], Planned]) -> None:
    planned, more = make_planned(), make_planned()
    available = CountedMemory(enough_for(planned, 40))
    more.model.llm.requires_grad_(False)
    assert (
        more.plan(256, available).micro_batch_size > planned.plan(256, available).micro_batch_size
    )


def test_what_the_settings_say_is_done_without_looking(planned: Planned) -> None:
    memory = CountedMemory(1)
    assert planned.plan(256, memory, micro_batch_size=32) == MemoryPlan(32, False)
    assert planned.plan(16, memory, micro_batch_size=32) == MemoryPlan(16, False)
    assert planned.passes == []
    asked = planned.plan(16, None, activation_checkpointing="on")
    assert asked == MemoryPlan(16, True)
    less = planned.kept(8)
    assert planned.plan(16, None) == MemoryPlan(16, False)
    assert less < 0.8 * planned.kept(8)


def test_the_probe_leaves_no_gradients(planned: Planned) -> None:
    planned.plan(256, CountedMemory(10**9))
    assert len(planned.passes) > 1
    assert all(weight.grad is None for weight in planned.model.parameters())


def test_memory_for_no_row_is_refused(planned: Planned) -> None:
    with pytest.raises(DeviceMemoryError, match=r"not even one row fits .* smaller language model"):
        planned.plan(256, CountedMemory(1000))


def test_a_model_without_layers_to_compute_again_is_planned_as_it_is(
    make_split: MakeSplit, make_execution: Callable[..., Execution]
) -> None:
    settings = DeepFmSettings(
        embedding_dim=4,
        embedding_init_std=0.1,
        gen_gamma=6.0,
        gen=True,
        hidden_sizes=(8,),
        dropout=0.0,
        batch_norm=False,
    )
    model = DeepFm(settings, (3, 5, 4))
    planned = Planned(model, make_split(512, 1), make_execution)
    memory = CountedMemory(enough_for(planned, 8))
    for asked in ("auto", "on", "off"):
        plan = planned.plan(256, memory, activation_checkpointing=asked)
        assert plan == MemoryPlan(pytest.approx(8, abs=1), activation_checkpointing=False)


@pytest.mark.gpu
def test_a_gpu_is_filled_but_not_beyond(
    make_model: MakeModel, make_split: MakeSplit, make_execution: Callable[..., Execution]
) -> None:
    from llm_ctr_pipeline.training.machine.memory import CudaMemory

    device = torch.device("cuda:0")
    model = make_model().to(device).train()
    split = make_split(4096, 1).to(device)
    memory = CudaMemory(device)

    def forward_backward(rows: int) -> None:
        model(split.ids_NF[:rows]).sum().backward()

    plan = plan_memory(model, 4096, make_execution(device="cuda:0"), memory, forward_backward)
    assert plan == MemoryPlan(4096, False)
    assert memory.peak(lambda: forward_backward(plan.micro_batch_size)) < memory.available()
