"""Data of the user's own under DVC: it travels to remotes, to colleagues, and into `dvc exp run --queue` and
`--temp`.

What lies in data/scores, data/base and data/feedback is ignored by git. `track` gives a folder in one of them
to DVC and puts its `.dvc` file into data/ (not beside it, where stages that read the whole folder would take
it for data), and stages that file in git, so that an experiment in a copy has the data too.
"""

import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from pipelines.running.dvc_command import dvc_command, dvc_environment
from pipelines.running.files import StageError, whole_file

FOLDERS = (Path("data/scores"), Path("data/base"), Path("data/feedback"))


def inside(folder: Path) -> list[Path]:
    """What of a folder of FOLDERS is data: its folders and files but the README."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name != "README.md" and path.suffix != ".dvc" and path.name[0] != "."
    ]


def pointer_of(path: Path) -> Path:
    """The .dvc file of something in one of FOLDERS: data/scores/mine -> data/scores.mine.dvc."""
    return path.parent.parent / f"{path.parent.name}.{path.name}.dvc"


def track(path: Path) -> Path | None:
    """Give data/<folder>/<name> as it is now to DVC and stage its .dvc file in git; returns that file, None
    outside git. Raises StageError where DVC cannot."""
    if subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True).returncode:
        return None
    pointer, made = pointer_of(path), path.with_name(f"{path.name}.dvc")
    if pointer.exists():
        _dvc("commit", "--force", str(pointer))
    else:
        if not made.exists():
            _dvc("add", str(path))
        yaml = YAML()
        told = yaml.load(made.read_text())
        told["wdir"] = path.parent.name
        with whole_file(pointer) as temporary, temporary.open("w") as handle:
            yaml.dump(told, handle)
        made.unlink()
    subprocess.run(["git", "add", "--", str(pointer)], check=True, capture_output=True)
    return pointer


def _dvc(*arguments: str) -> None:
    done = subprocess.run(dvc_command(*arguments), env=dvc_environment(), capture_output=True, text=True)
    if done.returncode:
        raise StageError(
            f"dvc {' '.join(arguments)} failed: {done.stderr.strip()}\nIf another dvc command "
            f"is at work, wait for it to end and run `ostinato track`"
        )
