import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from hypothesis import strategies as st
from symusic import Score

from models.tokens.build import train_tokenizer
from models.tokens.tokenizer import CellTokenizer
from music.score.form import bar_ticks, build, without_overlaps

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
TPQ = 12
METRES = ((4, 4), (3, 4), (6, 8), (2, 2), (1, 4))

settings.register_profile("ostinato", deadline=None, max_examples=60)
settings.load_profile("ostinato")
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", "")
if not os.environ["PROMETHEUS_MULTIPROC_DIR"]:
    del os.environ["PROMETHEUS_MULTIPROC_DIR"]


@st.composite
def normal_scores(draw: st.DrawFn, drums: bool = True) -> Score:
    """Scores in normal form: whole bars, no doubled or overlapping note, something sounding in the first and
    last bar."""
    metre = draw(st.sampled_from(METRES))
    bars = draw(st.integers(1, 6))
    length = bar_ticks(*metre, TPQ)
    tracks = []
    for index in range(draw(st.integers(1, 3))):
        drum = drums and draw(st.booleans())
        notes = draw(
            st.lists(
                st.tuples(st.integers(0, bars * length - 1), st.integers(1, 60), st.integers(0, 127)),
                min_size=1,
                max_size=40,
            )
        )
        if index == 0:
            notes += [(0, 1, 60), (bars * length - 1, 1, 60)]
        clean = without_overlaps(np.array(notes, dtype=np.int64))
        clean[:, 1] = np.minimum(clean[:, 1], bars * length - clean[:, 0])
        tracks.append((0 if drum else draw(st.sampled_from([0, 40, 52])), drum, clean))
    return build(tracks, [(0, *metre)], TPQ, velocity=80)


@pytest.fixture(scope="session")
def tokenizer() -> CellTokenizer:
    return tokenizer_of([-1, 0, 40, 52])


def tokenizer_of(programs: list[int]) -> CellTokenizer:
    """A tokenizer of some instruments; -1 are drums."""
    return train_tokenizer(
        metres=[f"{n}/{d}" for n, d in METRES],
        programs=programs,
        styles=["chorale", "irish"],
        rhythms=["jig", "reel"],
        tempos=["slow", "fast"],
        ticks_per_quarter=TPQ,
        velocity=80,
        max_note_quarters=16,
        max_bars_control=64,
    )


@pytest.fixture(scope="session")
def tiny_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of its own in which the whole line ran on the tiny profile: `ostinato repro`. With several
    test processes the first makes it and each has a copy. What it printed is in repro.txt beside it."""
    base = tmp_path_factory.getbasetemp()
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    made = (base if alone else base.parent) / "line/ostinato"
    with FileLock(made.parent.with_suffix(".lock")):
        if not (made.parent / "repro.txt").exists():
            shutil.rmtree(made, ignore_errors=True)
            run(copy_checkout(made), "profile", "tiny")
            done = run(made, "repro")
            run_git(made, "add", "-A")
            run_git(made, "commit", "-qm", "what the line wrote")
            (made.parent / "repro.txt").write_text(done.stdout + done.stderr)
    if alone:
        return made
    mine = base / "line/ostinato"
    shutil.copytree(made, mine, symlinks=True)
    shutil.copyfile(made.parent / "repro.txt", mine.parent / "repro.txt")
    return mine


def run_git(top: Path, *arguments: str) -> str:
    """git in another checkout."""
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, cwd=top, check=True, capture_output=True, text=True).stdout


def dvc(top: Path, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """dvc in another checkout."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=top, env=environment(top), capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(
            f"dvc {' '.join(arguments)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        )
    return done


def set_param(top: Path, section: str, **values: object) -> None:
    """Write entries of a section into params.yaml of another checkout."""
    path = top / "params.yaml"
    text = path.read_text()
    start = text.index(f"\n{section}:")
    end = text.find("\n\n", start + 1)
    block = text[start:end]
    for name, value in values.items():
        assert re.search(rf"^  {name}: ", block, re.M), f"{section} has no {name}"
        block = re.sub(rf"^(  {name}: )[^#\n]*", rf"\g<1>{value} ", block, flags=re.M)
    path.write_text(text[:start] + block + text[end:])


def copy_checkout(target: Path) -> Path:
    """The tracked and new files of this checkout in a fresh git repository, without data, cache or store."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    run_git(target, "init", "-q")
    run_git(target, "add", "-A")
    run_git(target, "commit", "-qm", "start")
    return target


def environment(top: Path) -> dict[str, str]:
    """Environment of a command in another checkout: its own code, store and bento home."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("MLFLOW_TRACKING_URI", "BENTOML_HOME", "OSTINATO_HOME", "OSTINATO_LOG")
    }
    identity = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "test"), ("EMAIL", "test@example.org"))
    }
    return {
        **kept,
        **identity,
        "PYTHONPATH": str(top),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "PYTHONWARNINGS": "ignore",
    }


def run(top: Path, *arguments: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
    """`ostinato <arguments>` in a checkout; extra: of its environment."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.commands.app", *arguments],
        cwd=top,
        env={**environment(top), **extra},
        capture_output=True,
        text=True,
    )
    if check and done.returncode:
        raise AssertionError(
            f"ostinato {' '.join(arguments)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        )
    return done
