"""Chords by name: symbols of lead sheets ("F#m7", "C/E", "N.C.") and what they mean."""

import re

import numpy as np

QUALITIES = {  # semitones above the root
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "dim": (0, 3, 6),
    "aug": (0, 4, 8),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10),
    "m7b5": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9),
    "sus4": (0, 5, 7),
}
NAMES = tuple(QUALITIES)
NO_CHORD = 12  # in place of a root
ROOTS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SYMBOL = re.compile(r"([A-G])([#b♯♭]?)([^/]*)(?:/([A-G])([#b♯♭]?))?")
# after the root, in lower case but for M and m; what adds colour is read as the chord it colours
_SPELLINGS = {  # of the word after the root; what adds colour is read as the chord it colours
    "": "M maj major 6 maj6 M6 add9 69 6/9 5 add2 2 sus2 add4",
    "m": "m - min minor mi m6 min6 madd9 m69 -6",
    "dim": "dim o ° mb5",
    "aug": "aug + #5 maj#5",
    "7": "7 dom7 dom 9 11 13 7b9 7#9 7b5 7#5 7#11 7b13 9b5 aug7 +7 7alt 7+",
    "maj7": "maj7 M7 ma7 Δ Δ7 j7 maj9 M9 maj13 maj7#11 major7",
    "m7": "m7 min7 -7 mi7 m9 m11 min9 m13 mM7 mmaj7 minor7",
    "m7b5": "m7b5 ø ø7 -7b5 min7b5 hdim7 half-dim m7-5",
    "dim7": "dim7 o7 °7",
    "sus4": "sus4 sus 7sus4 7sus 9sus4 9sus",
}
_READ_AS = {"": "", **{word: name for name, words in _SPELLINGS.items() for word in words.split()}}
NONE_WORDS = ("N.C.", "NC", "N.C", "n.c.", "none", "no chord")


class UnknownChord(ValueError):
    """A symbol that is no chord; the message names it and what is known."""


def _pitch_class(letter: str, accidental: str) -> int:
    return (_STEPS[letter] + {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}[accidental]) % 12


def parse_chord(symbol: str) -> tuple[int, int, int]:
    """Root 0-11 (NO_CHORD: "N.C."), index in QUALITIES and bass 0-11 of a symbol. Raises UnknownChord."""
    text = symbol.strip()
    if text in NONE_WORDS:
        return NO_CHORD, 0, 0
    match = _SYMBOL.fullmatch(text)
    word = match.group(3).strip().replace("(", "").replace(")", "").replace(" ", "") if match else ""
    for spelling in (word, word[:1] + word[1:].lower(), word.lower()):
        if match and spelling in _READ_AS:
            root = _pitch_class(match.group(1), match.group(2))
            bass = _pitch_class(match.group(4), match.group(5)) if match.group(4) else root
            return root, NAMES.index(_READ_AS[spelling]), bass
    raise UnknownChord(
        f"unknown chord {symbol!r}: write a root (C, F#, Bb), then nothing for major or one of "
        f"{', '.join(name for name in NAMES if name)} (also 6, 9, 11, 13, add9, ø, °, +), then /bass if it "
        f"is not the root; N.C. for no chord"
    )


def chord_name(root: int, quality: int, bass: int) -> str:
    """As "Dm7" or "C/E"; "N.C." where there is none."""
    if root == NO_CHORD:
        return "N.C."
    return f"{ROOTS[root]}{NAMES[quality]}" + (f"/{ROOTS[bass]}" if bass != root else "")


def by_tick(chords: np.ndarray) -> np.ndarray:
    """Root, quality and bass at every tick, int64 (ticks, 3), of chords by beat (n, 5): tick, length, root,
    quality, bass."""
    return np.repeat(chords[:, 2:5], chords[:, 1], axis=0)
