"""Read any supported file to (score, labels, converter): one entry for ingest, uploads and the command
line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath

from symusic import Score

from music.reading import abc
from music.score.errors import UnreadableScore
from music.score.form import Limits, check_limits

SUFFIXES = (".mid", ".midi", ".abc", ".musicxml", ".mxl", ".xml", ".krn")
LABELS = ("title", "composer", "key", "metre", "rhythm", "origin", "style", "tempo")


@dataclass(frozen=True)
class Reading:
    """One piece of a file. `member` tells apart the tunes of an ABC book; score_made: written, not
    performed."""

    score: Score
    converter: str
    score_made: bool
    member: str = ""
    labels: dict[str, str] = field(default_factory=dict)


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
    if len(data) > limits.max_bytes:
        raise UnreadableScore(f"the file has {len(data)} bytes; at most {limits.max_bytes} are read")
    if data[:4] != b"MThd":
        raise UnreadableScore("not a MIDI file: it does not start with MThd" if data else "the file is empty")
    try:
        score = Score.from_midi(data)
    except Exception as error:
        raise UnreadableScore(f"damaged MIDI file: {error}") from error
    check_limits(score, limits)
    return score


def read_file(data: bytes, name: str, limits: Limits) -> list[Reading | tuple[str, str]]:
    """Every piece in one file; a piece that cannot be read is (member, reason) instead. Raises
    UnreadableScore for the whole file."""
    suffix = PurePath(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise UnreadableScore(f"{suffix or 'no suffix'}: not a score format; known are {', '.join(SUFFIXES)}")
    if not data:
        raise UnreadableScore("the file is empty")
    if suffix in (".mid", ".midi"):
        return [Reading(read_midi(data, limits), "symusic", score_made=False)]
    if len(data) > limits.max_bytes:
        raise UnreadableScore(f"the file has {len(data)} bytes; at most {limits.max_bytes} are read")
    if suffix == ".abc":
        return _read_book(data, limits)
    from music.reading.engraved import (
        CONVERTER,
        read_engraved,
    )  # verovio is loaded only where it is needed: serving never does

    score = read_engraved(data, ".xml" if suffix == ".musicxml" else suffix)
    check_limits(score, limits)
    return [Reading(score, CONVERTER, score_made=True)]


def _read_book(data: bytes, limits: Limits) -> list[Reading | tuple[str, str]]:
    try:
        book = data.decode("utf-8")
    except UnicodeDecodeError:
        book = data.decode("latin-1")
    tunes = abc.split_tunes(book.replace("\r\n", "\n").replace("\r", "\n"))
    if not tunes:
        raise UnreadableScore("no tune found: every tune of an ABC file starts with an X: line")
    found: list[Reading | tuple[str, str]] = []
    for position, tune in enumerate(tunes):
        member = f"{position}:{tune.number}"
        try:
            with quiet_stdout():
                score = abc.read_tune(tune)
            check_limits(score, limits)
            found.append(
                Reading(score, abc.CONVERTER, score_made=True, member=member, labels=abc.labels(tune))
            )
        except UnreadableScore as error:
            found.append((member, str(error)))
        except (ValueError, ArithmeticError, LookupError) as error:  # a header like M:4/0
            found.append((member, f"not ABC that can be read ({type(error).__name__}: {error})"))
    return found
