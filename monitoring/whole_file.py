"""Files that are whole or not there, whoever reads them meanwhile and whenever a process is killed."""

import os
import threading
from pathlib import Path


def write_whole(path: Path, data: str | bytes, mode: int = 0o640) -> None:
    """Put `data` in the place of what a file held; on disk when this returns. Raises OSError with the file as
    it was."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as handle:
            handle.write(data.encode() if isinstance(data, str) else data)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
