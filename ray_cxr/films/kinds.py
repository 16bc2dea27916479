"""Names a file that is no film by what its first bytes say, so that a refusal tells what is there instead.

Reads: bytes. Gives: a name for people. The signatures are those of the formats' own standards.
"""

from __future__ import annotations

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_SIGNATURES = {
    b"GIF87a": "a GIF image",
    b"GIF89a": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
}
_DICOM_PREAMBLE = 128
_LOOKED_AT = 512


def kind_of(data: bytes) -> str:
    """What a file that is neither PNG nor JPEG seems to be: "a GIF image", "an HTML page", "unknown bytes"."""
    if data[_DICOM_PREAMBLE : _DICOM_PREAMBLE + 4] == b"DICM":
        return "a DICOM file"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a WebP image"
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    return _text_kind(data[:_LOOKED_AT])


def _text_kind(start: bytes) -> str:
    if b"\0" in start:
        return "unknown bytes"
    try:
        text = start.decode().lstrip("\ufeff \t\r\n").lower()
    except UnicodeDecodeError as error:
        # A character may be cut by the end of what is looked at; anything earlier is no text.
        if error.start < len(start) - 3:
            return "unknown bytes"
        text = start[: error.start].decode().lstrip("\ufeff \t\r\n").lower()
    return "an HTML page" if text.startswith(("<!doctype html", "<html", "<head", "<body")) else "text"
