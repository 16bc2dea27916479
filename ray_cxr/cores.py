"""How many cores this process may use, which is not how many the machine has: batch systems and containers give a part."""

from __future__ import annotations


def usable_cores() -> int:
    """Cores by affinity mask (Slurm, taskset) and container limit (Kubernetes, Docker); `LOKY_MAX_CPU_COUNT` caps them."""
    # What scikit-learn counts with. Imported late, since commands that only talk need none.
    from joblib import cpu_count

    return int(cpu_count())
