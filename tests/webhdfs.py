"""A stand-in of HDFS: its REST interface over a folder, as far as Spark and fsspec use it.

A real name node answers metadata itself and sends who reads or writes on to a data node, which
is here the same server; a rename goes into a folder that is there, and onto no file that is.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PREFIX = "/webhdfs/v1"
DATA_NODE = "datanode"


@contextmanager
def served(root: Path) -> Iterator[str]:
    """Serve a folder on this machine alone; give the address of its root."""

    class Handler(_Handler):
        folder = root

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"webhdfs://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits for the client's acknowledgement
    folder: Path

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("get")

    def do_PUT(self) -> None:
        self._answer("put")

    def do_POST(self) -> None:
        self._answer("post")

    def do_DELETE(self) -> None:
        self._answer("delete")

    def _answer(self, method: str) -> None:
        url = urlsplit(self.path)
        self.query = {name.lower(): values[0] for name, values in parse_qs(url.query).items()}
        self.name = unquote(url.path).removeprefix(PREFIX).strip("/")
        self.place = self.folder / self.name
        body = self._body()
        operation = getattr(self, f"_{method}_{self.query['op'].lower()}", None)
        if operation is None:
            self._refuse("UnsupportedOperationException", HTTPStatus.BAD_REQUEST)
            return
        try:
            operation(body)
        except FileNotFoundError:
            self._refuse("FileNotFoundException", HTTPStatus.NOT_FOUND)
        except NotADirectoryError:
            self._refuse("ParentNotDirectoryException", HTTPStatus.FORBIDDEN)
        except FileExistsError:
            self._refuse("FileAlreadyExistsException", HTTPStatus.FORBIDDEN)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, content: bytes, status: HTTPStatus, location: str | None = None) -> None:
        self.send_response(status)
        if location is not None:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_json(self, content: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        # Without its type: Hadoop's client in Spark lacks the class that would parse it.
        self._send(json.dumps(content).encode(), status)

    def _refuse(self, exception: str, status: HTTPStatus) -> None:
        fault = {"exception": exception, "message": f"/{self.name}: {self.query['op']}"}
        java = "java.io" if exception == "FileNotFoundException" else "org.apache.hadoop.fs"
        fault["javaClassName"] = f"{java}.{exception}"
        self._send_json({"RemoteException": fault}, status)

    def _is_sent_on(self) -> bool:
        """Send the client on to a data node, unless this is one."""
        if DATA_NODE in self.query:
            return False
        host, port = self.server.server_address[:2]
        location = f"http://{host!s}:{port}{self.path}&{DATA_NODE}=true"
        self._send(b"", HTTPStatus.TEMPORARY_REDIRECT, location)
        return True

    def _get_getfilestatus(self, _: bytes) -> None:
        self._send_json({"FileStatus": _status(self.place, "")})

    def _get_liststatus(self, _: bytes) -> None:
        if self.place.is_dir():
            found = [_status(path, path.name) for path in sorted(self.place.iterdir())]
        else:
            found = [_status(self.place, "")]
        self._send_json({"FileStatuses": {"FileStatus": found}})

    def _get_getfileblocklocations(self, _: bytes) -> None:
        block = {
            "cachedHosts": [],
            "corrupt": False,
            "hosts": ["127.0.0.1"],
            "length": self.place.stat().st_size,
            "names": ["127.0.0.1:0"],
            "offset": 0,
            "storageTypes": ["DISK"],
            "topologyPaths": ["/rack/127.0.0.1"],
        }
        self._send_json({"BlockLocations": {"BlockLocation": [block]}})

    def _get_open(self, _: bytes) -> None:
        if not self.place.is_file():
            raise FileNotFoundError(self.place)
        if self._is_sent_on():
            return
        with self.place.open("rb") as file:
            file.seek(int(self.query.get("offset", 0)))
            content = file.read(int(self.query.get("length", -1)))
        self._send(content, HTTPStatus.OK)

    def _put_mkdirs(self, _: bytes) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        self._send_json({"boolean": True})

    def _put_create(self, body: bytes) -> None:
        if self.place.exists() and self.query.get("overwrite") != "true":
            raise FileExistsError(self.place)
        if self._is_sent_on():
            return
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self.place.write_bytes(body)
        self._send(b"", HTTPStatus.CREATED)

    def _post_append(self, body: bytes) -> None:
        if self._is_sent_on():
            return
        with self.place.open("ab") as file:
            file.write(body)
        self._send(b"", HTTPStatus.OK)

    def _put_rename(self, _: bytes) -> None:
        target = self.folder / self.query["destination"].strip("/")
        target = target / self.place.name if target.is_dir() else target
        can = self.place.exists() and target.parent.is_dir() and not target.exists()
        if can:
            self.place.rename(target)
        self._send_json({"boolean": can})

    def _put_setpermission(self, _: bytes) -> None:
        self._send(b"", HTTPStatus.OK)

    def _delete_delete(self, _: bytes) -> None:
        existed = self.place.exists()
        if self.place.is_dir():
            if any(self.place.iterdir()) and self.query.get("recursive") != "true":
                raise FileExistsError(self.place)
            shutil.rmtree(self.place)
        elif existed:
            self.place.unlink()
        self._send_json({"boolean": existed})


def _status(path: Path, suffix: str) -> dict[str, Any]:
    stat = os.stat(path)
    milliseconds = stat.st_mtime_ns // 1_000_000
    return {
        "accessTime": milliseconds,
        "blockSize": 1 << 27,
        "childrenNum": 0,
        "fileId": stat.st_ino,
        "group": "group",
        "length": stat.st_size if path.is_file() else 0,
        "modificationTime": milliseconds,
        "owner": "owner",
        "pathSuffix": suffix,
        "permission": "644" if path.is_file() else "755",
        "replication": 1 if path.is_file() else 0,
        "storagePolicy": 0,
        "type": "FILE" if path.is_file() else "DIRECTORY",
    }
