"""MLflow: where the store is, and how runs and the client are opened. Imported only by jobs that need it: it
takes seconds."""

import os
import subprocess
from contextlib import nullcontext
from pathlib import Path

from filelock import FileLock

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")

EXPERIMENT = MODEL = "ostinato"  # names in the store: of the experiment, of the registered model
WRITTEN = (":(exclude,top)dvc.lock", ":(exclude,top)reports")  # by `dvc repro`, as it goes


def home() -> Path:
    """Where Ostinato keeps what is neither code nor a DVC output: OSTINATO_HOME, or `.ostinato` at the top of
    the repository.

    `dvc exp run --temp` works in a copy; the top is found through git's common directory so that every copy
    shares one store.
    """
    given = os.environ.get("OSTINATO_HOME")
    if given:
        return Path(given).expanduser().resolve()
    try:
        common = subprocess.run(
            ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"],
            capture_output=True,
            text=True,
            check=True,
        )
        top = Path(common.stdout.strip()).parent
        if ".dvc" in top.parts:  # a temporary copy made by DVC below .dvc/tmp
            top = Path(*top.parts[: top.parts.index(".dvc")])
    except (OSError, subprocess.CalledProcessError):
        top = Path.cwd()
    return (top / ".ostinato").resolve()


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or one absolute sqlite store in `home()`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def open_experiment() -> str:
    """Point MLflow at the store, make the experiment if need be, return its id."""
    import mlflow
    from mlflow.exceptions import MlflowException

    from pipelines.running.files import StageError

    home().mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(tracking_uri())
    local = tracking_uri().startswith("sqlite:")
    try:
        # two first starts at once would both make the tables of a sqlite store
        with FileLock(home() / "store.lock") if local else nullcontext():
            found = mlflow.get_experiment_by_name(EXPERIMENT)
            if found is not None:
                return str(found.experiment_id)
            location = (home() / "mlartifacts").as_uri() if local else None
            try:
                return str(mlflow.create_experiment(EXPERIMENT, artifact_location=location))
            except MlflowException as error:  # of a store that hosts share: another was first
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return str(mlflow.get_experiment_by_name(EXPERIMENT).experiment_id)
    except MlflowException as error:
        raise StageError(
            f"cannot use the MLflow store at {tracking_uri()}: {error}; check MLFLOW_TRACKING_URI "
            f"and that its server runs"
        ) from error


def git_commit() -> str:
    """Commit of the checkout, with `+changes` where tracked files differ that the line does not write itself;
    "" outside git."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/", *WRITTEN],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+changes" if changed else "")


def run_tags(stage: str) -> dict[str, str]:
    """What every run of a stage says of where it comes from: stage, commit, and the DVC experiment it is part
    of."""
    experiment = os.environ.get("DVC_EXP_NAME", "")
    return {"DVC_STAGE": stage, "git_commit": git_commit(), **({"dvc_exp": experiment} if experiment else {})}
