import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring.metrics import forget_the_dead


def test_gauges_of_workers_that_were_killed_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os; from monitoring.metrics import IN_PROGRESS; IN_PROGRESS.labels('a').inc(); os._exit(9)"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    mine = tmp_path / f"gauge_livesum_{os.getpid()}.db"
    mine.touch()
    assert len(list(tmp_path.glob("gauge_livesum_*.db"))) == 2
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    forget_the_dead()
    assert list(tmp_path.glob("gauge_livesum_*.db")) == [mine]
