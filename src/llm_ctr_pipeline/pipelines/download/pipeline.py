"""The download pipeline: Hugging Face hub → raw logs."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.download.nodes import download_raw_logs


def create_pipeline() -> Pipeline:
    """Return the pipeline that fetches raw logs."""
    return Pipeline(
        [
            Node(
                func=download_raw_logs,
                inputs=["raw_data_folder", "params:download"],
                outputs="downloaded_folders",
                name="download_raw_logs",
            ),
        ]
    )
