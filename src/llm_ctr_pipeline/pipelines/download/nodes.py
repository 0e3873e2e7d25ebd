"""What the download pipeline does."""

from pathlib import Path

from llm_ctr_pipeline.data.hub.download import provide_raw_files
from llm_ctr_pipeline.params import DownloadParams


def download_raw_logs(raw_data_folder: Path, download: DownloadParams) -> dict[str, str]:
    """Fetch and unpack the archives asked for; return the folder of each."""
    return {
        name: str(provide_raw_files(download.archives[name], raw_data_folder, download.endpoint))
        for name in download.names
    }
