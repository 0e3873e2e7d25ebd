"""Which rows an encoded split holds, told by two sums over them.

The engine that wrote a split computes them for its summary (`split_summary`), and who reads the
rows computes them again: they are the same whatever wrote the rows, in whatever order they lie.
Importable without Ibis.

Shape legend: N rows.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

# A prime below 2^31: products of two remainders fit an int64.
PRIME = 2**31 - 1
_GENERATOR = 48_271  # its powers modulo PRIME do not repeat before PRIME - 1 of them
_BITS = 31

PowerSums = tuple[int, int]


def factor_of(position: int) -> int:
    """What the values of a column are multiplied by: 0 is the row's number, 1 its label."""
    return pow(_GENERATOR, position, PRIME)


def power_sums(columns: Iterable[npt.NDArray[np.integer]]) -> PowerSums:
    """Sum the second and third powers of the rows' hashes, modulo PRIME.

    A row's hash is the sum of its values, each times a number of its column's own. One value that
    differs gives the row another hash, and one row with another hash gives other sums.

    Args:
        columns: Number, label, then the fields in order, each `[N]`, N below 2^32.
    """
    hash_N = np.zeros(1, dtype=np.int64)
    for position, values_N in enumerate(columns):
        product_N = values_N.astype(np.int64) * factor_of(position)
        # The remainder modulo 2^31 - 1 but for a multiple of it: 30 times as fast as dividing.
        hash_N = hash_N + (product_N & PRIME) + (product_N >> _BITS)
    hash_N = hash_N % PRIME
    square_N = hash_N * hash_N % PRIME
    cube_N = square_N * hash_N % PRIME
    return int(square_N.sum()) % PRIME, int(cube_N.sum()) % PRIME


def joined(parts: Iterable[PowerSums]) -> PowerSums:
    """The sums over all rows of several parts."""
    squares = cubes = 0
    for of_squares, of_cubes in parts:
        squares, cubes = squares + of_squares, cubes + of_cubes
    return squares % PRIME, cubes % PRIME


def as_text(sums: PowerSums) -> str:
    """16 hexadecimal digits."""
    return "".join(f"{part:08x}" for part in sums)
