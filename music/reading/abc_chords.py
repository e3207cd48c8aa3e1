"""Chord symbols of an ABC tune ("quoted" above its notes) and where each begins.

abc2midi plays them, so it also knows where they fall once repeats, parts and tuplets are played out: every
symbol of the tune is given a chord of its own, two notes so far apart as its number, and what is heard is
read back.
"""

import re

import numpy as np

from music.reading.abc import Tune, heard, metre_of, without_ornaments
from music.score.chords import UnknownChord, parse_chord
from music.score.form import note_array

_QUOTED = re.compile(r'"([^"\n]*)"')
_FIELD_LINE = re.compile(r"^[A-Za-z]:(?![:|])|^%")
_MARK = 0xE000  # private characters stand for the symbols while ornaments are taken out
MOST = 70  # symbols of a tune: as many intervals as fit above the root


def chords_of_tune(tune: Tune, tracks: int, shift: int) -> list[tuple[int, str]]:
    """(tick, symbol) of each change of chord, in the ticks of `read_tune`, which gave so many `tracks` and
    moved the notes by `shift`; [] where the tune names none."""
    symbols: list[str] = []

    def marked(match: re.Match[str]) -> str:
        symbol = _plain(match[1])
        if not symbol:
            return ""
        if symbol not in symbols:
            symbols.append(symbol)
        return chr(_MARK + symbols.index(symbol))

    head, found, body = tune.text.partition("\nK:")
    lines = [
        line if _FIELD_LINE.match(line) or not n else _QUOTED.sub(marked, line)
        for n, line in enumerate(body.split("\n"))
    ]
    if not symbols or len(symbols) > MOST:
        return []
    text = without_ornaments(head + found + "\n".join(lines))
    for n in range(len(symbols)):
        text = text.replace(chr(_MARK + n), f'"C{_alias(n)}"')
    score = heard(_with_patterns(text, len(symbols)))
    sounding: dict[int, list[int]] = {}
    for track in score.tracks[tracks:]:
        for onset, _, pitch in note_array(track).tolist():
            sounding.setdefault(max(onset - 1 + shift, 0), []).append(pitch)
    changes: list[tuple[int, str]] = []
    for onset, pitches in sorted(sounding.items()):
        n = int(np.ptp(pitches)) - 1
        if 0 <= n < len(symbols) and (not changes or changes[-1][1] != symbols[n]):
            changes.append((onset, symbols[n]))
    return changes


def _plain(text: str) -> str:
    """The symbol of a quotation; "" of what is none ("^slowly", "D.C.")."""
    above, slash, bass = re.split(r"[;(]", text, maxsplit=1)[0].strip().partition("/")
    symbol = above + slash + bass[:1].upper() + bass[1:].replace("+", "#")
    try:
        parse_chord(symbol)
    except UnknownChord:
        return ""
    return symbol if " " not in symbol else ""  # "G minor" tells the key


def _alias(n: int) -> str:
    return f"q{chr(97 + n // 26)}{chr(97 + n % 26)}"


def _with_patterns(text: str, symbols: int) -> str:
    """The tune with the chords defined, each struck on every quaver."""
    lines: list[str] = []
    pattern = ""
    for line in text.splitlines():
        lines.append(line)
        if line.startswith("X:"):
            lines += [f"%%MIDI chordname {_alias(n)} 0 {n + 1}" for n in range(symbols)]
        if line.startswith("M:") and (metre := metre_of(line[2:])):
            eighths = 8 * metre[0] // metre[1]
            pattern = f"%%MIDI gchord {'c' * max(eighths, 1)}"
        if pattern and line.startswith(("M:", "K:")):
            lines.append(pattern)
    return "\n".join(lines) + "\n"
