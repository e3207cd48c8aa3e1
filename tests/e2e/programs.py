"""Programs that `make e2e` installs."""

import shutil


def need(*programs: str) -> None:
    missing = [program for program in programs if not shutil.which(program)]
    assert not missing, f"{', '.join(missing)} not installed: run `make e2e`, which installs them"
