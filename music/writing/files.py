"""Write a score in any format: one entry for the endpoint and the command line."""

from collections.abc import Sequence
from pathlib import PurePath

from symusic import Score

from music.analysis.chords import chords_of
from music.score.chords import NO_CHORD, chord_name
from music.score.form import bar_table, end_tick, to_midi
from music.writing.abc_notation import to_abc
from music.writing.engraving import engraved

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
    if to == "abc":
        return to_abc(sheet).encode()
    from music.writing.musicxml import to_musicxml  # music21 is loaded only where it writes

    return to_musicxml(sheet)


def chords_heard(score: Score, key: str = "") -> list[tuple[int, str]]:
    """Chord symbols of what sounds, (tick, symbol) at each change; none for a silence."""
    found: list[tuple[int, str]] = []
    before: tuple[int, ...] = ()
    for tick, _, *chord in chords_of(score, key).tolist():
        if tuple(chord) != before and chord[0] != NO_CHORD:
            found.append((tick, chord_name(*chord)))
        before = tuple(chord)
    return found


def chords_after(
    score: Score, before: Sequence[tuple[int, str]], bars: tuple[int, int] | None, key: str = ""
) -> list[tuple[int, str]]:
    """Chord symbols of an edited score: as they were, `before`, outside the bars [first, last) that changed
    (None: all), and as heard inside; none where there were none."""
    if not before:
        return []
    table = bar_table(score)[slice(*bars) if bars else slice(None)]
    first, last = int(table[0, 0]), int(table[-1, :2].sum())
    heard = chords_heard(score, key)
    inside = [(first, _in_force(heard, first)), *(each for each in heard if first < each[0] < last)]
    after = [(last, _in_force(before, last)), *(each for each in before if each[0] > last)]
    found = [
        *(each for each in before if each[0] < first),
        *inside,
        *(after if last < end_tick(score) else []),
    ]
    return [each for each in found if each[1]]


def _in_force(chords: Sequence[tuple[int, str]], tick: int) -> str:
    """The symbol that holds at a tick, "" before the first."""
    return next((symbol for at, symbol in reversed(chords) if at <= tick), "")
