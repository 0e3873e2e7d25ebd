"""An encoded split, to train on or to score."""

from typing import TYPE_CHECKING, NoReturn

from kedro.io import DatasetError

from llm_ctr_pipeline.datasets.path import PathDataset

if TYPE_CHECKING:  # it brings PyTorch along
    from llm_ctr_pipeline.data.input.encoded_file import EncodedFile


class EncodedFileDataset(PathDataset):
    """Points training to an encoded split, which it reads whole or streams.

    The same file, or folder of files, is written, and counted, as a table: the two entries of the
    catalog share their name before the `@`.
    """

    def load(self) -> "EncodedFile":
        """Name the file; nothing is read yet."""
        from llm_ctr_pipeline.data.input.encoded_file import EncodedFile

        return EncodedFile(self._filepath)

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: the split is written as a table."""
        raise DatasetError(f"{self._filepath} is written by preprocessing, as a table")
