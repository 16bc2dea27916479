"""The console script, also `python -m ray_cxr`, which a debugger can start: `python -m pdb -m ray_cxr train JOB train.workers=0`."""

from __future__ import annotations

import json
import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Runs the command line. Ctrl-C ends with one sentence, also while the libraries are still being imported."""
    later = signal.signal(signal.SIGINT, _interrupted)
    from ray_cxr.cli.main import main as command_line

    signal.signal(signal.SIGINT, later)
    command_line()


def _interrupted(number: int, frame: FrameType | None) -> None:
    """An import that is cut may raise anything, so the process ends here; nothing has been begun."""
    message = "interrupted before anything was begun"
    os.write(2, f"ray-cxr: {message}\n".encode())
    if "--json" in sys.argv:
        os.write(1, (json.dumps({"error": message, "exit_code": 1}) + "\n").encode())
    os._exit(1)


if __name__ == "__main__":
    main()
