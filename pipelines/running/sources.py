"""Where scores come from: the installed music21 corpus, folders, and archives that are unpacked safely."""

import csv
import hashlib
import shutil
import stat
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO

from music.reading.files import LABELS, SUFFIXES
from pipelines.running.files import StageError, whole_file
from pipelines.running.params import Source

SCORES = Path("data/scores")
CACHE = Path(".ostinato")
MAX_ARCHIVE_FILES = 500_000
MAX_ARCHIVE_BYTES = 20 * 2**30
MAX_RATIO = 200  # unpacked bytes per packed byte of one member; MIDI and MusicXML stay under 40


@dataclass(frozen=True)
class Item:
    """One file of a source."""

    path: Path
    name: str  # relative to the source, with forward slashes
    labels: dict[str, str]


def items_of(source: Source, music21_version: str) -> list[Item]:
    """Files of a source in a fixed order. Raises StageError where there is nothing to read."""
    if source.kind == "music21":
        root = _music21_collection(source.path, music21_version)
    elif source.kind == "archive":
        root = unpack(_archive_path(source), CACHE / "archives" / source.name, source.sha256)
    else:
        root = _own(source.path, source.name)
        if not root.is_dir():
            raise StageError(
                f"source {source.name}: folder {root} does not exist; put your scores there or correct "
                f"ingest.sources in params.yaml"
            )
    table = _labels(Path(source.labels)) if source.labels else {}
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise StageError(
            f"source {source.name}: no score in {source.path}; known suffixes are {', '.join(SUFFIXES)}"
        )
    items = []
    for path in files:
        name = path.relative_to(root).as_posix()
        items.append(Item(path, name, table.get(name) or table.get(path.name) or {}))
    return items


def _own(path: str, source: str) -> Path:
    """A user's path; it must lie in data/scores, which DVC watches: elsewhere a changed file would go
    unseen."""
    given = Path(path)
    if given.is_absolute() or given.parts[:2] != SCORES.parts or ".." in given.parts:
        raise StageError(
            f"source {source}: path {path!r} must lie in {SCORES}/ (copy or link it there), where DVC "
            f"sees changes"
        )
    return given


def _music21_collection(name: str, version: str) -> Path:
    installed = metadata.version("music21")
    if installed != version:
        raise StageError(
            f"params say the corpus of music21 {version}, installed is {installed}: install "
            f"that version or set ingest.music21_version to {installed}"
        )
    corpus = Path(str(metadata.distribution("music21").locate_file("music21/corpus")))
    root = corpus / name
    if not root.is_dir():
        known = sorted(
            path.name for path in corpus.iterdir() if path.is_dir() and not path.name.startswith("_")
        )
        raise StageError(f"music21 has no collection {name!r}; known are {', '.join(known)}")
    return root


def _labels(path: Path) -> dict[str, dict[str, str]]:
    """A CSV or TSV whose first column is the file name; columns named like our labels are kept."""
    if not path.exists():
        raise StageError(f"label table {path} does not exist; correct `labels` of the source or remove it")
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        first = (reader.fieldnames or [""])[0]
        known = [column for column in reader.fieldnames or [] if column in LABELS]
        if not known:
            raise StageError(f"label table {path} has none of the columns {', '.join(LABELS)}")
        return {
            row[first]: {column: (row[column] or "").replace("_", " ").strip() for column in known}
            for row in reader
            if row.get(first)
        }


def _archive_path(source: Source) -> Path:
    if not source.path.startswith("https://"):
        path = _own(source.path, source.name)
        if not path.is_file():
            raise StageError(
                f"source {source.name}: archive {path} does not exist; put it there or correct "
                f"ingest.sources in params.yaml"
            )
        return path
    target = CACHE / "downloads" / f"{source.sha256}{''.join(PurePosixPath(source.path).suffixes[-2:])}"
    if not target.exists():
        try:
            with (
                whole_file(target) as temporary,
                urllib.request.urlopen(source.path, timeout=60) as answer,
                temporary.open("wb") as handle,
            ):
                shutil.copyfileobj(answer, handle)
                handle.flush()
                _check_digest(temporary, source.sha256, source.path)
        except OSError as error:
            raise StageError(f"source {source.name}: cannot download {source.path}: {error}") from error
    return target


def _check_digest(path: Path, expected: str, name: str) -> str:
    with path.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if expected and found != expected:
        raise StageError(
            f"{name}: sha256 is {found}, params say {expected}: the file is not the one you meant, or "
            f"params are out of date"
        )
    return found


def unpack(archive: Path, parent: Path, sha256: str = "") -> Path:
    """Unpack the score files of a zip or tar under `parent` and return their folder; unpacked once for each
    content.

    Members that would escape the folder, links and devices are refused, and so is an archive past the caps of
    this module.
    """
    folder = parent / _check_digest(archive, sha256, str(archive))[:16]
    if folder.is_dir():
        return folder
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    total = 0
    try:
        for count, (name, size, handle) in enumerate(_members(archive), start=1):
            total += size
            if count > MAX_ARCHIVE_FILES or total > MAX_ARCHIVE_BYTES:
                raise StageError(
                    f"{archive}: more than {MAX_ARCHIVE_FILES} files or "
                    f"{MAX_ARCHIVE_BYTES // 2**30} GB unpacked: split it"
                )
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(handle, out)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno:
            raise
        raise StageError(f"{archive}: damaged archive ({error}); fetch it again") from error
    except StageError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if not partial.is_dir():
        raise StageError(f"{archive}: no score inside; known suffixes are {', '.join(SUFFIXES)}")
    partial.rename(folder)
    return folder


def _safe_name(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise StageError(
            f"{archive}: member {name!r} would be written outside the folder: the archive is refused"
        )
    return path


def _members(archive: Path) -> Iterator[tuple[PurePosixPath, int, IO[bytes]]]:
    """(safe name, size, open file) of every score in the archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                name = _safe_name(info.filename, archive)
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise StageError(f"{archive}: member {name} is a link: the archive is refused")
                if info.file_size > MAX_RATIO * max(info.compress_size, 1) and info.file_size > 2**20:
                    raise StageError(
                        f"{archive}: member {name} unpacks to {info.file_size} bytes, "
                        f"{MAX_RATIO} times its packed size: the archive is refused"
                    )
                if not info.is_dir() and name.suffix.lower() in SUFFIXES:
                    with packed.open(info) as handle:
                        yield name, info.file_size, handle
        return
    if not tarfile.is_tarfile(archive):
        raise StageError(f"{archive}: neither a zip nor a tar archive")
    packed_size = archive.stat().st_size
    seen = 0
    with tarfile.open(archive) as packed_tar:
        for member in packed_tar:
            name = _safe_name(member.name, archive)
            if member.issym() or member.islnk() or member.isdev():
                raise StageError(f"{archive}: member {name} is a link or a device: the archive is refused")
            seen += member.size
            if seen > MAX_RATIO * max(packed_size, 1) and seen > 2**20:
                raise StageError(
                    f"{archive}: unpacks to more than {MAX_RATIO} times its packed size: the archive "
                    f"is refused"
                )
            content = (
                packed_tar.extractfile(member)
                if member.isfile() and name.suffix.lower() in SUFFIXES
                else None
            )
            if content is not None:
                with content:
                    yield name, member.size, content
