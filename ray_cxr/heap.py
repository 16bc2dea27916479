"""How memory is treated that a training step, or a read, gives back."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""`mallopt`'s names for them, of malloc.h."""
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""More is refused by glibc (DEFAULT_MMAP_THRESHOLD_MAX)."""


def keep_freed_memory() -> bool:
    """Lets this process keep what it frees, up to 2 GiB at a time, for its next step; whether the allocator has such settings.

    By default glibc takes each large tensor, and what is read of a shard, from the system and gives it back, in every step, and every
    page of it is zeroed and mapped anew at its first touch: half of the time of a read. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (
        (_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD),
        (_TRIM_THRESHOLD, 2**31 - 1),
        (_TOP_PAD, 64 * 2**20),
    )
    return all(mallopt(name, value) == 1 for name, value in settings)
