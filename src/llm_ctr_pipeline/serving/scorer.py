"""A trained model behind raw rows: probabilities in two lines, without Kedro or MLflow.

Shape legend: N rows, F fields.
"""

import os
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from llm_ctr_pipeline.models.fixed_prompt import FixedPromptCtr
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import ServingPrecision
from llm_ctr_pipeline.serving.cells import RowError, Rows, as_cells
from llm_ctr_pipeline.serving.encoder import RowEncoder
from llm_ctr_pipeline.training.checkpoint import Checkpoint, load_checkpoint

_BATCH_ROWS = 4096


class Scorer:
    """Scores a log's raw rows with a checkpoint's model.

        scorer = Scorer.load("data/06_models/single_phase/best_model")
        scorer.predict([{"hour": "14102100", "C1": "1005", ...}])

    A language model's prompt is computed once, when the scorer is made.

    Args:
        checkpoint: Whose model, vocabulary and description of the log.
        device: Where the model is.
        precision: Of the language model; see `FixedPromptCtr`.

    Attributes:
        columns: The raw columns that a row must have; it may have more.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str = "cpu", precision: ServingPrecision = "32-true"
    ) -> None:
        self._encoder = RowEncoder(checkpoint.summary.log, checkpoint.vocabulary)
        self._device = torch.device(device)
        model = checkpoint.build().to(self._device)
        self._model = FixedPromptCtr(model, precision) if isinstance(model, LlmCtr) else model
        self.columns = self._encoder.columns

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str = "cpu",
        precision: ServingPrecision = "32-true",
        threads: int | None = None,
    ) -> Self:
        """Read a checkpoint's folder, which holds all that is needed.

        Args:
            folder: Such as `data/06_models/single_phase/best_model`.
            device: Where to compute: `cpu`, `cuda`, `cuda:1`.
            precision: Of the language model: `32-true`, `bf16` or, on the CPU, `int8`.
            threads: On the CPU, of each call; PyTorch has one number for the whole process, which
                is set. None for what the environment variable OMP_NUM_THREADS says, or one.

        Raises:
            CheckpointError: It is no checkpoint, or damaged.
        """
        if threads is None and not os.environ.get("OMP_NUM_THREADS"):
            threads = 1
        if threads is not None:
            torch.set_num_threads(threads)
        return cls(load_checkpoint(Path(folder)), device, precision)

    def predict(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Score rows in their order.

        Args:
            rows: A data frame, an Arrow table or a list of dicts, with the log's raw columns;
                the label and other columns need not be there. A value that was not in the
                training rows counts as unknown, as it did in training.

        Returns:
            Probabilities of a click, float64, `[N]`.

        Raises:
            RowError: A column is missing, or a value is not what the log's description says.
        """
        cells = as_cells(rows, self._encoder.columns, self._encoder.numeric)
        encoded = self._encoder.encode(cells)
        if encoded.fault:
            raise RowError(f"row {int(encoded.bad_N.argmax())}, {encoded.fault}")
        ids_NF = torch.from_numpy(encoded.ids_NF)
        if not len(ids_NF):
            return np.empty(0)
        with torch.inference_mode():
            scores = [
                self._model(ids_BF.to(self._device)).double().sigmoid().cpu()
                for ids_BF in torch.split(ids_NF, _BATCH_ROWS)
            ]
        probabilities: npt.NDArray[np.float64] = torch.cat(scores).numpy()
        return probabilities
