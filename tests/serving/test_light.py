"""What the service does not load."""

import subprocess
import sys

from tests.conftest import ROOT

MODULES = sorted(
    f"serving.{path.stem}"
    for path in (ROOT / "serving").glob("*.py")
    if path.stem not in ("service", "client")  # the one needs a bento around it, the other is a client's
)


def test_no_part_of_the_service_imports_what_only_training_needs() -> None:
    heavy = ("torch", "mlflow", "sklearn", "pyarrow", "pandas", "matplotlib", "music21", "pytorch_lightning")
    told = f"import sys, {', '.join(MODULES)}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
