"""An encoded split: written as a table, read as rows to train on or to score."""

from kedro_datasets._typing import TablePreview

from llm_ctr_pipeline.data.features.encode import Encoded, write_encoded
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.datasets.engine import EngineDataset
from llm_ctr_pipeline.datasets.path import where_there


class EncodedFileDataset(EngineDataset):
    """A file, or a folder of files as Spark writes it, that readers never see half-written."""

    def load(self) -> EncodedFile:
        """Name the file; nothing is read yet."""
        with self._reading_files():
            return EncodedFile(self._filepath)

    def save(self, data: Encoded) -> None:
        """Write the rows and put the result in its place when it is whole."""
        with drafted(self._filepath) as draft:
            write_encoded(self.connection, data, draft)
        self._wrote_files()

    @where_there
    def preview(self, nrows: int = 5) -> TablePreview:
        """What Kedro-Viz shows."""
        return TablePreview(self.load().to_pandas(nrows).to_dict(orient="split"))
