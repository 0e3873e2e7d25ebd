"""A stand-in for the Hugging Face hub, an archive that it serves, and what fetches it."""

import hashlib
import http.server
import io
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from llm_ctr_pipeline.data.errors import StorageError
from llm_ctr_pipeline.data.hub.archive import Archive, DownloadError
from llm_ctr_pipeline.data.hub.download import STORE_NAME, provide_raw_files

COMMIT = "1234567890abcdef1234567890abcdef12345678"


@dataclass
class Hub:
    """What the stand-in serves, how it misbehaves and what was asked of it.

    Attributes:
        repo_id: The one dataset repository.
        file: The one file in it.
        content: The file's bytes.
        drop_after: Where transfers of the whole file are cut off, in bytes of the file.
        refuse: How many requests of the file's bytes are cut off at once, after a drop.
        requests: Method, path and `Range` of every request.
    """

    repo_id: str
    file: str
    content: bytes
    drop_after: int | None = None
    refuse: int = 0
    endpoint: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def ranges(self) -> list[int]:
        """Where the transfers of bytes began, in the order asked."""
        found = [re.match(r"bytes=(\d+)-", range_ or "bytes=0-") for _, _, range_ in self.gets()]
        return [int(match[1]) for match in found if match]

    def gets(self) -> list[tuple[str, str, str | None]]:
        """The requests of bytes."""
        return [request for request in self.requests if request[0] == "GET"]


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._note()
        if self._known():
            self._send_headers(200, len(self.hub.content))

    def do_GET(self) -> None:
        self._note()
        if not self._known():
            return
        hub = self.hub
        range_ = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(range_[1]) if range_ else 0
        end = len(hub.content)
        if hub.drop_after is not None and start < hub.drop_after:
            end, hub.drop_after = hub.drop_after, None
        elif hub.refuse and hub.drop_after is None:
            hub.refuse -= 1
            self.close_connection = True
            return
        self._send_headers(206 if range_ else 200, len(hub.content) - start, start)
        self.wfile.write(hub.content[start:end])
        self.close_connection = end < len(hub.content)

    def _note(self) -> None:
        self.hub.requests.append((self.command, self.path, self.headers.get("Range")))

    def _known(self) -> bool:
        if self.path == f"/datasets/{self.hub.repo_id}/resolve/main/{self.hub.file}":
            return True
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _send_headers(self, status: int, length: int, start: int = 0) -> None:
        size = len(self.hub.content)
        sha256 = hashlib.sha256(self.hub.content).hexdigest()
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"of-the-pointer"')
        self.send_header("X-Linked-ETag", f'"{sha256}"')
        self.send_header("X-Linked-Size", str(size))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(length))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve until the block ends; `hub.endpoint` is the address."""
    handler = type("Handler", (_Handler,), {"hub": hub, "protocol_version": "HTTP/1.1"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- what it serves -----------------------------------------------------------------------------

RAW = {
    # Random digits hardly compress, so that the zip is larger than its table of contents.
    "train.csv": np.random.default_rng(0).bytes(300_000).hex().encode(),
    "valid.csv": b"id,click\n1,0\n",
    "test.csv": b"id,click\n2,1\n",
}
ARCHIVE = Archive(
    repo_id="reczoo/Avazu_x4",
    file="Avazu_x4.zip",
    folder="avazu_x4",
    md5={name: hashlib.md5(content).hexdigest() for name, content in RAW.items()},  # noqa: S324
)


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zip_file:
        for name, content in files.items():
            zip_file.writestr(name, content)
    return buffer.getvalue()


WHOLE = make_zip(RAW)

# --- what fetches it ------------------------------------------------------------------------------


def fetch(hub: Hub, folder: Path, archive: Archive = ARCHIVE) -> None:
    assert provide_raw_files(archive, folder.parent, hub.endpoint) == folder


def raw_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RAW}


def fetched(folder: Path) -> list[Path]:
    """What there is of zips, whole or not."""
    return [*folder.parent.rglob("*.zip*"), *folder.parent.rglob("*.incomplete")]


def refused(hub: Hub, folder: Path) -> str:
    """Return the message of what must fail, and see that nothing half-done is taken for whole."""
    with pytest.raises((DownloadError, StorageError)) as error:
        fetch(hub, folder)
    assert not folder.exists()
    left = {path.name for path in folder.parent.glob("*")}
    assert left <= {STORE_NAME, ARCHIVE.file}
    assert "\n" not in str(error.value)
    return str(error.value)
