"""The locale: a manifest's names are UTF-8 on the disk, whatever the terminal shows."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

_IO_ENCODING = "PYTHONIOENCODING"


def use_utf8_names() -> None:
    """Start this program again in Python's UTF-8 mode if the locale gives names of files another encoding.

    In a Latin-1 locale one name would be other bytes than elsewhere, and most could not be written. What is
    printed stays in the encoding of the locale.
    """
    if sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    environment = dict(os.environ)
    if sys.stdout is not None:
        environment.setdefault(_IO_ENCODING, f"{sys.stdout.encoding}:backslashreplace")
    # Where it cannot be started again, names beyond the locale are errors with a line of their own.
    with suppress(OSError):
        again = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, again, environment)  # noqa: S606
