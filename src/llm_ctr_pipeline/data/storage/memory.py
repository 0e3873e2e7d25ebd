"""How much main memory there is, and how much of it is free."""

import os
from pathlib import Path, PurePosixPath

# Where Linux says which control group a process is in, and keeps the groups' limits.
GROUPS, GROUP_FOLDER = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def machine_memory() -> int:
    """Bytes of main memory that this process may take at all: the machine's, or its cgroup's."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for line in GROUPS.read_text().splitlines() if GROUPS.exists() else ():
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            root, name = GROUP_FOLDER, "memory.max"
        elif controllers == "memory":
            root, name = GROUP_FOLDER / "memory", "memory.limit_in_bytes"
        else:
            continue
        for group in (PurePosixPath(own), *PurePosixPath(own).parents):
            file = Path(f"{root}{group}", name)
            if file.is_file() and (limit := file.read_text().strip()).isdigit():
                limits.append(int(limit))
    return min(limits)


def free_memory() -> int:
    """Bytes of main memory that this process could still take, as Linux estimates it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return min(int(kibibytes) * 1024, machine_memory())
