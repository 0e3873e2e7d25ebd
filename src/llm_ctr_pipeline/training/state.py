"""The training state on disk, from which an interrupted run goes on exactly.

Frozen weights are not in it: they are those that the run starts from.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.training.history import Ran, ValidationRecord
from llm_ctr_pipeline.training.optimizer import weights_of
from llm_ctr_pipeline.training.settings import TrainingSettings

# What zipfile and PyTorch raise of files that are cut off or of which any bit is another.
_OF_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, UnpicklingError, EOFError),
    *(OSError, RuntimeError, ValueError),
)


class StateMismatchError(RefusedError, ValueError):
    """The state on disk is of a run with other settings or other data."""


class DamagedStateError(RefusedError):
    """The state on disk is not what was written, or no state at all."""


@dataclass
class TrainingState:
    """Where a run stands between two steps.

    Attributes:
        rows_in: Where the rows lie, `memory` or `stream`: their order depends on it.
        frozen: Digest of the frozen weights, as `frozen_digest` gave it.
        ran: What the settings of how to run came to.
        after: Of each run before it in its path the step of the best validation, whose weights the
            next one started from.
        step: Optimiser steps completed.
        without_gain: Validations since the best one.
        history: One record a validation.
        best_weights: The model's weights at the best validation but for the frozen, on the CPU.
        loss_sums: By rank, the summed loss of the rows trained on since the last validation.
        correct: How many of these rows were on the right side of 0.5.
        rows: How many they are.
        seconds: Training time they took.
        losses: See `StageSummary`.
        noted: Of the rows since the last validation, the summed loss and the number of those that
            `losses` has.
        random: By rank, the states of the random generators that dropout draws from, as
            `random_states` gave them.
        loss_scale: State of what scales the loss in float16; empty in other precisions.
    """

    rows_in: str = "memory"
    frozen: str = ""
    ran: Ran | None = None
    after: tuple[int, ...] = ()
    step: int = 0
    without_gain: int = 0
    history: list[ValidationRecord] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    loss_sums: tuple[float, ...] = (0.0,)
    correct: int = 0
    rows: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    noted: tuple[float, int] = (0.0, 0)
    random: list[list[Tensor]] = field(default_factory=list)
    loss_scale: dict[str, Any] = field(default_factory=dict)

    def note_loss(self, loss_sum: float) -> None:
        """Note the mean loss since the last note, given the sum since the last validation."""
        noted_sum, noted_rows = self.noted
        if self.rows > noted_rows:
            self.losses.append((self.step, (loss_sum - noted_sum) / (self.rows - noted_rows)))
            self.noted = loss_sum, self.rows


def split_state(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A model's frozen weights, and the rest of its state; not copied."""
    weights, state = model.named_parameters(remove_duplicate=False), model.state_dict()
    frozen = {name: state[name] for name, weight in weights if not weight.requires_grad}
    return frozen, {name: value for name, value in state.items() if name not in frozen}


def on_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that training does not change."""
    return {name: weight.detach().cpu().clone() for name, weight in weights.items()}


def frozen_digest(model: nn.Module) -> str:
    """Digest of a model's frozen weights; of none if none is frozen."""
    digest = hashlib.sha256()
    for name, weight in split_state(model)[0].items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def state_bytes(model: nn.Module, components: Collection[str] | None) -> int:
    """About how large the state is of a run that trains these components; None for all."""
    trained = sum(weight.nbytes for weight in weights_of(model, components))
    return 4 * trained  # the weights, the best ones, the optimiser's two moments


def check_limits(
    file: Path, state: TrainingState, settings: TrainingSettings, steps_an_epoch: int
) -> None:
    """Refuse to go on from a state where the settings would have ended the run before it.

    Raises:
        StateMismatchError: It is in a later epoch, or went on after more validations in vain.
    """
    epochs = -(-state.step // steps_an_epoch)
    in_vain = accumulate(
        state.history[:-1], lambda count, record: 0 if record.improved else count + 1, initial=0
    )
    passed = max(in_vain)
    for name, now, least, did in (
        ("epochs", settings.epochs, epochs, f"is in epoch {epochs}"),
        ("patience", settings.patience, passed + 1, f"went on after {passed} validations in vain"),
    ):
        if now < least:
            raise StateMismatchError(
                f"{file} is the state of a run that {did}, and {name} is now {now}: set it to "
                f"{least} or more to go on, or training.resume to false to start over"
            )


def random_states(device: torch.device) -> list[Tensor]:
    """States of the CPU's generator and, for a CUDA device, of its own."""
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def set_random_states(states: list[Tensor], device: torch.device) -> None:
    """Set what `random_states` gave, as far as the device has it."""
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)


@dataclass(frozen=True)
class ResumePoint:
    """Where the training state is kept.

    Attributes:
        file: A run that finds it goes on from it; whoever wants no more of it deletes it.
        key: Names the settings and the data; a state with another key is refused.
        after: See `TrainingState`; a state after other validations is not gone on from.
    """

    file: Path
    key: str
    after: tuple[int, ...] = ()

    def save(
        self, state: TrainingState, model: dict[str, Tensor], optimizer: dict[str, Any]
    ) -> None:
        """Write the state in one move: killed at any moment, the file is the old one or the new.

        Args:
            state: Where the run stands.
            model: The model's current weights but for the frozen.
            optimizer: The optimiser's state.

        Raises:
            StorageError: The disk is full; the old file is as it was.
        """
        # Not `asdict` of the whole, which would copy the best weights.
        fields = {
            **vars(state),
            "ran": state.ran and state.ran.to_json(),
            "history": [record.to_json() for record in state.history],
        }
        content = {"key": self.key, "state": fields, "model": model, "optimizer": optimizer}
        if_full = (
            f"the disk of {self.file.parent} is full: make room and run this again, which goes on "
            "from the last state that was kept; training.keep_state_every=0 keeps none"
        )
        # A file, not its name: with a name PyTorch does not say that the disk is full.
        with drafted(self.file, if_full) as draft, draft.open("wb") as target:
            torch.save(content, target)

    def load(self) -> tuple[TrainingState, dict[str, Tensor], dict[str, Any]]:
        """Read what `save` was given; no code is run in doing so.

        Raises:
            DamagedStateError: The file is cut off, changed, or no state.
            StateMismatchError: The state is of other settings or other data.
        """
        content = self._read()
        if content["key"] != self.key:
            raise StateMismatchError(
                f"{self.file} is the state of a run with other settings or other data: set them "
                "back to go on with it, or delete the file to train from the start"
            )
        fields = content["state"]
        if fields.keys() != TrainingState.__dataclass_fields__.keys():
            raise StateMismatchError(
                f"{self.file} was written by another version of this project: delete it to train "
                "from the start, or go on with the version that wrote it"
            )
        history = [ValidationRecord(**record) for record in fields.pop("history")]
        ran = Ran(**kept) if (kept := fields.pop("ran")) else None
        state = TrainingState(**fields, ran=ran, history=history)
        return state, content["model"], content["optimizer"]

    def _read(self) -> dict[str, Any]:
        damaged = DamagedStateError(
            f"{self.file} is damaged, or no training state: delete it, and the same command trains "
            "again what it held"
        )
        with self.file.open("rb") as opened:
            try:
                # PyTorch writes the check sums, and does not look at them.
                if zipfile.ZipFile(opened).testzip() is not None:
                    raise damaged
                opened.seek(0)
                content: dict[str, Any] = torch.load(opened, map_location="cpu", weights_only=True)
            except _OF_DAMAGE as error:
                if "allocate" in str(error):  # too little memory: the file is as it was
                    raise
                raise damaged from error
        if set(content) != {"key", "state", "model", "optimizer"}:
            raise damaged
        return content
