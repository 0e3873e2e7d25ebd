"""The export pipeline: checkpoint → the same model for another tool."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.export.nodes import export


def create_pipeline() -> Pipeline:
    """Return the pipeline that writes the checkpoint which parameters name in another format."""
    return Pipeline(
        [
            Node(
                export,
                ["model_to_export", "params:export", "params:llm"],
                "exported_model",
                name="export",
            )
        ]
    )
