"""A training path: a list of stages, each of which goes on from the weights of the one before."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import nn

from llm_ctr_pipeline.data.input.batches import EncodedSplit, TrainingRows
from llm_ctr_pipeline.data.input.encoded_file import Where
from llm_ctr_pipeline.data.storage.atomic import sweep
from llm_ctr_pipeline.data.storage.disk import check_space
from llm_ctr_pipeline.training.distillation.teacher import Teacher
from llm_ctr_pipeline.training.fit import FitResult, fit
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.kept import finished
from llm_ctr_pipeline.training.kept.finished import Limits
from llm_ctr_pipeline.training.optimizer import check_components, freeze_all_but, weights_of
from llm_ctr_pipeline.training.ranks.jobs import share
from llm_ctr_pipeline.training.settings import Stage, TrainingSettings
from llm_ctr_pipeline.training.state import ResumePoint, state_bytes

logger = logging.getLogger(__name__)

OpenDataset = Callable[[str, Where], tuple[TrainingRows, EncodedSplit]]
OnValidation = Callable[["StageRun", ValidationRecord], None]
OnStart = Callable[[str, bool], None]


@dataclass(frozen=True)
class StageRun:
    """One stage on one of its datasets.

    Attributes:
        stage: Name of the stage.
        dataset: Name of the dataset.
        position: How many such runs come before it in the path.
        last: Whether it is the path's last.
    """

    stage: str
    dataset: str
    position: int
    last: bool


@dataclass(frozen=True)
class StageResult:
    """What a stage gave on one of its datasets.

    Attributes:
        run: Which stage and dataset.
        components: Components that trained; None for all.
        trained_parameters: Weights that trained.
        fit: History and best weights; no weights where the stage goes on with another dataset.
    """

    run: StageRun
    components: tuple[str, ...] | None
    trained_parameters: int
    fit: FitResult


@dataclass(frozen=True)
class FitJob:
    """Has a rank train with the leader: its share of each batch and validation.

    Attributes:
        model: The model; its frozen weights are frozen.
        open: Gives the rows to train on and to validate on.
        settings: Of the stage.
        resume: Where the leader keeps the training state.
        teacher: Whose log-odds the model learns beside the labels, if there is one.
    """

    model: nn.Module
    open: Callable[[], tuple[TrainingRows, EncodedSplit]]
    settings: TrainingSettings
    resume: ResumePoint | None
    teacher: Teacher | None

    @property
    def models(self) -> tuple[nn.Module, ...]:
        """See `Job`."""
        return (self.model,) if self.teacher is None else (self.model, self.teacher.model)

    def run(self, _kept: Any) -> None:
        """Train."""
        fit(self.model, *self.open(), self.settings, None, self.resume, self.teacher)


@dataclass(frozen=True)
class KeptStates:
    """Where a path's states are kept: a file for each run of a stage.

    A file's name holds the keys of the run before and of its own, so paths whose first stages are
    the same share their states. Those of a training whose outputs were saved are listed in
    `finished.json`: more epochs or patience go on from them, the same training begins anew.

    Attributes:
        folder: Folder of all paths' states with this name.
        keys: Of each run in order: names all that it and the runs before it are made of, but for
            what only says when a run ends.
        limits: Of each run in order: most epochs, and patience.
    """

    folder: Path
    keys: tuple[str, ...]
    limits: tuple[tuple[int, int], ...]

    def point(self, run: StageRun, after: tuple[int, ...] = ()) -> ResumePoint:
        """Where a run's state is kept; `after` as in `TrainingState`."""
        name = f"{self._starts[run.position]}_{run.stage}_{run.dataset}.pt"
        return ResumePoint(self.folder / name, self.keys[run.position], after)

    def check_space(self, sizes: Sequence[int]) -> None:
        """Refuse to begin where the disk does not hold the states of all runs.

        Args:
            sizes: Bytes of each run's state. A state is replaced by one written beside it.

        Raises:
            StorageError: There is too little space.
        """
        for left in self.folder.glob(".*.pt-*"):  # what a killed process had begun to write
            sweep(self.folder / left.name[1:].rpartition("-")[0])
        there = sum(file.stat().st_size for file in self.own())
        message = (
            "the states from which an interrupted training goes on take {needed} in {folder}, "
            "and {free} are free: make room (other states there may be deleted), or set "
            "training.keep_state_every to 0 to keep none"
        )
        check_space(self.folder, sum(sizes) + max(sizes) - there, message)

    def own(self) -> list[Path]:
        """The states of these settings."""
        return finished.files(self.folder, self._starts)

    def others(self) -> list[Path]:
        """The states of interrupted runs with other settings."""
        known = {*self.own(), *finished.files(self.folder, finished.listed(self.folder))}
        return sorted(set(self.folder.glob("*.pt")) - known)

    def begin(self, *, resume: bool) -> None:
        """Delete this training's states where it does not go on from them.

        Args:
            resume: Whether to go on at all.
        """
        now = self._limits
        before = finished.listed(self.folder)
        shared = before.keys() & now.keys()
        if shared:
            finished.delete(self.folder, [start for start in before if start not in now])
        lasts_longer = all(
            new >= old for run in shared for new, old in zip(now[run], before[run], strict=True)
        )
        if not resume:
            if self.own():
                logger.warning("Starting over: the states in %s are discarded", self.folder)
            for file in self.own():
                file.unlink()
        elif before == now or not lasts_longer:
            logger.info("Training anew: only more epochs or patience go on from what is finished")
            finished.delete(self.folder, now)
        if shared:  # what is finished is going on, or gone
            finished.forget(self.folder)

    def end(self) -> None:
        """List the states of a training that is done, for `mark_finished` to find."""
        if self.own():
            finished.list_trained(self.folder, self._limits)

    @property
    def _limits(self) -> Limits:
        return dict(zip(self._starts, map(list, self.limits), strict=True))

    @property
    def _starts(self) -> list[str]:
        """How the names of the runs' files start."""
        keys = ["start", *(key[:16] for key in self.keys)]
        return [f"{before}-{own}" for before, own in pairwise(keys)]


def train_stages(
    model: nn.Module,
    stages: Mapping[str, Stage],
    training: TrainingSettings,
    open_dataset: OpenDataset,
    on_validation: OnValidation | None = None,
    states: KeptStates | None = None,
    on_start: OnStart | None = None,
    teacher: Teacher | None = None,
) -> list[StageResult]:
    """Train a model stage by stage, each from the best weights of the one before.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`. Left with the last run's best weights.
        stages: What to train on what, in order, by the stages' names.
        training: The settings that the stages do not have of their own.
        open_dataset: Gives a dataset's rows to train on, held as the second argument says, and
            those to validate on. Called when its turn comes, so that only one is held; by each
            rank.
        on_validation: Called with each record as it comes.
        states: Where to keep the states, from which the same call goes on; None to keep none.
        on_start: Called before anything trains where states are kept, with the key that names the
            training and whether it goes on from states.
        teacher: Whose log-odds all stages learn beside the labels, if there is one.

    Returns:
        One result for each dataset of each stage, in order.

    Raises:
        UnknownComponentError: A stage trains what is no part of the model; found before any trains.
        StorageError: The disk does not hold the states; found before any stage trains.
        Exception: What `fit` raises.
    """
    for stage in stages.values():
        check_components(model, stage.components)
    plan = [(name, stage, dataset) for name, stage in stages.items() for dataset in stage.datasets]
    if states is not None:
        states.begin(resume=training.resume)
    if states is not None and training.keep_state_every > 0:
        states.check_space([state_bytes(model, stage.components) for _, stage, _ in plan])
        if on_start is not None:
            on_start(states.keys[-1], bool(states.own()))
    results: list[StageResult] = []
    for position, (name, stage, dataset) in enumerate(plan):
        run = StageRun(name, dataset, position, last=position == len(plan) - 1)
        if len(plan) > 1:
            logger.info("Stage %s on %s", run.stage, run.dataset)
        freeze_all_but(model, stage.components)
        train, valid = open_dataset(dataset, training.rows_in)
        point = None if states is None else states.point(run, _bests(results))
        rows_in: Where = "memory" if isinstance(train, EncodedSplit) else "stream"
        opened = partial(open_dataset, dataset, rows_in)
        share(FitJob(model, opened, training.of(stage), point, teacher))
        told = None if on_validation is None else partial(on_validation, run)
        result = fit(model, train, valid, training.of(stage), told, point, teacher)
        model.load_state_dict(result.best_weights)
        trained = sum(weight.numel() for weight in weights_of(model, stage.components))
        ends_stage = run.last or plan[position + 1][0] != name
        kept = result if ends_stage else replace(result, best_weights={})
        results.append(StageResult(run, stage.components, trained, kept))
    if states is not None:
        states.end()
    return results


def _bests(results: list[StageResult]) -> tuple[int, ...]:
    return tuple(result.fit.best.step for result in results)
