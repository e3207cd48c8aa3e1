"""General MIDI program numbers by name, and the order of parts in a score."""

import re
from functools import cache

from music.score.without_torch import without_torch

DRUMS = -1
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
_VOICE = 52
# What part names of scores say in other languages and in full, beside the names of General MIDI.
_IN_SCORES = {
    0: "klavier pianoforte fortepiano",
    6: "cembalo clavicembalo clavecin clavier harpsichord spinet virginal",
    19: "organ orgel organo orgue",
    24: "guitar gitarre chitarra guitare lute laute liuto luth",
    40: "violino violine geige violon fiddle",
    41: "bratsche",
    42: "violoncello violoncelle vc gamba",
    43: "contrabasso kontrabass contrebasse violone",
    46: "harp harfe arpa harpe",
    47: "pauken timbales timpano kettledrums",
    52: "singstimme gesang chant canto voce vox stimme cantus discantus superius altus bassus quintus sextus "
    "sopran sopranos altos mezzo contralto countertenor basso baritone bariton baritono mezzosopran",
    56: "trompete tromba clarino trompette cornet",
    57: "posaune trombone tromboni",
    58: "basstuba",
    60: "waldhorn corno corni cor hörner",
    65: "saxophone saxofon sassofono",
    68: "hautbois oboi hoboe",
    69: "englischhorn",
    70: "fagott fagotto fagotti basson",
    71: "klarinette clarinetto clarinetti clarinette",
    72: "ottavino",
    73: "flöte querflöte flauto flauti flûte traverso",
    74: "recorder blockflöte",
}
_ALIASES_OF_SCORES = {word: program for program, words in _IN_SCORES.items() for word in words.split()} | {
    "viola da gamba": 42,
    "double bass": 43,
    "string bass": 43,
    "electric bass": 33,
    "soprano saxophone": 64,
    "tenor saxophone": 66,
    "baritone saxophone": 67,
    "corno inglese": 69,
    "cor anglais": 69,
    "flauto piccolo": 72,
    "flauto dolce": 74,
}


@cache
def _general_midi() -> list[str]:
    """Names of the 128 programs; miditok is imported when they are first asked for."""
    with without_torch():
        from miditok.constants import MIDI_INSTRUMENTS

    return [str(entry["name"]) for entry in MIDI_INSTRUMENTS]


@cache
def _by_name() -> dict[str, int]:
    return {name.lower(): program for program, name in enumerate(_general_midi())}


def program_of(name: str | int) -> int:
    """General MIDI program 0-127 (drums: -1) of a name, an alias ("fiddle", "soprano") or a number. Raises
    ValueError."""
    if isinstance(name, int) or re.fullmatch(r"-?[0-9]{1,4}", str(name)):
        program = int(name)
        if not DRUMS <= program <= 127:
            raise ValueError(f"program {program} is not General MIDI: use 0 to 127, or -1 for drums")
        return program
    word = name.strip().lower()
    program = _ALIASES.get(word, _by_name().get(word, -2))
    if program == -2:
        close = [known for known in (*_ALIASES, *_by_name()) if word and (word in known or known in word)][:5]
        hint = (
            f"; did you mean {', '.join(close)}?"
            if close
            else ": use a General MIDI name or a number from 0 to 127"
        )
        raise ValueError(f"unknown instrument {name!r}{hint}")
    return program


def name_of(program: int) -> str:
    """General MIDI name of a program; "Drums" for -1."""
    return "Drums" if program == DRUMS else _general_midi()[program]


def program_of_part(name: str) -> int:
    """General MIDI program of a part name in a score ("Violin II", "Corno in F", "Soprano"), in English,
    Italian, German or French; piano where the name says nothing. An instrument goes before a voice: an alto
    saxophone does not sing."""
    words = [
        word
        for word in re.split(r"[\s.,()\-]+", name.lower())
        if word and word not in ("i", "ii", "iii", "iv") and not word.isdigit()
    ]
    phrases = [" ".join(words[i : i + n]) for n in (3, 2, 1) for i in range(len(words) - n + 1)]
    found = [
        program
        for phrase in (name.lower().strip(), *phrases, *(word.rstrip("s") for word in words))
        for table in (_ALIASES, _by_name(), _ALIASES_OF_SCORES)
        if (program := table.get(phrase)) is not None
    ]
    return next((program for program in found if program != _VOICE), found[0] if found else 0)
