"""The register pipeline: a trained model gets a name in MLflow's registry."""

from llm_ctr_pipeline.pipelines.register.pipeline import create_pipeline

__all__ = ["create_pipeline"]
