"""Parameters of the pipelines as frozen, validated models: one per `params:` group.

Kedro hands a node one of these where its argument is annotated so, and rejects a bad
value or an unknown key before any node runs.
"""

from llm_ctr_pipeline.params.evaluation import PATHS, CompareParams, EvaluationParams
from llm_ctr_pipeline.params.logs import (
    DownloadParams,
    GeneratedLogParams,
    PreprocessParams,
    RecodingsParams,
)
from llm_ctr_pipeline.params.models import ArchitectureParams, DeepFmParams, LlmParams, ModelParams

__all__ = [
    "PATHS",
    "ArchitectureParams",
    "CompareParams",
    "DeepFmParams",
    "DownloadParams",
    "EvaluationParams",
    "GeneratedLogParams",
    "LlmParams",
    "ModelParams",
    "PreprocessParams",
    "RecodingsParams",
]
