"""What a preparation needs of whoever shows its progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Where progress goes: a terminal bar, plain lines, or nowhere."""

    def start(self, what: str, total: int) -> None: ...
    def advance(self, count: int) -> None: ...
    def say(self, line: str) -> None: ...
