"""The checkpoint folder as a Kedro dataset."""

from pathlib import Path
from typing import TYPE_CHECKING

from llm_ctr_pipeline.data.storage.record_text import digest_of
from llm_ctr_pipeline.datasets.path import PathDataset
from llm_ctr_pipeline.reporting.results import pipeline_of

if TYPE_CHECKING:  # it brings PyTorch along
    from llm_ctr_pipeline.training.checkpoint import Checkpoint


class CheckpointDataset(PathDataset):
    """Loads and saves a `Checkpoint`: a folder with weights, config, feature map and tokenizer."""

    def load(self) -> "Checkpoint":
        """Read the checkpoint.

        Raises:
            CheckpointError: The folder is no checkpoint, or not all as it was saved.
            ReplacedError: Another run put one in the place of the one that this run saved.
        """
        from llm_ctr_pipeline.training.checkpoint import CheckpointError, load_checkpoint

        folder = Path(str(self._filepath))
        try:
            loaded = load_checkpoint(folder)
        except CheckpointError as error:
            cure = f"run `kedro run --pipeline={pipeline_of(folder.parent.name)}` to make one"
            raise CheckpointError(f"{error}; {cure}") from error
        self._check_same(digest_of(loaded.files))
        return loaded

    def save(self, data: "Checkpoint") -> None:
        """Write the checkpoint, never half."""
        from llm_ctr_pipeline.training.checkpoint import save_checkpoint

        self._wrote(digest_of(save_checkpoint(Path(str(self._filepath)), data)))

    def _exists(self) -> bool:
        return super()._exists() and (self._filepath / "config.json").exists()
