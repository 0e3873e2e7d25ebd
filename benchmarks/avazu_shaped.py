"""A raw log of Avazu's shape and of any size, written fast: what preprocessing is measured on.

python -m benchmarks.avazu_shaped FILE --rows 4000000

The numbers of distinct values per column are the published ones of all of Avazu's 40 million
rows; fewer rows hold fewer of them, as a sample of Avazu does. Nothing can be learnt from it.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import duckdb

HEX, NUMBER = "hex", "number"


@dataclass(frozen=True)
class Column:
    """How the values of a column are drawn: by a rank whose share falls as a power of it.

    Attributes:
        name: The raw column.
        values: How many values there are.
        exponent: A rank k has a share of about (k + shift) to the power of minus this.
        shift: Flattens the first ranks.
        kind: 8-digit hexadecimal codes, or plain numbers.
        null_share: Share of rows with the value of rank 0, besides.
    """

    name: str
    values: int
    exponent: float = 1.1
    shift: float = 1.0
    kind: str = NUMBER
    null_share: float = 0.0


# Exponent and number of values of device_id and device_ip are such that 40.4 million rows hold
# the published 2.69 and 6.73 million distinct ones, and 32.3 million rows about as many that
# come twice as Avazu's training split has.
COLUMNS = (
    Column("C1", 7, 2.5),
    Column("banner_pos", 7, 2.5),
    Column("site_id", 4737, kind=HEX),
    Column("site_domain", 7745, 1.3, kind=HEX),
    Column("site_category", 26, 1.6, kind=HEX),
    Column("app_id", 8552, kind=HEX, null_share=0.63),
    Column("app_domain", 559, 1.6, kind=HEX, null_share=0.6),
    Column("app_category", 36, 1.6, kind=HEX, null_share=0.6),
    Column("device_id", 6_380_000, 0.8, 10.0, kind=HEX, null_share=0.825),
    Column("device_ip", 14_200_000, 1.05, 1000.0, kind=HEX),
    Column("device_model", 8251, 1.05, 6.0, kind=HEX),
    Column("device_type", 5, 3.0),
    Column("device_conn_type", 4, 3.0),
    Column("C14", 2626, 0.9, 8.0),
    Column("C15", 8, 3.0),
    Column("C16", 9, 3.0),
    Column("C17", 435, 0.9, 8.0),
    Column("C18", 4, 0.9),
    Column("C19", 68, 1.1),
    Column("C20", 172, 1.1, 5.0, null_share=0.47),
    Column("C21", 60, 1.1),
)
_HOURS = 240
_CELLS = 64  # numbers of its own that a row is drawn from
_CLICK_RATE = 0.17


def write_log(path: Path, rows: int, seed: int) -> None:
    """Write one split's CSV file; the same rows and seed give the same bytes.

    Args:
        path: The file.
        rows: How many rows.
        seed: Other seeds give other rows of the same log: its values are the same.
    """
    # Every cell is drawn from the hash of a number of its own.
    cells = f"({seed} * 1000000000 + row) * {_CELLS}"
    drawn = ", ".join(
        f"{_value(column, cell)} AS {column.name}" for cell, column in enumerate(COLUMNS)
    )
    query = f"""
        SELECT
            hash(cells + {_CELLS - 1})::VARCHAR AS id,
            ({_uniform(_CELLS - 2)} < {_CLICK_RATE})::TINYINT AS click,
            printf('1410%02d%02d', 21 + hour // 24, hour % 24) AS hour,
            {drawn}
        FROM (SELECT *, floor({_uniform(_CELLS - 3)} * {_HOURS})::INTEGER AS hour
              FROM (SELECT {cells} AS cells FROM range({rows}) AS t(row)))
    """  # noqa: S608
    with duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = true")
        connection.execute(f"COPY ({query}) TO '{path}' (FORMAT csv, HEADER true)")


def _uniform(cell: int) -> str:
    """A number within [0, 1) of a row's cell."""
    return f"((hash(cells + {cell}) >> 11)::DOUBLE / {2.0**53!r})"


def _value(column: Column, cell: int) -> str:
    rank = f"floor({_power_law(column, cell)})::BIGINT"
    if column.null_share:
        is_null = f"{_uniform(_CELLS // 2 + cell)} < {column.null_share}"
        rank = f"CASE WHEN {is_null} THEN 0 ELSE {rank} END"
    if column.kind == NUMBER:
        return f"1000 + {rank}"
    # Times an odd number modulo 2 to the power of 32: every rank has a code of its own.
    return f"printf('%08x', ({rank} * 2654435761 + {cell * 97_003_477}) % 4294967296)"


def _power_law(column: Column, cell: int) -> str:
    """The inverse of the distribution function of the ranks, at a uniform number."""
    power = 1.0 - column.exponent
    low, high = column.shift**power, (column.values + column.shift) ** power
    drawn = f"({low!r} + {_uniform(cell)} * ({high - low!r}))"
    rank = f"pow({drawn}, {1.0 / power!r}) - {column.shift!r}"
    return f"least({column.values - 1}, greatest(0, {rank}))"


def main() -> None:
    """Write a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_log(arguments.file, arguments.rows, arguments.seed)


if __name__ == "__main__":
    main()
