"""Commands with `--url`: what the service does, from the command line, the same as without it."""

from pathlib import Path

import pytest

from tests.conftest import run
from tests.server import Server, free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served")]


@pytest.fixture
def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def test_they_do_what_they_do_without_a_service(tiny_line: Path, tmp_path: Path, url: str) -> None:
    asked = ("--bars", "4", "--seed", "3", "--temperature", "0.9")
    here, there = tmp_path / "here.mid", tmp_path / "there.mid"
    run(tiny_line, "compose", str(here), *asked)
    told = run(tiny_line, "compose", str(there), *asked, "--url", url).stdout
    assert "4 bars, seed 3, id " in told
    assert there.read_bytes() == here.read_bytes()
    for suffix, operation in (
        (".abc", ["transpose", "--semitones", "2"]),
        (".mid", ["infill", "--bars", "2-3"]),
    ):
        outs = [tmp_path / f"{name}{suffix}" for name in ("a", "b")]
        run(tiny_line, "edit", str(here), *operation, "--seed", "1", "--out", str(outs[0]))
        told = run(
            tiny_line, "edit", str(here), *operation, "--out", str(outs[1]), "--seed", "1", OSTINATO_URL=url
        )
        assert "kept" in told.stdout
        # the title is the name of the file here, which a service is not told
        first, second = ([w for w in out.read_bytes().split(b"\n") if w[:2] != b"T:"] for out in outs)
        assert second == first
    found = [run(tiny_line, "similar", str(here), "--k", "3", *more).stdout for more in ([], ["--url", url])]
    assert [line.split()[1] for line in found[0].splitlines()[::2]] == [
        line.split()[1] for line in found[1].splitlines()[::2]
    ]
    item = found[0].split()[1]
    lists = [run(tiny_line, "recommend", "--like", item, *more).stdout for more in ([], ["--url", url])]
    assert [line.split()[:2] for line in lists[0].splitlines()[:-1]] == [
        line.split()[:2] for line in lists[1].splitlines()[:-1]
    ]


def test_what_goes_wrong_is_one_sentence(tiny_line: Path, tmp_path: Path, url: str) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    for words, said in (
        (["--url", away], "is it up?"),
        (["--style", "polka", "--url", url], "known are"),
        (["--no-revise", "--url", url], "leave it out"),
        (["--url", "nonsense"], "is the address right"),
    ):
        done = run(tiny_line, "compose", str(tmp_path / "x.mid"), *words, check=False)
        assert done.returncode == 1, words
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("x*"))
