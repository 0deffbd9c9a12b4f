"""Exit codes of commands, and errors as one line."""

import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable

from samseg.common.errors import InputError, Terminated

UNUSABLE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)  # a path that was given, wherever it is read


def run(main: Callable[[], int | None]) -> None:
    """Call ``main`` and exit: 0 when done, its own code if it returns one, 2 for bad input, 130 when interrupted.

    A run that was sent SIGTERM and saved its state ends with 143, as shells name a process that the signal ended.

    Bad input (`InputError`) is one line on stderr and no traceback; anything else is a defect and keeps its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file on Windows takes no name of a class that its code page lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    # What these say of a damaged file is in the error's one line, in words.
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        code = main() or 0
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of what is printed, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141  # as shells name a process that SIGPIPE ended
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except OSError as error:
        if error.filename is None or error.errno not in UNUSABLE:
            raise
        print(f"error: {error.filename} cannot be used: {error.strerror}; name another, or mend that", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except Terminated as reason:
        print(reason, file=sys.stderr)
        code = 143
    sys.exit(code)
