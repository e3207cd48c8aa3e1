"""General MIDI program numbers by name, and the order of parts in a score."""

import re

from miditok.constants import MIDI_INSTRUMENTS

DRUMS = -1
_BY_NAME = {str(entry["name"]).lower(): program for program, entry in enumerate(MIDI_INSTRUMENTS)}
_ALIASES = {
    "piano": 0,
    "harpsichord": 6,
    "organ": 19,
    "guitar": 24,
    "bass guitar": 33,
    "fiddle": 40,
    "strings": 48,
    "voice": 52,
    "choir": 52,
    "soprano": 52,
    "alto": 52,
    "tenor": 52,
    "bass": 52,
    "horn": 60,
    "sax": 65,
    "recorder": 74,
    "drums": DRUMS,
}


def program_of(name: str | int) -> int:
    """General MIDI program 0-127 (drums: -1) of a name, an alias ("fiddle", "soprano") or a number. Raises
    ValueError."""
    if isinstance(name, int) or re.fullmatch(r"-?[0-9]{1,4}", str(name)):
        program = int(name)
        if not DRUMS <= program <= 127:
            raise ValueError(f"program {program} is not General MIDI: use 0 to 127, or -1 for drums")
        return program
    word = name.strip().lower()
    program = _ALIASES.get(word, _BY_NAME.get(word, -2))
    if program == -2:
        close = [known for known in (*_ALIASES, *_BY_NAME) if word and (word in known or known in word)][:5]
        hint = (
            f"; did you mean {', '.join(close)}?"
            if close
            else ": use a General MIDI name or a number from 0 to 127"
        )
        raise ValueError(f"unknown instrument {name!r}{hint}")
    return program


def name_of(program: int) -> str:
    """General MIDI name of a program; "Drums" for -1."""
    return "Drums" if program == DRUMS else str(MIDI_INSTRUMENTS[program]["name"])


def program_of_part(name: str) -> int:
    """General MIDI program of a part name in a score ("Violin II", "Horn 2", "Soprano"); piano where the name
    says nothing."""
    words = [
        word
        for word in name.lower().replace(".", " ").replace("-", " ").split()
        if word not in ("i", "ii", "iii", "iv") and not word.isdigit()
    ]
    for candidate in (" ".join(words), *words, *(word.rstrip("so") for word in words)):
        program = _ALIASES.get(candidate, _BY_NAME.get(candidate))
        if program is not None:
            return program
    return 0
