"""Parameters of the pipelines as frozen, validated models: one per `params:` group.

Those of the models are the library's own, in `models.settings`.

Kedro hands a node one of these where its argument is annotated so, and rejects a bad
value or an unknown key before any node runs.
"""

from llm_ctr_pipeline.params.evaluation import FEWEST_COMPARED, CompareParams, EvaluationParams
from llm_ctr_pipeline.params.logs import DownloadParams, PreprocessParams, RawParams
from llm_ctr_pipeline.params.training import (
    DeepFmStagesParams,
    StageParams,
    StagesParams,
    TrainingParams,
    TwoPhaseStagesParams,
)

__all__ = [
    "FEWEST_COMPARED",
    "CompareParams",
    "DeepFmStagesParams",
    "DownloadParams",
    "EvaluationParams",
    "PreprocessParams",
    "RawParams",
    "StageParams",
    "StagesParams",
    "TrainingParams",
    "TwoPhaseStagesParams",
]
