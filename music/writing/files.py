"""Write a score in any format: one entry for the endpoint and the command line."""

from collections.abc import Sequence
from pathlib import PurePath

from symusic import Score

from music.analysis.chords import chords_of
from music.score.chords import NO_CHORD, chord_name
from music.score.form import to_midi
from music.writing.abc_notation import to_abc
from music.writing.engraving import engraved
from music.writing.musicxml import to_musicxml

FORMATS = {"midi": (".mid", ".midi"), "musicxml": (".musicxml", ".xml"), "abc": (".abc",)}


def format_of(name: str) -> str:
    """Of a file to write, by its suffix. Raises ValueError naming those known."""
    suffix = PurePath(name).suffix.lower()
    for found, suffixes in FORMATS.items():
        if suffix in suffixes:
            return found
    known = ", ".join(suffix for suffixes in FORMATS.values() for suffix in suffixes)
    raise ValueError(f"{name}: {suffix or 'no suffix'} is not a format to write; known are {known}")


def written(
    score: Score, to: str, key: str = "", chords: Sequence[tuple[int, str]] = (), title: str = ""
) -> bytes:
    """A file of the score in one of FORMATS. key: a label such as "D dorian"; left out, the score's own
    signatures or an estimate. chords: (tick, symbol), which MIDI cannot hold. Raises ValueError for another
    format or a key that is none, and in notation UnreadableScore for a score without notes."""
    if to == "midi":
        return to_midi(score)
    if to not in FORMATS:
        raise ValueError(f"format {to!r} is unknown: {', '.join(FORMATS)}")
    sheet = engraved(score, key, chords, title)
    return to_musicxml(sheet) if to == "musicxml" else to_abc(sheet).encode()


def chords_heard(score: Score, key: str = "") -> list[tuple[int, str]]:
    """Chord symbols of what sounds, (tick, symbol) at each change; none for a silence."""
    found: list[tuple[int, str]] = []
    before: tuple[int, ...] = ()
    for tick, _, *chord in chords_of(score, key).tolist():
        if tuple(chord) != before and chord[0] != NO_CHORD:
            found.append((tick, chord_name(*chord)))
        before = tuple(chord)
    return found
