"""Where data lie: on this machine, or on a store such as HDFS or S3, used as pathlib has it.

A store is reached through fsspec. The text of a path on one is the address that Spark reads.
"""

import fnmatch
import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem, get_filesystem_class
from fsspec.core import url_to_fs

from llm_ctr_pipeline.data.errors import StoreError

# Hadoop's convention: a folder is whole once it holds this file, which is written last.
SUCCESS = "_SUCCESS"

_MARK = "://"
_LOCAL = ("file", "local")


@dataclass(frozen=True)
class StoreStat:
    """What `os.stat` calls the same: bytes, and when a file was changed last."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True)
class StorePath:
    """A file or folder on a store.

    Attributes:
        address: Such as `hdfs://HOST:PORT/FOLDER` or `s3a://BUCKET/FOLDER`, no slash at its end.
    """

    address: str

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> "StorePath":
        return StorePath(f"{self.address}/{name}")

    @property
    def name(self) -> str:
        """Its last part."""
        return self.address.rpartition("/")[2]

    @property
    def parent(self) -> "StorePath":
        """The folder that it lies in."""
        return StorePath(self.address.rpartition("/")[0])

    @property
    def parents(self) -> Iterator["StorePath"]:
        """The folders above it, the nearest first, without the store itself."""
        above = self.parent
        while above.address.count("/") > _MARK.count("/"):
            yield above
            above = above.parent

    @cached_property
    def located(self) -> tuple[AbstractFileSystem, str]:
        """The store's driver, with what it remembers, and what it calls the path."""
        fs, inner = url_to_fs(self.address)
        return fs, str(inner)

    @property
    def fs(self) -> AbstractFileSystem:
        """The store's driver, which is made to look again at what lies here.

        Drivers remember what they saw, and Spark writes behind their backs.
        """
        fs, inner = self.located
        fs.invalidate_cache(inner)
        return fs

    @property
    def inner(self) -> str:
        """What its driver calls it."""
        return self.located[1]

    def exists(self) -> bool:
        """Whether there is a file, or a folder with something in it."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """Whether there is a file."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether there is a folder."""
        return self._kind() == "directory"

    def stat(self) -> StoreStat:
        """Its size and the time of its last change."""
        size = int(self.fs.info(self.inner)["size"])
        # To the microsecond, which a float still holds.
        changed = round(self.fs.modified(self.inner).timestamp() * 1e6) * 1000
        return StoreStat(size, changed)

    def mkdir(self) -> None:
        """Do nothing: on a store a folder comes with the files in it."""

    def iterdir(self) -> Iterator["StorePath"]:
        """What lies in the folder, by name."""
        found = {str(inner).rstrip("/") for inner in self.fs.ls(self.inner, detail=False)}
        # Object stores may keep a folder as an empty file, of its name with a slash.
        inside = found - {self.inner.rstrip("/")}
        return (self / name for name in sorted(inner.rpartition("/")[2] for inner in inside))

    def glob(self, pattern: str) -> list["StorePath"]:
        """What lies in the folder under a name of this pattern."""
        return [found for found in self.iterdir() if fnmatch.fnmatchcase(found.name, pattern)]

    def open(self, mode: str = "r", **text: Any) -> IO[Any]:
        """Open the file; `text` is what `open` takes for text."""
        file: IO[Any] = self.fs.open(self.inner, mode, **text)
        if mode == "rb":
            # Drivers' files lack part of what Python's have, such as a limit to a line.
            return BufferedReader(file)  # type: ignore[type-var]
        return file

    def read_text(self, encoding: str) -> str:
        """Read the file."""
        with self.open("r", encoding=encoding) as file:
            return str(file.read())

    def write_text(self, content: str, encoding: str) -> None:
        """Write the file."""
        with self.open("w", encoding=encoding) as file:
            file.write(content)

    def _kind(self) -> str | None:
        try:
            return str(self.fs.info(self.inner)["type"])
        except FileNotFoundError:
            return None


AnyPath = Path | StorePath


def parse_path(address: str) -> AnyPath:
    """Read a path or an address.

    Args:
        address: A path, `file://PATH`, or an address on a store.

    Raises:
        StoreError: If there is no driver for such addresses.
    """
    scheme, mark, path = address.partition(_MARK)
    if not mark or scheme in _LOCAL:
        return Path(path if mark else address)
    try:
        get_filesystem_class(scheme)
    except ImportError as error:
        raise StoreError(f"{address} cannot be reached without its driver: {error}") from error
    except ValueError as error:
        raise StoreError(
            f"{address} cannot be reached: fsspec, which opens such addresses, knows no {scheme!r}"
        ) from error
    return StorePath(address.rstrip("/"))


def parts_of(path: AnyPath) -> list[AnyPath]:
    """The Parquet files of a table in their order: it may be a folder of them, as with Spark."""
    return sorted(path.glob("*.parquet"), key=str) if path.is_dir() else [path]


def digest_of_files(files: Iterable[AnyPath]) -> str:
    """SHA-256 of the bytes of files, one after another, in hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def is_whole(path: AnyPath) -> bool:
    """Whether a file or folder is there, and all of it."""
    if isinstance(path, Path):
        return path.exists()
    return path.is_file() or (path / SUCCESS).is_file()


def changed_at(path: AnyPath) -> int:
    """When what `is_whole` became so, in nanoseconds; of a folder on a store, its last file."""
    if isinstance(path, StorePath) and not path.is_file():
        path = path / SUCCESS
    return path.stat().st_mtime_ns


def remove(path: AnyPath) -> None:
    """Remove a folder or a file on a store, or a folder on this machine, if it is there."""
    if isinstance(path, Path):
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        path.fs.rm(path.inner, recursive=True)


def parquet_file(path: AnyPath, **options: Any) -> pq.ParquetFile:
    """Open a Parquet file, of which only what is asked for is read; see `pyarrow.parquet`."""
    if isinstance(path, Path):
        return pq.ParquetFile(path, **options)
    fs, inner = path.located  # or each part would be asked for twice, after its folder was listed
    return pq.ParquetFile(inner, filesystem=fs, **options)


def parquet_writer(path: AnyPath, schema: pa.Schema, **options: Any) -> pq.ParquetWriter:
    """Begin a Parquet file; see `pyarrow.parquet`."""
    if isinstance(path, Path):
        return pq.ParquetWriter(path, schema, **options)
    return pq.ParquetWriter(path.inner, schema, filesystem=path.fs, **options)


def parquet_table(path: AnyPath, columns: Sequence[str]) -> pa.Table:
    """Read some columns of a Parquet file, or of a folder of them, into memory."""
    pieces = []
    for part in parts_of(path):
        with parquet_file(part) as file:
            pieces.append(file.read(columns=[*columns]))
    return pa.concat_tables(pieces)
