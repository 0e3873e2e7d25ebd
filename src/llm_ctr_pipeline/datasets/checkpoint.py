"""The checkpoint folder as a Kedro dataset."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, Version

from llm_ctr_pipeline.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


class CheckpointDataset(AbstractVersionedDataset[Checkpoint, Checkpoint]):
    """Loads and saves a `Checkpoint`: a folder with weights, config, feature map and tokenizer.

    Args:
        filepath: The folder.
        version: Kedro's version, where the entry is versioned.
        metadata: What plug-ins read, such as Kedro-Viz's layer.
    """

    def __init__(
        self,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=PurePosixPath(filepath), version=version)
        self.metadata = metadata

    def load(self) -> Checkpoint:
        """Read the checkpoint.

        Raises:
            CheckpointError: The folder is no checkpoint.
            FingerprintError: The feature map in it is not the model's.
        """
        return load_checkpoint(Path(self._get_load_path()))

    def save(self, data: Checkpoint) -> None:
        """Write the checkpoint, never half."""
        save_checkpoint(Path(self._get_save_path()), data)

    def _exists(self) -> bool:
        return (Path(self._get_load_path()) / "config.json").exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}
