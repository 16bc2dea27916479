"""Errors that a person can act on, each with the exit code that the command line ends with, and words for messages.

All of them pickle with their fields, because they cross process borders (Ray tasks, training workers).
"""

from __future__ import annotations


class RayCxrError(Exception):
    """Anything that went wrong and is worth one sentence (exit code 1)."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[type[RayCxrError], tuple[str]]:
        return (type(self), (self.message,))


class InputError(RayCxrError):
    """Bad input or settings: the user can mend it (exit code 2)."""

    exit_code = 2


class RefusedError(RayCxrError):
    """Refused for safety: a patient leak, another protocol, an unknown checkpoint (exit code 3)."""

    exit_code = 3


def reason_of(error: Exception) -> str:
    """Why, in a few words for a message: what the system says without its number, or the error's first line."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not {error.encoding.upper()} text"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


def count_text(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, given in the singular: "1 film", "1,200 films"; plural: where an s does not make it."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
