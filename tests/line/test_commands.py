"""Commands on the tiny line that write files, refuse, or clean up."""

import re
import shutil
from pathlib import Path

import pytest

from models.bundle import open_bundle
from tests.conftest import run
from tests.server import free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("registry")]


def test_music_is_composed_on_the_command_line_and_the_same_again(tiny_line: Path, tmp_path: Path) -> None:
    asked = ["--style", "irish", "--bars", "3", "--metre", "6/8", "--seed", "4", "--n", "2"]
    told = run(tiny_line, "compose", str(tmp_path / "a.mid"), *asked).stdout
    assert re.search(r"a-1\.mid: \d+ notes in 3 bars, seed 4", told)
    run(tiny_line, "compose", str(tmp_path / "b.mid"), *asked)
    for n in (1, 2):
        assert (tmp_path / f"a-{n}.mid").read_bytes() == (tmp_path / f"b-{n}.mid").read_bytes()
    assert "--force" in run(tiny_line, "compose", str(tmp_path / "a.mid"), *asked, check=False).stderr
    wrong = run(tiny_line, "compose", str(tmp_path / "c.mid"), "--style", "polka", check=False)
    assert wrong.returncode == 1
    assert "known are" in wrong.stderr


def test_a_licence_class_that_may_not_be_served_is_refused_though_the_bento_is_built(
    tiny_line: Path, tmp_path: Path
) -> None:
    top = tmp_path / "top"
    shutil.copytree(tiny_line, top, symlinks=True)
    text = (top / "params.yaml").read_text()
    (top / "params.yaml").write_text(
        re.sub(r"licences_served: \[.*?\]", "licences_served: [public-domain]", text)
    )
    done = run(top, "serve", "--port", str(free_port()), check=False)
    assert done.returncode == 1
    assert "licence class is non-commercial" in done.stderr


def test_gc_removes_what_nothing_needs_and_only_when_told(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "top"
    shutil.copytree(tiny_line, top, symlinks=True)
    stray = top / ".ostinato/bundles" / ("f" * 16)
    shutil.copytree(top / "bundle", stray)
    told = run(top, "gc").stdout
    assert f"would remove {stray}" in told
    assert open_bundle(top / "bundle").tag in told.rsplit("kept:", 1)[1]
    assert stray.exists()
    run(top, "gc", "--do")
    assert not stray.exists()
    assert (top / ".ostinato/bundles" / open_bundle(top / "bundle").tag).is_dir()
    assert "0 MB" in run(top, "gc").stdout
