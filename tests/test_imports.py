"""The import rules of the house: who may import whom, and what serving must never load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

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


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_what_it_may(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        wrong = (imported(path) & set(PACKAGES)) - ALLOWED[package] - {package}
        assert not wrong, f"{path} imports {wrong}"


def test_serving_code_loads_no_training_library() -> None:
    code = "import sys, serving.engine, serving.middleware, monitoring.log; print([m for m in ('mlflow', 'dvc', 'pytorch_lightning', 'matplotlib', 'partitura', 'music21', 'pandas', 'pyarrow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_what_is_left_out_of_the_image_is_not_loaded_by_the_service() -> None:
    from pipelines.package import TRAINING_ONLY

    loaded = code_of("serving/service.py", lazily=False)
    assert {"models/rewards.py", "models/bundle.py", "monitoring/drift.py"} <= loaded
    assert not loaded & set(TRAINING_ONLY)
    assert all((ROOT / path).is_file() for path in TRAINING_ONLY), "a file of that list is gone"


def test_every_dvc_stage_has_a_file_of_its_name() -> None:
    import yaml

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        assert (ROOT / "pipelines" / f"{name}.py").is_file()
        assert stage["cmd"] == f"python -m pipelines.{name}"
        for path in stage["deps"]:
            assert path.startswith("data/") or (ROOT / path).is_file(), f"{name} depends on {path}, which does not exist"


PLUMBING = {"pipelines/params.py", "pipelines/files.py", "pipelines/tracking.py", "pipelines/progress.py"}  # change how a stage runs, not what it computes


def code_of(path: str, seen: set[str] | None = None, lazily: bool = True) -> set[str]:
    """Our files that a file imports, directly or not; not `lazily`: only those that are loaded with it, by imports at the top of modules."""
    seen, tree = seen if seen is not None else set(), ast.parse((ROOT / path).read_text())
    for node in ast.walk(tree) if lazily else tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for found in (name.replace(".", "/") + ".py" for name in names):
                if (ROOT / found).is_file() and found not in seen | PLUMBING:
                    seen.add(found)
                    code_of(found, seen, lazily)
    return seen


def test_every_stage_depends_on_all_the_code_it_runs() -> None:
    import yaml

    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        own = f"pipelines/{name}.py"
        assert {path for path in stage["deps"] if path.endswith(".py")} == code_of(own) | {own}, name


def test_files_stay_within_one_subject() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 350, f"{path} is longer than 350 lines: it has two subjects"
