"""The order of the house: who may import whom, room by room; what a stage depends on; what serving must never
load."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGES = ("music", "models", "pipelines", "serving", "monitoring", "benchmarks")
ALLOWED = {
    "music": set(),
    "models": {"music"},
    "monitoring": {"music"},
    "pipelines": {"music", "models", "monitoring"},
    "serving": {"music", "models", "monitoring"},
    "benchmarks": set(PACKAGES),
}
ROOMS = {  # from the ground up: a room imports only rooms below it
    "music": ("score", "reading", "analysis", "editing", "writing"),
    "models": ("tokens", "network", "decoding", "fill", "judge", "edit", "align", "find", "bundle"),
    "pipelines": ("running", "release", "commands"),
}
# Change how a stage runs, not what it computes.
PLUMBING = {
    f"pipelines/running/{name}.py"
    for name in ("params", "params_training", "files", "tracking", "progress", "machine")
}


@cache
def tree_of(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def files_of(package: str) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: str, lazily: bool = True) -> set[str]:
    """Our files that a file imports itself; not `lazily`: only by imports at its top."""
    found = set()
    for node in ast.walk(tree_of(path)) if lazily else tree_of(path).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found |= {name.replace(".", "/") + ".py" for name in names}
    return {name for name in found if (ROOT / name).is_file()}


def code_of(path: str, lazily: bool = True, without: frozenset[str] = frozenset()) -> set[str]:
    """Our files that a file imports, directly or not."""
    seen: set[str] = set()
    waiting = [path]
    while waiting:
        new = imported(waiting.pop(), lazily) - seen - without
        seen |= new
        waiting += new
    return seen


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_what_it_may(package: str) -> None:
    for path in files_of(package):
        names = {
            name.split(".")[0]
            for node in ast.walk(tree_of(path))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        wrong = (names & set(PACKAGES)) - ALLOWED[package] - {package}
        assert not wrong, f"{path} imports {wrong}"


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_rooms_below_it(package: str) -> None:
    order = ROOMS[package]
    here = {path.stem for path in (ROOT / package).iterdir() if not path.name.startswith("__")}
    loose = here - set(order) - set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert not loose, f"{package}/ has {loose}, which is no room of the house"
    for path in files_of(package):
        room = Path(path).parts[1].removesuffix(".py")
        for other in imported(path):
            top, inside = other.split("/")[0], other.split("/")[1].removesuffix(".py")
            if top == package and room in order and inside in order:
                assert order.index(inside) <= order.index(room), (
                    f"{path} imports {other}, which lies above it"
                )


def test_serving_code_loads_no_training_library() -> None:
    heavy = ("mlflow", "dvc", "pytorch_lightning", "matplotlib", "partitura", "music21", "pandas", "pyarrow")
    heavy += ("torch", "sklearn")
    modules = [  # the service itself needs a bento around it, the client is a client's
        f"serving.{path.stem}"
        for path in sorted((ROOT / "serving").glob("*.py"))
        if path.stem not in ("service", "client")
    ]
    code = (
        f"import sys, monitoring.log, {', '.join(modules)}; print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_left_out_of_the_image_is_not_loaded_by_the_service() -> None:
    from pipelines.release.package import TRAINING_ONLY

    loaded = code_of("serving/service.py", lazily=False)
    assert {"models/align/rewards.py", "models/bundle.py", "monitoring/drift.py"} <= loaded
    assert not loaded & set(TRAINING_ONLY)
    assert all((ROOT / path).is_file() for path in TRAINING_ONLY), "a file of that list is gone"


def rooms_of(stage: str) -> set[str]:
    """What a stage's code dependencies must be: its own file, the rooms it runs, and files of pipelines/
    beside it."""
    own = f"pipelines/{stage}.py"
    files = code_of(own, without=frozenset(PLUMBING)) | {own}
    deep = {path for path in files if not path.startswith("pipelines/") and len(Path(path).parts) > 2}
    return (files - deep) | {str(Path(path).parent) for path in deep}


def stages() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return found


def test_every_dvc_stage_has_a_file_of_its_name() -> None:
    for name, stage in stages().items():
        assert (ROOT / "pipelines" / f"{name}.py").is_file()
        assert stage["cmd"] == f"python -m pipelines.{name}"


@pytest.mark.parametrize("name", stages())
def test_a_stage_depends_on_all_the_rooms_it_runs_and_on_no_more(name: str) -> None:
    assert {path for path in stages()[name]["deps"] if not path.startswith("data/")} == rooms_of(name)


def test_no_training_depends_on_how_music_is_edited() -> None:
    for name, stage in stages().items():
        assert not {"models/edit", "music/editing"} & set(stage["deps"]), name
    for name in ("pretrain", "finetune"):
        assert not {"models/decoding", "models/fill"} & set(stages()[name]["deps"]), name


def test_a_stage_stands_on_half_a_screen() -> None:
    blocks = (ROOT / "dvc.yaml").read_text().split("\n\n")
    assert max(len(block.splitlines()) for block in blocks) <= 15


def test_files_stay_within_one_subject() -> None:
    for package in PACKAGES:
        for path in files_of(package):
            length = len((ROOT / path).read_text().splitlines())
            assert length <= 350, f"{path} has {length} lines, more than 350: it has two subjects"
