"""What the numbers of a training depend on beside code, data and params: the processor's arithmetic, threads,
libraries."""

import logging
import os
import platform
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "numpy", "onnxruntime", "scikit-learn")


def fix_threads(threads: int) -> None:
    """The same threads for every library, loaded or not yet: sums are taken in the order of the threads."""
    from threadpoolctl import threadpool_limits

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["MKL_DYNAMIC"] = os.environ["OMP_DYNAMIC"] = "FALSE"
    threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def be_quiet() -> None:
    """Nothing of what libraries say to their developers, or advertise: what a user can act on is an error."""
    shown = warnings.showwarning

    def show(message: Any, category: Any, filename: str, *more: Any) -> None:
        if "site-packages" not in filename:  # libraries change the filters, but not this
            shown(message, category, filename, *more)

    warnings.showwarning = show  # type: ignore[assignment]
    for name in ("pytorch_lightning", "lightning_fabric", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def processor() -> str:
    """Kind of processor as far as it decides rounding: architecture, maker, vector instructions, bfloat16."""
    import torch

    maker = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("vendor_id")),
        platform.machine(),
    )
    kinds = [torch.backends.cpu.get_cpu_capability()]
    kinds += ["AVX512_BF16"] * torch.cpu._is_avx512_bf16_supported() + [
        "AMX"
    ] * torch.cpu._is_amx_tile_supported()
    if torch.cuda.is_available():
        kinds.append(torch.cuda.get_device_name())
    return " ".join([platform.machine(), maker, *kinds])


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def made_on(precision: str, threads: int, processes: int = 1) -> str:
    """Where a training runs, in words: equal ones give equal weights."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"{processor()}; {precision}; {threads} threads; {processes} processes; {libraries}"
