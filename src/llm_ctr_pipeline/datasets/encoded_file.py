"""An encoded split: written as a table, read as rows to train on or to score."""

from kedro_datasets._typing import TablePreview

from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.datasets.engine import TableDataset
from llm_ctr_pipeline.datasets.path import where_there


class EncodedFileDataset(TableDataset):
    """An encoded split: a file, or a folder of files as Spark writes it."""

    def load(self) -> EncodedFile:
        """Name the file; nothing is read yet."""
        with self._reading_files():
            return EncodedFile(self._filepath)

    @where_there
    def preview(self, nrows: int = 5) -> TablePreview:
        """What Kedro-Viz shows."""
        return TablePreview(self.load().to_pandas(nrows).to_dict(orient="split"))
