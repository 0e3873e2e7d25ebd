"""Real processes, started by torchrun, beside the one of this test."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from llm_ctr_pipeline.data.input.batches import EncodedSplit, TrainingRows
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.input.streamed_split import open_rows
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.distillation.teacher import Teacher
from llm_ctr_pipeline.training.settings import Stage, TeacherSettings, TrainingSettings
from llm_ctr_pipeline.training.stages import KeptStates, StageRun
from llm_ctr_pipeline.training.state import ResumePoint
from tests.baselines import describe
from tests.data.logs import counted
from tests.training.ranks.program import Case, Outcome
from tests.training.runs import assert_equal_runs

PROJECT = Path(__file__).parents[3]
# In batches of 16 the last one of an epoch has a single row, so that some rank has none.
ROWS, BATCH, EPOCHS, STEPS = 97, 16, 8, 56
KILLED_AT, KEPT_EVERY = 13, 5
# So many that hardly two rows are the same: an AUC moves little where two scores change places.
SIZES = (7, 50, 40)
ALL = {"end_to_end": Stage(datasets="a", components=None, start="new")}
TWO_PHASE = {
    "first": Stage(datasets="b c", components="projector", start="new", epochs=2),
    "second": Stage(datasets="a", components=None, start="previous"),
}
LEARNING = {
    **{"id_dropout": 0.1, "label_smoothing": 0.1, "embedding_l2": 0.01, "gradient_clip_norm": 1.0},
    **{"weight_decay": 0.01, "epochs": EPOCHS, "batch_size": BATCH, "validate_every_steps": 2},
    "patience": 99,
}


def unpickled(content: bytes) -> Any:
    return pickle.loads(content)  # noqa: S301 - what these tests wrote


def trained_by(
    count: int, cases: dict[str, Case], folder: Path
) -> tuple[dict[str, Outcome], subprocess.CompletedProcess[str]]:
    """Let so many processes run the cases."""
    folder.mkdir(exist_ok=True)
    (folder / "cases").write_bytes(pickle.dumps(cases))
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}"]
    program = ["-m", "tests.training.ranks.program", folder / "cases", folder / "outcomes"]
    done = subprocess.run(
        [*torchrun, *map(str, program)],
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (folder / "outcomes").exists(), done.stderr
    outcomes: dict[str, Outcome] = unpickled((folder / "outcomes").read_bytes())
    return outcomes, done


@pytest.fixture(scope="module")
def make_case(
    tmp_path_factory: pytest.TempPathFactory,
    make_model: Callable[..., LlmCtr],
    make_split: Callable[..., EncodedSplit],
    make_settings: Callable[..., TrainingSettings],
) -> Callable[..., Case]:
    """Make a training whose rows, weights and settings are always the same."""
    valid = make_split(1000, 9, 0.2, SIZES)
    rows = {name: (make_split(ROWS, seed, 0.2, SIZES), valid) for seed, name in enumerate("abc")}

    def make(
        model: nn.Module | None = None, stages: dict[str, Stage] = ALL, **changes: Any
    ) -> Case:
        dropping = {"embedding_dropout": 0.1, "projector_dropout": 0.2, "token_dropout": 0.1}
        return Case(
            model
            or make_model(
                field_sizes=SIZES, projector_per_field=True, field_vectors=True, **dropping
            ),
            stages,
            make_settings(**(LEARNING | changes)),
            rows,
        )

    return make


@pytest.fixture(scope="module")
def cases(
    make_case: Callable[..., Case],
    make_model: Callable[..., LlmCtr],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Case]:
    def deepfm() -> nn.Module:
        torch.manual_seed(3)
        return describe("deepfm", SIZES, dropout=0.2).build()

    def streamed(rows: TrainingRows) -> TrainingRows:
        assert isinstance(rows, EncodedSplit)
        columns = dict(zip("xyz", rows.ids_NF.T.numpy(), strict=True))
        labels = rows.labels_N.numpy().astype("int8")
        table = pa.table({"row": range(ROWS), "label": labels, **columns})
        file = tmp_path_factory.mktemp("rows") / "rows.parquet"
        pq.write_table(table, file, row_group_size=20)
        return open_rows(EncodedFile(file), "xyz", "stream", 50, counted(table, "xyz"))

    teaching = TeacherSettings(path="single_phase", weight=0.5, temperature=2.0)
    stream, taught = make_case(deepfm()), make_case(deepfm())
    stream.rows = {name: (streamed(train), valid) for name, (train, valid) in stream.rows.items()}
    taught.teacher = Teacher(make_model(field_sizes=SIZES), teaching, "digest", None)  # type: ignore[arg-type]
    return {
        "deepfm": make_case(deepfm()),
        "deepfm under fsdp": make_case(deepfm(), strategy="fsdp", redraw_embeddings=True),
        "distilled": taught,
        "single_phase": make_case(),
        "single_phase in passes": make_case(micro_batch_size=3),
        "streamed": stream,
        "two_phase": make_case(stages=TWO_PHASE),
        # In the first stage the language model is frozen; the second is that of single_phase.
        "two_phase under fsdp": make_case(
            stages=TWO_PHASE,
            strategy="fsdp",
            micro_batch_size=3,
            activation_checkpointing="on",
        ),
    }


@pytest.fixture(scope="module")
def killed(
    make_case: Callable[..., Case], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Case, Outcome, str]:
    """A training of two ranks of which one is killed, what came of it, and what was written."""
    folder = tmp_path_factory.mktemp("killed")
    limits = ((EPOCHS, 99),)
    case = make_case(keep_state_every=99, keep_state_every_steps=KEPT_EVERY)
    case.states = KeptStates(folder / "states", ("a" * 64,), limits)
    outcomes, done = trained_by(2, {"it": replace(case, killed_at=KILLED_AT)}, folder)
    return case, outcomes["it"], done.stderr


def going_on(killed: tuple[Case, Outcome, str], folder: Path) -> Case:
    """The training of which a rank was killed, to go on in a folder of its own."""
    case = killed[0]
    assert case.states is not None
    shutil.copytree(case.states.folder, folder / "states")
    return replace(case, states=replace(case.states, folder=folder / "states"))


def under_fsdp(settings: TrainingSettings) -> TrainingSettings:
    return settings.model_copy(update={"strategy": "fsdp"})


@pytest.fixture(scope="module")
def alone(cases: dict[str, Case]) -> dict[str, Outcome]:
    """What one process gives; the cases stay as they are."""
    copied: dict[str, Case] = unpickled(pickle.dumps(cases))
    return {name: case.run() for name, case in copied.items()}


@pytest.fixture(scope="module", params=[2, 3])
def together(
    request: pytest.FixtureRequest,
    cases: dict[str, Case],
    killed: tuple[Case, Outcome, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[int, dict[str, Outcome], Path]:
    """What several processes give, and where those that go on keep their states."""
    folder = tmp_path_factory.mktemp("together")
    sharded = going_on(killed, folder / "fsdp")
    resumed = {
        "whole": replace(killed[0], states=None),
        "resumed": going_on(killed, folder / "ddp"),
        "resumed under fsdp": replace(sharded, training=under_fsdp(sharded.training)),
    }
    outcomes, done = trained_by(request.param, cases | resumed, folder)
    assert done.returncode == 0, done.stderr
    return request.param, outcomes, folder


NAMES = (
    *("deepfm", "deepfm under fsdp", "distilled", "single_phase", "single_phase in passes"),
    *("streamed", "two_phase", "two_phase under fsdp"),
)


@pytest.mark.parametrize("name", NAMES)
def test_several_processes_train_as_one(
    together: tuple[int, dict[str, Outcome], Path], alone: dict[str, Outcome], name: str
) -> None:
    several, one = together[1][name].fits, alone[name].fits
    assert [len(fit.history) for fit in several] == [len(fit.history) for fit in one]
    assert one[-1].history[-1].step == STEPS
    for fit, expected in zip(several, one, strict=True):
        for record, other in zip(fit.history, expected.history, strict=True):
            assert record.step == other.step
            assert record.train_loss == pytest.approx(other.train_loss, rel=1e-4)
            assert record.valid_logloss == pytest.approx(other.valid_logloss, rel=1e-4)
            assert record.valid_auc == pytest.approx(other.valid_auc, abs=1e-4)
            assert record.train_accuracy == pytest.approx(other.train_accuracy, abs=100 / BATCH)
        assert fit.best.step == expected.best.step
        assert fit.ran.ranks == together[0]
        assert fit.ran.strategy == ("fsdp" if "fsdp" in name else "ddp")


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_are_shared_out_are_scored_in_their_order(
    together: tuple[int, dict[str, Outcome], Path], alone: dict[str, Outcome], name: str
) -> None:
    """To the last digit where the weights are the same; these are so up to rounding."""
    outcome = together[1][name]
    assert np.array_equal(outcome.scores, np.concatenate(outcome.lots))
    np.testing.assert_allclose(outcome.scores, alone[name].scores, rtol=1e-3)


def test_the_loss_of_a_rank_ends_the_others_and_is_named(
    killed: tuple[Case, Outcome, str],
) -> None:
    _, outcome, _ = killed
    assert outcome.refusal is not None
    assert outcome.refusal.startswith("LostRankError: rank 1 (process ")
    assert "goes on from the last state that was kept" in outcome.refusal


def test_what_a_killed_rank_left_goes_on_exactly_or_up_to_rounding(
    killed: tuple[Case, Outcome, str], together: tuple[int, dict[str, Outcome], Path]
) -> None:
    """Bit for bit with as many ranks as before."""
    (count, outcomes, _), states = together, killed[0].states
    assert states is not None
    run = StageRun("end_to_end", "a", 0, last=True)
    assert states.point(run).load()[0].step == KILLED_AT // KEPT_EVERY * KEPT_EVERY
    (resumed,), (whole,) = outcomes["resumed"].fits, outcomes["whole"].fits
    if count == 2:
        assert_equal_runs(resumed, whole)
    assert resumed.best.step == whole.best.step
    for record, other in zip(resumed.history, whole.history, strict=True):
        assert record.train_loss == pytest.approx(other.train_loss, rel=1e-4)


def test_a_state_goes_on_under_the_other_strategy_and_is_kept_as_under_this_one(
    killed: tuple[Case, Outcome, str], together: tuple[int, dict[str, Outcome], Path]
) -> None:
    _, outcomes, folder = together
    (sharded,), (whole,) = outcomes["resumed under fsdp"].fits, outcomes["whole"].fits
    assert sharded.ran.strategy == "fsdp"
    assert sharded.best.step == whole.best.step
    for record, other in zip(sharded.history, whole.history, strict=True):
        assert record.train_loss == pytest.approx(other.train_loss, rel=1e-4)
    assert killed[0].states is not None
    file = killed[0].states.point(StageRun("end_to_end", "a", 0, last=True)).file.name
    under_fsdp, under_ddp = (
        ResumePoint(folder / strategy / "states" / file, "a" * 64).load()
        for strategy in ("fsdp", "ddp")
    )
    assert under_fsdp[0].step == under_ddp[0].step == STEPS
    # Of AdamW's moments no more: a weight whose gradient is but rounding moves as far as others.
    for ours, theirs in (
        (under_fsdp[0].best_weights, under_ddp[0].best_weights),
        (under_fsdp[1], under_ddp[1]),
        *zip(*(state[2]["state"].values() for state in (under_fsdp, under_ddp)), strict=True),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def test_one_process_goes_on_from_the_state_of_two_and_says_so(
    killed: tuple[Case, Outcome, str],
    together: tuple[int, dict[str, Outcome], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = unpickled(pickle.dumps(going_on(killed, tmp_path)))
    (fit,), (whole,) = case.run().fits, together[1]["whole"].fits
    assert "the state of a run of 2 process(es), and this one has 1" in caplog.text
    assert fit.history[-1].train_loss == pytest.approx(whole.history[-1].train_loss, rel=1e-4)
    assert fit.history[-1].step == STEPS
