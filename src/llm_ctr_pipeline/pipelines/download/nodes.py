"""What the download pipeline does."""

from pathlib import Path

from llm_ctr_pipeline.data.hub.archive import Archive
from llm_ctr_pipeline.data.hub.download import provide_raw_files
from llm_ctr_pipeline.params import DownloadParams


def download_raw_logs(raw_data_folder: Path, download: DownloadParams) -> dict[str, str]:
    """Fetch and unpack the archives asked for; return the folder of each."""
    folders = {}
    for name in download.names:
        chosen = download.archives[name]
        folder = raw_data_folder / chosen.folder
        archive = Archive(chosen.repo_id, chosen.file, chosen.md5)
        provide_raw_files(archive, folder, download.endpoint)
        folders[name] = str(folder)
    return folders
