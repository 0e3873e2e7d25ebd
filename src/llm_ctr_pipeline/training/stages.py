"""A training path: a list of stages, each of which goes on from the weights of the one before."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from torch import nn

from llm_ctr_pipeline.data.input.batches import EncodedSplit, TrainingRows
from llm_ctr_pipeline.data.storage.atomic import sweep
from llm_ctr_pipeline.data.storage.disk import check_space
from llm_ctr_pipeline.training.fit import FitResult, fit
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.optimizer import check_components, freeze_all_but, weights_of
from llm_ctr_pipeline.training.settings import Stage, TrainingSettings
from llm_ctr_pipeline.training.state import ResumePoint, state_bytes

logger = logging.getLogger(__name__)

OpenDataset = Callable[[str], tuple[TrainingRows, EncodedSplit]]
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
class KeptStates:
    """Where an interrupted path's states are kept: a file for each run of a stage.

    A file's name holds the keys of the run before and of its own, so paths whose first stages are
    the same share their states.

    Attributes:
        folder: Folder of all paths' states with this name.
        keys: Of each run in order: names all that it and the runs before it are made of.
    """

    folder: Path
    keys: tuple[str, ...]

    def point(self, run: StageRun) -> ResumePoint:
        """Where a run's state is kept."""
        name = f"{self._prefixes()[run.position]}_{run.stage}_{run.dataset}.pt"
        return ResumePoint(self.folder / name, self.keys[run.position])

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
            "and {free} are free: make room, or set training.keep_state_every to 0 to keep none"
        )
        check_space(self.folder, sum(sizes) + max(sizes) - there, message)

    def own(self) -> list[Path]:
        """The states of these settings."""
        return [file for start in self._prefixes() for file in self.folder.glob(f"{start}_*.pt")]

    def others(self) -> list[Path]:
        """The states of other settings."""
        return sorted(set(self.folder.glob("*.pt")) - set(self.own()))

    def delete(self) -> None:
        """Delete the states of these settings, but those that states of others go on from."""
        for key, start in reversed([*zip(self.keys, self._prefixes(), strict=True)]):
            if not any(self.folder.glob(f"{key[:16]}-*.pt")):
                for file in self.folder.glob(f"{start}_*.pt"):
                    file.unlink()

    def discard(self) -> None:
        """Delete the states of these settings, for these settings to start over."""
        for file in self.own():
            file.unlink()

    def _prefixes(self) -> list[str]:
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
) -> list[StageResult]:
    """Train a model stage by stage, each from the best weights of the one before.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`. Left with the last run's best weights.
        stages: What to train on what, in order, by the stages' names.
        training: The settings that the stages do not have of their own.
        open_dataset: Gives a dataset's rows to train on, and those to validate on. Called when its
            turn comes, so that only one is held.
        on_validation: Called with each record as it comes.
        states: Where to keep the states, from which the same call goes on; None to keep none.
            Deleted at the end.
        on_start: Called before anything trains where states are kept, with the key that names the
            training and whether it goes on from states.

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
        result = fit(
            model,
            *open_dataset(dataset),
            training.of(stage),
            None if on_validation is None else partial(on_validation, run),
            None if states is None else states.point(run),
        )
        model.load_state_dict(result.best_weights)
        trained = sum(weight.numel() for weight in weights_of(model, stage.components))
        ends_stage = run.last or plan[position + 1][0] != name
        kept = result if ends_stage else replace(result, best_weights={})
        results.append(StageResult(run, stage.components, trained, kept))
    if states is not None:
        states.delete()
    return results
