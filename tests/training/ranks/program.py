"""What torchrun starts: trains and scores as told in a file, and writes what came out."""

import os
import pickle
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.input.batches import EncodedSplit, TrainingRows
from llm_ctr_pipeline.training.distillation.teacher import Teacher
from llm_ctr_pipeline.training.fit import FitResult
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.ranks import group, jobs
from llm_ctr_pipeline.training.score import score_split, scoring
from llm_ctr_pipeline.training.settings import Stage, TrainingSettings
from llm_ctr_pipeline.training.stages import KeptStates, StageRun, train_stages

Rows = Mapping[str, tuple[TrainingRows, EncodedSplit]]


@dataclass
class Case:
    """One training, and a scoring of its validation rows.

    Attributes:
        killed_at: The step after which the last rank is killed, as the system does without memory.
    """

    model: nn.Module
    stages: dict[str, Stage]
    training: TrainingSettings
    rows: Rows
    states: KeptStates | None = None
    killed_at: int | None = None
    teacher: Teacher | None = None

    def open(self, dataset: str, _where: str) -> tuple[TrainingRows, EncodedSplit]:
        return self.rows[dataset]

    def kill(self, _run: StageRun, record: ValidationRecord) -> None:
        if record.step == self.killed_at:
            os.kill(group._GROUP.processes[-1][1], signal.SIGKILL)

    def run(self) -> "Outcome":
        """Train and score."""
        torch.set_num_threads(1)
        torch.manual_seed(0)
        try:
            results = train_stages(
                *(self.model, self.stages, self.training, self.open, self.kill, self.states),
                teacher=self.teacher,
            )
        except RefusedError as error:
            return Outcome(refusal=f"{type(error).__name__}: {error}")
        _, valid = next(iter(self.rows.values()))
        whole = score_split(self.model, valid, self.training)
        score = scoring(self.model, self.training)
        lots = [score(lot.numpy()) for lot in valid.ids_NF.split(2 * self.training.eval_batch_size)]
        return Outcome([result.fit for result in results], whole, lots)


@dataclass
class Outcome:
    """What a case gave.

    Attributes:
        fits: One for each dataset of each stage.
        scores: Probabilities of the validation rows of the first dataset.
        lots: The same, scored lot by lot.
        refusal: What ended it before.
    """

    fits: list[FitResult] = field(default_factory=list)
    scores: Any = None
    lots: list[Any] = field(default_factory=list)
    refusal: str | None = None


def main(cases: Path, outcomes: Path) -> None:
    if os.environ["RANK"] != "0":
        jobs.work()
        return
    with jobs.leading():
        loaded: dict[str, Case] = pickle.loads(cases.read_bytes())  # noqa: S301 - the test's
        done = {name: case.run() for name, case in loaded.items()}
        outcomes.write_bytes(pickle.dumps(done))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
