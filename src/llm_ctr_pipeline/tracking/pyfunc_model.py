"""What MLflow runs to serve a logged checkpoint: this file is logged as the model's code."""

from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from llm_ctr_pipeline.serving.cells import RowError
from llm_ctr_pipeline.serving.scorer import Scorer


class ScoringModel(PythonModel):
    """Scores raw rows, as `Scorer` does."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the checkpoint that was logged beside this file."""
        self._scorer = Scorer.load(context.artifacts["checkpoint"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Score rows in their order.

        Raises:
            MlflowException: A row cannot be scored; a server answers with status 400.
        """
        try:
            return self._scorer.predict(model_input)
        except RowError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


mlflow.models.set_model(ScoringModel())
