"""What DVC is used for: going back, experiments in copies, remotes, metrics, plots."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from models.align.preferences import Preference
from pipelines.running.plots import MARK
from tests.conftest import dvc, environment, run, run_git, set_param

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("twice")]


@pytest.fixture
def top(tiny_line: Path, tmp_path: Path) -> Path:
    target = tmp_path / "top"
    shutil.copytree(tiny_line, target, symlinks=True)
    return target


def compared(top: Path, count: int) -> None:
    """Comparisons of some users, as `ostinato snapshot` would have found them, in data/feedback."""
    import base64
    import subprocess
    import sys

    midi = [
        base64.b64encode(path.read_bytes()).decode() for path in sorted((top / "samples").glob("*.mid"))[:2]
    ]
    rows = [
        Preference(
            f"u{n}",
            f"2026-01-01T00:{n:02d}:00+00:00",
            f"a{n}",
            f"b{n}",
            midi[n % 2],
            midi[1 - n % 2],
            "first",
            "",
            "pair",
        )
        for n in range(count)
    ]
    code = (
        "import json, sys; from pathlib import Path; from models.align.preferences import Preference;"
        "from pipelines.running.preferences import write_preferences; from "
        "pipelines.running.tracked import track;"
        "write_preferences([Preference(**row) for row in json.loads(sys.stdin.read())]);"
        "track(Path('data/feedback/kept'))"
    )
    text = json.dumps([vars(row) for row in rows])
    subprocess.run(
        [sys.executable, "-c", code], cwd=top, env=environment(top), input=text, text=True, check=True
    )


def test_going_back_to_earlier_params_trains_nothing_again(top: Path) -> None:
    for seed in (77, 1):
        set_param(top, "pretrain", seed=seed)
        told = dvc(top, "repro", "--single-item", "pretrain").stdout
        assert ("Running stage" in told) == (seed == 77), told
    assert run_git(top, "diff", "--stat", "dvc.lock") == ""


def test_people_s_votes_are_in_experiments_in_a_copy_and_in_a_remote(top: Path, tmp_path: Path) -> None:
    compared(top, 6)
    assert (top / "data/feedback.kept.dvc").exists()
    assert "data/feedback.kept.dvc" in run_git(top, "status", "--porcelain")
    dvc(top, "exp", "run", "--temp", "--name", "with-votes", "align")
    dvc(top, "exp", "apply", "with-votes")
    report = json.loads((top / "reports/align_report.json").read_text())
    assert report["people"]["comparisons"] + sum(row["rows"] for row in report["quarantined"].values()) == 6
    assert "with-votes" in experiments_of(top)
    dvc(top, "remote", "add", "-d", "store", str(tmp_path / "remote"))
    dvc(top, "push", "data/feedback.kept.dvc")
    shutil.rmtree(top / "data/feedback/kept")
    shutil.rmtree(top / ".dvc/cache")
    dvc(top, "pull", "data/feedback.kept.dvc")
    assert (top / "data/feedback/kept/preferences.parquet").exists()


def experiments_of(top: Path) -> list[str]:
    import subprocess
    import sys

    code = (
        "import json, mlflow; from pipelines.running.tracking import open_experiment; i = "
        "[open_experiment()];print(json.dumps([r.data.tags.get('dvc_exp', '') for r in "
        "mlflow.MlflowClient().search_runs(i)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=top,
        env=environment(top),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_tracking_the_user_s_scores_does_not_read_them_again(top: Path) -> None:
    folder = top / "data/scores/mine"
    folder.mkdir()
    shutil.copyfile(next((top / "samples").glob("*.mid")), folder / "tune.mid")
    dvc(top, "commit", "--force", "ingest")
    run(top, "track", "data/scores/mine")
    assert "ingest" not in dvc(top, "status", "ingest").stdout
    assert not list((top / "data/scores").rglob("*.dvc"))
    assert "data/scores.mine.dvc" in run_git(top, "status", "--porcelain")


def test_dvc_metrics_are_about_ten_numbers(tiny_line: Path) -> None:
    told = json.loads(dvc(tiny_line, "metrics", "show", "--json").stdout)
    files = told["" if "" in told else "workspace"]["data"]
    values = [value for file in files.values() for value in file["data"].values()]
    numbers = [value for value in values if isinstance(value, (int, float))]
    assert 8 <= len(numbers) <= 16
    assert len(values) - len(numbers) == 3, "beside them only the machine of each training"


def test_every_plot_has_marks_in_it_and_needs_nothing_from_elsewhere(tiny_line: Path, tmp_path: Path) -> None:
    dvc(tiny_line, "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text()
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']https?:", page)
    shown = re.findall(r"src\s*=\s*[\"']([^\"']+\.(?:svg|png))[\"']", page)
    assert len(shown) == 10
    for name in shown:
        path = tmp_path / "plots" / name
        if path.suffix == ".svg":
            ids = [node.get("id", "") for node in ET.parse(path).iter()]
            assert any(mark.startswith(MARK) for mark in ids), f"{name} is empty"
        else:
            assert len(Image.open(path).convert("RGB").getcolors(1 << 24) or []) > 20, f"{name} is empty"


def test_repro_tells_the_stage_and_nothing_of_what_libraries_say(tiny_line: Path) -> None:
    told = (tiny_line.parent / "repro.txt").read_text()
    for n, stage in enumerate(("ingest", "prepare", "tokenise", "pretrain", "finetune", "align"), start=1):
        assert f"stage {n} of 9: {stage}" in told
    for noise in (
        "Warning",
        "Tip",
        "http",
        "GPU available",
        "INFO",
        "git add",
        "autostage",
        "litlogger",
        "deprecated",
    ):
        assert noise not in told, re.findall(rf".*{noise}.*", told)[:3]
