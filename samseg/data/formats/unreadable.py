"""What a file is that is no image that could be read, told by its first bytes."""

import re
from pathlib import Path

OTHERS = {rb"RIFF....WEBP": "WebP", rb"BM": "BMP", rb"GIF8": "GIF", rb"%PDF": "PDF", rb"....ftyp": "HEIF or video"} | {
    rb"\0\0\0\x0cjP": "JPEG 2000",
    rb"\x89HDF": "HDF5",
}


def what_it_is(path: str | Path) -> str:
    """What is wrong with a file that is none of the formats read here."""
    with open(path, "rb") as file:
        start = file.read(512)
    found = next((name for magic, name in OTHERS.items() if re.match(magic, start, re.DOTALL)), None)
    if not start:
        return "is empty; replace the file"
    if found is not None:
        return f"is a {found} file; PNG, TIFF and JPEG images are read: convert it"
    if not start.strip(b"\0"):
        return "begins with zeros, as files do that were cut off while they were copied; replace the file"
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        return "is damaged; replace the file"
    if all(byte > 31 or byte in b"\t\r\n" for byte in start):
        return "holds text, not an image; replace the file"
    return "is no PNG, TIFF or JPEG image; replace the file"
