"""The download pipeline: Hugging Face hub → raw logs."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.download.nodes import download_raw_logs


def create_pipeline() -> Pipeline:
    """Return the pipeline that fetches raw logs."""
    download = Node(
        download_raw_logs,
        ["raw_data_folder", "params:download"],
        "downloaded_folders",
        name="download_raw_logs",
    )
    return Pipeline([download])
