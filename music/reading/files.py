"""Read any supported file to (score, labels, converter): one entry for ingest, uploads and the command
line."""

import codecs
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath

from symusic import Score

from music.reading import abc, abc_chords, kern
from music.reading.midi import MidiSource, read_source
from music.score.errors import UnreadableScore
from music.score.form import Limits, check_limits

FORMATS = {
    "midi": (".mid", ".midi"),
    "musicxml": (".musicxml", ".xml"),
    "mxl": (".mxl",),
    "abc": (".abc",),
    "kern": (".krn",),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
LOOKED_AT = 65_536  # bytes of a file by which its format is told
LABELS = ("title", "composer", "key", "metre", "rhythm", "origin", "style", "tempo")


@dataclass(frozen=True)
class Reading:
    """One piece of a file. `member` tells apart the tunes of an ABC book; score_made: written, not
    performed; source: of MIDI, the file's events; chords: symbols written above the notes, (tick, symbol)."""

    score: Score
    converter: str
    score_made: bool
    member: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    source: MidiSource | None = None
    chords: list[tuple[int, str]] = field(default_factory=list)


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Silence C code that prints warnings to file descriptor 1 (abc2midi)."""
    sys.stdout.flush()
    saved = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(null)


def read_midi(data: bytes, limits: Limits) -> Score:
    """A score from MIDI bytes, within limits. Raises UnreadableScore."""
    return read_source(data, limits).score


def read_file(data: bytes, name: str, limits: Limits) -> list[Reading | tuple[str, str]]:
    """Every piece in one file, its format by its suffix; a piece that cannot be read is (member, reason)
    instead. Raises UnreadableScore for the whole file."""
    suffix = PurePath(name).suffix.lower()
    for format_, suffixes in FORMATS.items():
        if suffix in suffixes:
            return read_format(data, format_, limits)
    raise UnreadableScore(f"{suffix or 'no suffix'}: not a score format; known are {', '.join(SUFFIXES)}")


def detected(data: bytes) -> str:
    """Which of FORMATS a file is, by how it begins; "" for none."""
    if data.startswith(b"MThd") or (data.startswith(b"RIFF") and data[8:12] == b"RMID"):
        return "midi"
    if data.startswith(b"PK"):
        return "mxl"
    text = decoded(data[:LOOKED_AT])
    if re.search(r"<score-(partwise|timewise)\b", text):
        return "musicxml"
    if re.search(r"^\*\*kern\b|\t\*\*kern\b", text, flags=re.MULTILINE):
        return "kern"
    return "abc" if re.search(r"^X:", text, flags=re.MULTILINE) else ""


def read_format(data: bytes, format_: str, limits: Limits) -> list[Reading | tuple[str, str]]:
    """`read_file` of a format of FORMATS."""
    if not data:
        raise UnreadableScore("the file is empty")
    if format_ == "midi":
        source = read_source(data, limits)
        return [Reading(source.score, "events", score_made=False, source=source)]
    if len(data) > limits.max_bytes:
        raise UnreadableScore(f"the file has {len(data)} bytes; at most {limits.max_bytes} are read")
    if format_ == "abc":
        return _read_book(data, limits)
    if format_ == "kern":
        page, converter = kern.read_kern(decoded(data)), kern.CONVERTER
    else:
        from music.reading import musicxml  # lxml is loaded only where it is needed

        page, converter = musicxml.read_musicxml(data), musicxml.CONVERTER
    score, chords = page.score()
    check_limits(score, limits)
    return [Reading(score, converter, score_made=True, chords=chords)]


def only_piece(found: list[Reading | tuple[str, str]]) -> Reading:
    """The one piece of a file. Raises UnreadableScore where it holds none or several."""
    readings = [each for each in found if isinstance(each, Reading)]
    if not readings:
        raise UnreadableScore("; ".join(each[1] for each in found if not isinstance(each, Reading)))
    if len(readings) > 1:
        raise UnreadableScore(
            f"the file holds {len(readings)} tunes: put the one you mean into a file of its own"
        )
    return readings[0]


def decoded(data: bytes) -> str:
    """Text of a file: what its byte order mark says, else UTF-8, else Latin-1; lines end in \n."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return _lines(data.decode(encoding, errors="replace"))
    try:
        return _lines(data.decode("utf-8"))
    except UnicodeDecodeError:
        return _lines(data.decode("latin-1"))


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_book(data: bytes, limits: Limits) -> list[Reading | tuple[str, str]]:
    tunes = abc.split_tunes(decoded(data))
    if not tunes:
        raise UnreadableScore("no tune found: every tune of an ABC file starts with an X: line")
    found: list[Reading | tuple[str, str]] = []
    for position, tune in enumerate(tunes):
        member = f"{position}:{tune.number}"
        try:
            with quiet_stdout():
                score, shift = abc.read_tune(tune)
                chords = abc_chords.chords_of_tune(tune, len(score.tracks), shift)
            check_limits(score, limits)
            labels = abc.labels(tune)
            found.append(Reading(score, abc.CONVERTER, True, member, labels, chords=chords))
        except UnreadableScore as error:
            found.append((member, str(error)))
        except (ValueError, ArithmeticError, LookupError) as error:  # a header like M:4/0
            found.append((member, f"not ABC that can be read ({type(error).__name__}: {error})"))
    return found
