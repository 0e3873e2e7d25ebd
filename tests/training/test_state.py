"""What the states of an interrupted path take, and when one is refused."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.filesize import decimal
from torch import Tensor, nn

from llm_ctr_pipeline.data.errors import StorageError
from llm_ctr_pipeline.data.input.batches import EncodedSplit, TrainingRows
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.fit import fit
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.optimizer import freeze_all_but
from llm_ctr_pipeline.training.settings import Stage, TrainingSettings
from llm_ctr_pipeline.training.stages import KeptStates, train_stages
from llm_ctr_pipeline.training.state import ResumePoint, StateMismatchError, state_bytes

MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]
MakeSettings = Callable[..., TrainingSettings]


class Wide(nn.Module):
    """A model of which the weights are nearly all of the state."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(5, 40_000)
        self.output = nn.Linear(40_000, 1)

    def forward(self, ids_BF: Tensor) -> Tensor:
        log_odds_B1: Tensor = self.output(self.table(ids_BF).sum(dim=1))
        return log_odds_B1.squeeze(1)


@pytest.mark.parametrize("components", [None, ("table",), ("output",)])
def test_the_size_of_a_state_is_known_beforehand(
    make_split: MakeSplit,
    make_settings: MakeSettings,
    tmp_path: Path,
    components: tuple[str, ...] | None,
) -> None:
    model, file = Wide(), tmp_path / "state.pt"
    freeze_all_but(model, components)
    settings = make_settings(epochs=1)
    fit(model, make_split(32, 1), make_split(32, 2), settings, None, ResumePoint(file, "key"))
    assert state_bytes(model, components) == pytest.approx(file.stat().st_size, rel=0.02)


@pytest.fixture
def stages() -> dict[str, Stage]:
    first = Stage(datasets="a b", components="table", start="new", epochs=1)
    second = Stage(datasets="a", components="output", start="previous", epochs=1)
    return {"first": first, "second": second}


# Of `Wide`: two states of the table, one of the output, and one written beside the one it replaces.
TABLE, OUTPUT = 4 * 4 * 5 * 40_000, 4 * 4 * 40_001
NEEDED = 2 * TABLE + OUTPUT + TABLE


@pytest.mark.parametrize(
    ("free", "every", "fits"),
    [(NEEDED, 1, True), (NEEDED - 1, 1, False), (NEEDED - 1, 3, False), (0, 0, True)],
)
def test_states_that_the_disk_does_not_hold_are_refused_at_the_start(
    make_split: MakeSplit,
    make_settings: MakeSettings,
    stages: dict[str, Stage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    every: int,
    fits: bool,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    rows = make_split(32, 1), make_split(32, 2)
    training = make_settings(keep_state_every=every)
    states = KeptStates(tmp_path / "path" / "interrupted", ("a", "b", "c"))
    model = Wide()
    if fits:
        assert len(train_stages(model, stages, training, lambda _: rows, None, states)) == 3
        return
    before = model.table.weight.clone()
    with pytest.raises(StorageError) as error:
        train_stages(model, stages, training, lambda _: rows, None, states)
    assert torch.equal(model.table.weight, before)
    assert not states.folder.exists()
    assert f"take {decimal(NEEDED)} in {states.folder}" in str(error.value)
    assert "set training.keep_state_every to 0" in str(error.value)


def test_states_that_are_there_already_need_no_more_room(
    make_split: MakeSplit,
    make_settings: MakeSettings,
    stages: dict[str, Stage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, training = (make_split(32, 1), make_split(32, 2)), make_settings()
    states = KeptStates(tmp_path, ("a", "b", "c"))

    def cut_off(*_: object) -> None:
        if states.own():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stages(Wide(), stages, training, lambda _: rows, cut_off, states)
    (kept,) = states.own()
    room = SimpleNamespace(free=NEEDED - kept.stat().st_size)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    assert len(train_stages(Wide(), stages, training, lambda _: rows, None, states)) == 3


@pytest.mark.parametrize("first", ["memory", "stream"])
def test_rows_in_another_order_are_refused(
    make_model: MakeModel,
    make_split: MakeSplit,
    make_settings: MakeSettings,
    tmp_path: Path,
    first: str,
) -> None:
    """`training.rows_in: auto` may come to another place when the run goes on."""
    point = ResumePoint(tmp_path / "state.pt", key="settings and data")

    def interrupt(record: ValidationRecord) -> None:
        if record.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    in_memory, valid = make_split(100, 1, noise=0.2), make_split(60, 2, noise=0.2)
    columns = dict(zip("abc", in_memory.ids_NF.T.numpy(), strict=True))
    labels = in_memory.labels_N.numpy()
    pq.write_table(pa.table({"row": range(100), "label": labels, **columns}), tmp_path / "rows")
    streamed = EncodedFile(tmp_path / "rows").open(("a", "b", "c"), "stream", buffer_rows=50)
    rows: dict[str, TrainingRows] = {"memory": in_memory, "stream": streamed}
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), rows[first], valid, make_settings(), interrupt, point)
    (other,) = rows.keys() - {first}
    with pytest.raises(StateMismatchError, match=f"set it to {first} to go on, or training.resume"):
        fit(make_model(), rows[other], valid, make_settings(), None, point)
    assert len(fit(make_model(), rows[first], valid, make_settings(), None, point).history) == 3
