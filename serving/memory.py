"""What keeps a worker small."""

import ctypes


def give_back() -> None:
    """Give memory that is free back to the system: the C library of most Linux keeps it, and a worker would
    stay as large as its largest moment."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
