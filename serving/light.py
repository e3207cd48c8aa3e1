"""What keeps a worker small.

It has no torch, also where it is installed: imported before everything else, this keeps it out. miditok
imports torch, if it can, for data loaders that nothing here uses: 180 MB and a second of each worker.
"""

import ctypes
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoTorch(MetaPathFinder):
    """Finds no torch, so that who asks goes on without."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torch":
            raise ModuleNotFoundError("the service runs without torch (serving/light.py)", name=fullname)
        return None


sys.meta_path.insert(0, _NoTorch())


def give_back() -> None:
    """Give memory that is free back to the system: the C library of most Linux keeps it, and a worker would
    stay as large as its largest moment."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
