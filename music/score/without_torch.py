"""miditok imports torch, if it can, for data loaders that nothing here uses: 180 MB and more than a second of
every command and of each worker of the service."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoTorch(MetaPathFinder):
    """Finds no torch, so that who asks goes on without."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torch":
            raise ModuleNotFoundError("hidden while miditok is imported", name=fullname)
        return None


@contextmanager
def without_torch() -> Iterator[None]:
    """Imports in this block find no torch, unless it is imported already."""
    hidden = _NoTorch()
    sys.meta_path.insert(0, hidden)
    try:
        yield
    finally:
        sys.meta_path.remove(hidden)
