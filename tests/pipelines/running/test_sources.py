import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from music.score.form import to_midi
from pipelines.running import sources
from pipelines.running.files import StageError
from pipelines.running.params import Source
from pipelines.running.sources import items_of, unpack
from tests.conftest import SHARED
from tests.music.score.test_form import raw_score

MIDI = to_midi(raw_score([(i * 240, 240, 60 + i % 5) for i in range(32)]))


@pytest.fixture(autouse=True)
def in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/scores").mkdir(parents=True)


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


@pytest.mark.parametrize("make", [zipped, tarred])
def test_scores_of_an_archive_are_unpacked_once_and_nothing_else_is(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    archive = make(tmp_path / "a.bin", {"x/one.mid": MIDI, "x/readme.txt": b"hello"})
    folder = unpack(archive, tmp_path / "out")
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")] == ["x/one.mid"]
    assert unpack(archive, tmp_path / "out") == folder


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    "name", ["../evil.mid", "/etc/evil.mid", "a/../../evil.mid", "..\\evil.mid", "C:\\evil.mid"]
)
def test_a_member_that_would_escape_refuses_the_archive(tmp_path: Path, make, name: str) -> None:  # type: ignore[no-untyped-def]
    archive = make(tmp_path / "a.bin", {"good.mid": MIDI, name: MIDI})
    with pytest.raises(StageError, match="outside the folder"):
        unpack(archive, tmp_path / "deep/out")
    assert not list(tmp_path.rglob("evil.mid"))
    assert not list((tmp_path / "deep").rglob("*.mid"))


def test_bombs_links_and_damage_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageError, match="times its packed size"):
        unpack(zipped(tmp_path / "bomb.zip", {"a.mid": b"\0" * 50_000_000}), tmp_path / "o1")
    with pytest.raises(StageError, match="times its packed size"):
        unpack(tarred(tmp_path / "bomb.tgz", {"a.mid": b"\0" * 50_000_000}), tmp_path / "o2")
    with pytest.raises(StageError, match="link or a device"):
        unpack(tarred(tmp_path / "l.tgz", {}, {"a.mid": "/etc/passwd"}), tmp_path / "o3")
    link = zipfile.ZipInfo("l.mid")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(StageError, match="is a link"):
        unpack(tmp_path / "l.zip", tmp_path / "o4")
    whole = tarred(tmp_path / "cut.tgz", {"a.mid": MIDI * 100}).read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StageError, match="damaged archive|neither a zip"):
        unpack(tmp_path / "cut.tgz", tmp_path / "o5")
    monkeypatch.setattr(sources, "MAX_ARCHIVE_FILES", 3)
    with pytest.raises(StageError, match="more than 3 files"):
        unpack(zipped(tmp_path / "many.zip", {f"{i}.mid": MIDI for i in range(5)}), tmp_path / "o6")


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    archive = zipped(Path("data/scores/a.zip"), {"one.mid": MIDI})
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (
        len(
            items_of(
                Source(
                    name="mine", kind="archive", path="data/scores/a.zip", licence="permissive", sha256=right
                ),
                "10.5.1",
            )
        )
        == 1
    )
    with pytest.raises(StageError, match="params say 0000"):
        items_of(
            Source(
                name="mine", kind="archive", path="data/scores/a.zip", licence="permissive", sha256="0" * 64
            ),
            "10.5.1",
        )


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("folder", "data/scores/none", "does not exist; put your scores there"),
        ("folder", "/tmp", "must lie in data/scores"),
        ("folder", "data/scores/../..", "must lie in data/scores"),
        ("folder", "data/scores", "no score in data/scores"),
        ("archive", "data/scores/none.zip", "does not exist"),
        ("music21", "bachs", "known are airdsAirs"),
    ],
)
def test_a_source_that_is_not_there_says_what_to_do(kind: str, path: str, message: str) -> None:
    with pytest.raises(StageError, match=message):
        items_of(Source(name="mine", kind=kind, path=path, licence="permissive"), "10.5.1")


def test_another_corpus_than_params_say_is_an_error() -> None:
    with pytest.raises(StageError, match=r"installed is 10\.5\.1"):
        items_of(Source(name="bach", kind="music21", path="bach", licence="non-commercial"), "9.9.9")


def test_labels_come_from_a_table_by_path_or_name(tmp_path: Path) -> None:
    Path("data/scores/mine/deep").mkdir(parents=True)
    Path("data/scores/mine/deep/a.mid").write_bytes(MIDI)
    Path("data/scores/mine/labels.tsv").write_text(
        "midi\tcomposer\tstyle\tother\na.mid\tClara_Schumann\tlied\tx\n"
    )
    items = items_of(
        Source(
            name="mine",
            kind="folder",
            path="data/scores/mine",
            licence="public-domain",
            labels="data/scores/mine/labels.tsv",
        ),
        "10.5.1",
    )
    assert items[0].labels == {"composer": "Clara Schumann", "style": "lied"}
    Path("data/scores/mine/labels.tsv").write_text("midi\tother\na.mid\tx\n")
    with pytest.raises(StageError, match="none of the columns"):
        items_of(
            Source(
                name="mine",
                kind="folder",
                path="data/scores/mine",
                licence="public-domain",
                labels="data/scores/mine/labels.tsv",
            ),
            "10.5.1",
        )


@pytest.mark.skipif(
    not (SHARED / "data/lieder.tar.gz").exists(),
    reason="../shared/data/lieder.tar.gz (OpenScore Lieder) is not beside this checkout",
)
def test_the_lieder_archive_gives_every_song_with_its_composer() -> None:
    import shutil

    shutil.copy(SHARED / "data/lieder.tar.gz", "data/scores/lieder.tar.gz")
    shutil.copy(SHARED / "data/lieder.tsv", "data/scores/lieder.tsv")
    items = items_of(
        Source(
            name="lieder",
            kind="archive",
            path="data/scores/lieder.tar.gz",
            licence="public-domain",
            labels="data/scores/lieder.tsv",
        ),
        "10.5.1",
    )
    assert len(items) == 1346
    assert sum("composer" in item.labels for item in items) > 1300
