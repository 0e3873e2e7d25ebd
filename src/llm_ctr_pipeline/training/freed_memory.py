"""Memory of large tensors on the CPU, see docs/decisions/0021."""

import ctypes

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Keep freed memory in this process for the next tensor of the size, from now on.

    By default glibc gives every large block back to the system when it is freed. A training step
    frees and takes the same blocks again and again, and the system hands each one out page by
    page, filled with zeros, through a fault for every 4 KB.

    Returns:
        Whether the C library took it; one other than glibc has its own ways and is left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
