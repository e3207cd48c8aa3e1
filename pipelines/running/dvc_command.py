"""How our commands call DVC: with the Python they run in themselves, active or not, without telemetry."""

import os
import sys
from pathlib import Path


def dvc_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def dvc_environment() -> dict[str, str]:
    """Environment of such a call: the stages' `python` is ours."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": path}
