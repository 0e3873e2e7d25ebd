"""The register pipeline: a trained model gets a name in MLflow's registry."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.register.nodes import register


def create_pipeline() -> Pipeline:
    """Return the pipeline that registers the checkpoint which parameters name."""
    return Pipeline(
        [Node(register, ["registered_model", "params:register"], None, name="register")]
    )
