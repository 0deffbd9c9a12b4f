"""What sources share that read one file an image."""

import hashlib
from pathlib import Path

from samseg.errors import InputError


def file_digest(file: Path) -> str:
    """The first 32 hexadecimal digits of a file's SHA-256; InputError for a file that cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:32]
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}; replace the file") from error
