"""The checkpoint folder as a Kedro dataset."""

from pathlib import Path

from llm_ctr_pipeline.datasets.path import PathDataset
from llm_ctr_pipeline.training.checkpoint import (
    Checkpoint,
    MissingFileError,
    load_checkpoint,
    save_checkpoint,
)


class CheckpointDataset(PathDataset):
    """Loads and saves a `Checkpoint`: a folder with weights, config, feature map and tokenizer."""

    def load(self) -> Checkpoint:
        """Read the checkpoint.

        Raises:
            CheckpointError: The folder is no checkpoint.
            FingerprintError: The feature map in it is not the model's.
        """
        try:
            return load_checkpoint(Path(str(self._filepath)))
        except MissingFileError as error:
            cure = "run `kedro run --pipeline=train` to make one"
            raise MissingFileError(f"{error}; {cure}") from error

    def save(self, data: Checkpoint) -> None:
        """Write the checkpoint, never half."""
        save_checkpoint(Path(str(self._filepath)), data)

    def _exists(self) -> bool:
        return super()._exists() and (self._filepath / "config.json").exists()
