"""A CSV file's bytes, read once, in blocks that begin and end with a row."""

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from llm_ctr_pipeline.data.log.schema import QUOTE
from llm_ctr_pipeline.data.raw.csv_text import LONGEST_ROW, CsvFile, records
from llm_ctr_pipeline.progress import bytes_bar

_BLOCK_BYTES = 1 << 23
_QUOTE = QUOTE.encode()
Bytes = bytes | bytearray


class CsvBlocks:
    """The bytes of a CSV file that are seen to be UTF-8, its quotes in pairs.

    Attributes:
        csv: The file, its first line checked.
        has_quotes: Whether a quote was seen so far: a cell may then hold a line break.
    """

    def __init__(self, csv: CsvFile) -> None:
        self.csv = csv
        self.has_quotes = False
        self._digest = hashlib.sha256()
        cell_begins = rb"(?:\A|(?<=[\r\n" + re.escape(csv.schema.delimiter.encode()) + rb"]))"
        cell_ends = rb"(?=[\r\n" + re.escape(csv.schema.delimiter.encode()) + rb"]|\Z)"
        quoted = _QUOTE + rb'[^"]*(?:""[^"]*)*' + _QUOTE
        # Quoted cells, and as the only group a quote at the beginning of a cell that is none.
        self._cells = re.compile(
            cell_begins + rb"(?:" + quoted + cell_ends + rb"|(" + _QUOTE + rb"))"
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what was read so far."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Bytes]:
        """Read the file.

        Yields:
            Blocks of some 8 MiB: whole rows, the header among those of the first.

        Raises:
            RawLogError: If there is a fault; the message names the line.
        """
        with (
            self.csv.path.open("rb") as file,
            ThreadPoolExecutor(max_workers=1) as hashing,
            bytes_bar() as progress,
        ):
            size = self.csv.path.stat().st_size
            task = progress.add_task(f"reading {self.csv.path.name}", total=size)
            rest, hashed = b"", hashing.submit(self._digest.update, b"")
            while block := self._read(file):
                progress.advance(task, len(block))
                if rest:
                    block[:0] = rest
                end = self._end_of_rows(block)
                rest = bytes(block[end:])
                del block[end:]
                if len(rest) > LONGEST_ROW:
                    self._raise_if_faulty()
                hashed.result()  # one block ahead, not the whole file
                hashed = hashing.submit(self._digest.update, block)
                if block:
                    yield self._checked(block)
            hashed.result()
            self._digest.update(rest)
            if rest:
                if any(cell[1] for cell in self._cells.finditer(rest)):  # a quote is not closed
                    self._raise_if_faulty()
                yield self._checked(rest)

    @staticmethod
    def _read(file: IO[bytes]) -> bytearray:
        """Read some bytes to the end of a line; read once, they are copied nowhere."""
        block = bytearray(_BLOCK_BYTES)
        del block[file.readinto(block) :]  # type: ignore[attr-defined]
        block += file.readline(LONGEST_ROW)
        return block

    def _end_of_rows(self, content: Bytes) -> int:
        """Where the last row ends that ends within some bytes; 0 if none does."""
        end = content.rfind(b"\n") + 1
        if _QUOTE not in content:
            return end
        self.has_quotes = True
        closed = []
        for cell in self._cells.finditer(content, 0, end):
            if cell[1]:
                end = content.rfind(b"\n", 0, cell.start()) + 1
                break
            closed.append(cell.span())
        # A line break within a cell ends no row.
        for first, last in reversed(closed):
            if first < end <= last:
                end = content.rfind(b"\n", 0, first) + 1
        return end

    def _checked(self, block: Bytes) -> Bytes:
        """See that a block is UTF-8, and that none of its rows is too long."""
        if not block.isascii():
            try:
                block.decode()
            except UnicodeDecodeError:
                self._raise_if_faulty()
                raise
        half = LONGEST_ROW // 2
        if any(block.find(b"\n", at, at + half) < 0 for at in range(0, len(block) - half, half)):
            self._raise_if_faulty()
        return block

    def _raise_if_faulty(self) -> None:
        """Raise for the first row that is no UTF-8, no CSV or too long, and name its line."""
        for _ in records(self.csv.path, self.csv.schema):
            pass
