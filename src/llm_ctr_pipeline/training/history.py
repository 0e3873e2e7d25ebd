"""What training reports: its validations, and what trained a checkpoint."""

from typing import Self

from pydantic import Field

from llm_ctr_pipeline.frozen import Frozen


class ValidationRecord(Frozen):
    """One validation and the training since the one before.

    Attributes:
        epoch: Epochs completed, a fraction within an epoch.
        step: Optimiser steps completed.
        train_loss: Mean cross-entropy of the rows trained on, in nats a row, as they were met, with
            the labels as smoothed as they were; of a distilled model the whole loss.
        train_accuracy: Percent of those rows on the right side of 0.5.
        valid_loss: Mean cross-entropy over the validation split.
        valid_accuracy: Percent.
        valid_auc: Area under the ROC curve over the whole validation split.
        valid_logloss: Log loss of the predicted probabilities.
        lr: Learning rate of the last step, of all components but the encoder.
        seconds: Training time, validation not included.
        rows_per_second: Rows trained on a second.
        improved: Whether it is the best so far, by `early_stopping_metric`.
    """

    epoch: float
    step: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    valid_auc: float
    valid_logloss: float
    lr: float
    seconds: float
    rows_per_second: float
    improved: bool


class Ran(Frozen):
    """How a training ran: what the settings came to on its machine.

    Attributes:
        device: Its name, with the model of a GPU.
        precision: One of Lightning's.
        float32_matmul: As the setting.
        deterministic: As the setting.
        compile: `torch.compile`'s mode, or `off`.
        attention: The language model's kernel; None for a model without.
        micro_batch_size: Rows of the larger passes of a batch.
        activation_checkpointing: `on` or `off`.
        ranks: Processes that trained together.
        strategy: How they shared the model: `ddp` or `fsdp`; `none` for one process.
    """

    device: str
    precision: str
    float32_matmul: str
    deterministic: bool
    compile: str
    attention: str | None
    micro_batch_size: int
    activation_checkpointing: str
    ranks: int = 1
    strategy: str = "none"

    @property
    def in_words(self) -> str:
        """What is on, and with which value: `device cpu, precision 32-true`."""
        without = {"off", "none", False, None}
        return ", ".join(f"{name} {how}" for name, how in self if how not in without)

    def changed(self, now: Self) -> tuple[str, object, object] | None:
        """A setting that keeps a training from going on: its name, what it was, what it is now.

        That of a precision does; all others but the device's change the rounding alone, which
        counts where the run is to be deterministic. Another number of ranks or strategy rounds
        otherwise in any case.
        """
        names = ["precision", "float32_matmul"]
        as_before = (self.ranks, self.strategy) == (now.ranks, now.strategy)
        if self.deterministic and now.deterministic and as_before:
            names += ["compile", "attention", "micro_batch_size", "activation_checkpointing"]
        for name in names:
            was, is_now = getattr(self, name), getattr(now, name)
            if was != is_now:
                return f"{'llm' if name == 'attention' else 'training'}.{name}", was, is_now
        return None


class Provenance(Frozen):
    """What trained a checkpoint.

    Attributes:
        path: The training path.
        stage: The stage that left it.
        dataset: The dataset that this stage trained on last.
        source: Where that dataset's rows come from.
        seed: Of the training.
        best: The validation whose weights it holds.
        origin: What trained the checkpoint that the path started from, or the teacher that it
            learned from, if it did.
    """

    path: str
    stage: str
    dataset: str
    source: str
    seed: int
    best: ValidationRecord
    origin: "Provenance | None"


class TrainedOn(Frozen):
    """Which training rows a stage met, and under which ids.

    Attributes:
        rows: Fingerprint of the raw training split.
        feature_map: Fingerprint of the feature map.
    """

    rows: str
    feature_map: str


class _StageOnDataset(Frozen):
    stage: str
    dataset: str


class StageSummary(_StageOnDataset):
    """One stage on one dataset.

    Attributes:
        stage: The stage's name.
        dataset: The dataset's.
        trained_on: Its rows and ids.
        components: The model's parts that it trained; None for all.
        trained_parameters: How many weights these hold.
        stopped_early: Whether patience ended it.
        best: Its best validation.
        seconds: Training time, validation not included.
        ran: How it ran.
        losses: How its loss fell within the epochs: a step, and the mean cross-entropy, in nats a
            row, of the rows since the step before it in this list.
    """

    trained_on: TrainedOn
    components: tuple[str, ...] | None
    trained_parameters: int
    stopped_early: bool
    best: ValidationRecord
    seconds: float
    ran: Ran
    losses: tuple[tuple[int, float], ...] = ()


class StageValidation(ValidationRecord, _StageOnDataset):
    """A validation, with the stage and the dataset that it belongs to.

    Attributes:
        best: Whether it is the best of this stage on this dataset.
    """

    best: bool


class TrainingResults(Frozen):
    """What training a path gave: `training_results.json`.

    Attributes:
        path: The training path.
        dataset: The dataset trained on last.
        source: Where its rows come from.
        seed: Of the training.
        settings: Digest of all that it depends on but the seed and the weights it starts from:
            trainings with the same one differ by chance alone.
        stopped_early: Whether patience ended the last stage.
        best: The last stage's best validation.
        seconds: Training time of all stages, validation not included.
        rows_per_second: Rows trained on a second, over all stages.
        parameters: Weights of the whole model.
        trained_parameters: Those that some stage trained.
        stages: One summary for each dataset of each stage, in order.
        epochs: All validations, in order.
    """

    path: str
    dataset: str
    source: str
    seed: int
    settings: str
    stopped_early: bool
    best: ValidationRecord
    seconds: float
    rows_per_second: float
    parameters: int
    trained_parameters: int
    stages: tuple[StageSummary, ...]
    epochs: tuple[StageValidation, ...] = Field(min_length=1)

    def is_of(self, trained: Provenance) -> bool:
        """Whether a checkpoint comes from this training."""
        shared = ("path", "dataset", "source", "seed", "best")
        return all(getattr(self, key) == getattr(trained, key) for key in shared)
