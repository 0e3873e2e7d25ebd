"""With all that is random in a model, passes and compiling change a step by rounding alone."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest
import torch

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.layers import RowDropout
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.settings import Execution
from llm_ctr_pipeline.training.step import TrainingStep
from tests.decoders import EVERYTHING
from tests.training.steps import ROWS, Found, KeepsGradients, RunStep, assert_same

MakeModel = Callable[..., LlmCtr]
MakeExecution = Callable[..., Execution]


@pytest.fixture
def seeded_step(make_model: MakeModel, batch: EncodedSplit, run_step: RunStep) -> RunStep:
    def run(rows: int, seed: int = 3, **execution: Any) -> Found:
        """A step of a model with everything, whose masks the seed fixes."""
        model = make_model(**EVERYTHING)
        torch.manual_seed(seed)
        return run_step(model, batch, rows, **execution)

    return run


@pytest.fixture
def make_step(make_model: MakeModel, make_execution: MakeExecution) -> Callable[..., TrainingStep]:
    def make(batch: EncodedSplit, rows: int, **execution: Any) -> TrainingStep:
        model = make_model(**EVERYTHING)
        settings = make_execution(micro_batch_size=rows, **execution)
        return TrainingStep(model, KeepsGradients(model), len(batch), settings, sample=batch)

    return make


@pytest.mark.parametrize(("rows", "passes"), [(6, 2), (4, 3), (5, 3), (1, ROWS)])
def test_passes_drop_what_the_whole_batch_drops(
    seeded_step: RunStep, rows: int, passes: int
) -> None:
    assert -(-ROWS // rows) == passes
    assert_same(seeded_step(rows), seeded_step(ROWS))


def test_another_seed_drops_others(seeded_step: RunStep) -> None:
    assert seeded_step(ROWS)[0] != seeded_step(ROWS, seed=4)[0]


def test_layers_computed_again_see_the_same_masks(seeded_step: RunStep) -> None:
    assert_same(seeded_step(6, again=True), seeded_step(ROWS))


def test_every_dropout_is_drawn_for_the_batch(make_model: MakeModel) -> None:
    """One that is not a `RowDropout` would be drawn for each pass."""
    modules = [*make_model(**EVERYTHING).modules()]
    assert not [m for m in modules if isinstance(m, torch.nn.Dropout) and m.p > 0]
    shapes = sorted(m.shape for m in modules if isinstance(m, RowDropout) and m.share > 0)
    assert shapes == [(3, 1), (3, 4), (3, 8), (5,), (6,)]


def test_masks_stay_where_they_lie_and_change_from_step_to_step(
    make_step: Callable[..., TrainingStep], batch: EncodedSplit
) -> None:
    """What runs as a CUDA graph reads them where they lay when it was recorded."""
    step = make_step(batch, 6)
    seen: list[list[tuple[int, int]]] = []
    masks = []
    for rows in (ROWS, ROWS, ROWS - 5, ROWS):
        step(batch.ids_NF[:rows], batch.labels_N[:rows])
        drawn, kept = ([getattr(m, name) for m in step.dropouts] for name in ("drawn", "kept"))
        if rows == ROWS:  # the last pass of a smaller batch lies elsewhere
            seen.append([(a.data_ptr(), b.data_ptr()) for a, b in zip(drawn, kept, strict=True)])
        masks.append(torch.cat([mask.flatten() for mask in drawn]))
    assert len(step.dropouts) == len(seen[0]) == 5
    assert seen[0] == seen[1] == seen[2]
    assert not any(torch.equal(one, other) for one, other in pairwise(masks))


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "rows"), [("default", 6), ("reduce-overhead", ROWS)])
def test_a_compiled_step_drops_what_the_plain_one_drops(
    make_step: Callable[..., TrainingStep], batch: EncodedSplit, mode: str, rows: int
) -> None:
    """And new masks, of each step and pass, are nothing to compile for anew."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found = []
    for step in (make_step(batch, rows, compile=mode), make_step(batch, ROWS, compile="off")):
        torch.manual_seed(3)
        with torch._dynamo.config.patch(error_on_recompile=True):
            for _ in range(3):
                step(batch.ids_NF, batch.labels_N)
        gradients = cast(KeepsGradients, step.plain_optimizer).noted  # of the last step
        found.append((step.loss_sum.item(), int(step.correct.item()), gradients))
    assert_same(*found)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
