"""An encoded split, to train on or to score."""

from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.storage.store_path import is_whole, place_of


class EncodedFileDataset(AbstractDataset[NoReturn, EncodedFile]):
    """Points training to an encoded split, which it reads whole or streams.

    The same file is written, and counted, as a table: the two entries of the catalog share their
    name before the `@`.

    ```yaml
    train_encoded@rows:
      type: llm_ctr_pipeline.datasets.encoded_file.EncodedFileDataset
      filepath: data/05_model_input/x4/train.parquet
    ```
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Point to a Parquet file, or a folder of them.

        Args:
            filepath: Where it is: a path, or an address on a store.
            metadata: For other tools; Kedro ignores it.
        """
        self._filepath = place_of(filepath)
        self.metadata = metadata

    def load(self) -> EncodedFile:
        """Name the file; nothing is read yet."""
        return EncodedFile(self._filepath)

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: the split is written as a table."""
        raise DatasetError(f"{self._filepath} is written by preprocessing, as a table")

    def _exists(self) -> bool:
        return is_whole(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
