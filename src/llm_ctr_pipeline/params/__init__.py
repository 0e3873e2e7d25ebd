"""Parameters of the pipelines that belong to the application, as frozen, validated models.

Those of the models, of training and of logs stand in the library. Kedro hands a node one of these
where its argument is annotated so, and rejects a bad value or an unknown key before any node runs.
"""

from llm_ctr_pipeline.params.evaluation import FEWEST_COMPARED, CompareParams, EvaluationParams
from llm_ctr_pipeline.params.logs import DownloadParams, PreprocessParams, RawParams

__all__ = [
    "FEWEST_COMPARED",
    "CompareParams",
    "DownloadParams",
    "EvaluationParams",
    "PreprocessParams",
    "RawParams",
]
