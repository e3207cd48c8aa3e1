"""Humdrum kern: spines that split, join and change places, read line by line.

Each **kern spine is a part (its sub-spines are voices of it); a spine that stands for a staff of an
instrument stays a part of its own. Grace notes are left out, ties merged.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from music.reading.notation import Bar, Page, Part
from music.score.errors import UnreadableScore
from music.score.instruments import program_of_part

CONVERTER = "kern"
_NOTE = re.compile(r"([A-Ga-g]+)([#\-n]*)")
_LENGTH = re.compile(r"(\d+)(?:%(\d+))?(\.*)")
_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_CODES = {
    f"*I{code}": program
    for program, codes in {
        0: "piano forte", 4: "rhode", 6: "cemba virgi", 7: "clavi", 8: "clest", 9: "glock", 11: "vibra",
        12: "marim", 13: "xylo", 14: "campn caril chime", 15: "dulc", 16: "hammd", 19: "organ", 20: "reedo",
        21: "accor", 22: "armon", 24: "guitr liuto ukule tiorb archl", 25: "mando", 27: "eguit", 33: "bguit",
        40: "violn rebec", 41: "viola viold", 42: "cello violb violp violt", 43: "cbass", 46: "arpa",
        47: "timpa", 52: "vox feme male nfant soprn cant mezzo calto alto falto tenor barit bariu bass",
        56: "tromp clarp flugh corno", 57: "tromb tromt troma sackb", 58: "tuba", 60: "cor",
        64: "saxS saxN", 65: "saxA", 66: "saxT", 67: "saxR saxB", 68: "oboe oboeD", 69: "cangl",
        70: "fagot fag_c", 71: "clars clara clarb baset clarinet", 72: "picco fiffe",
        73: "flt flt_a flt_b flts", 74: "recor fltds fltda fltdt fltdb fltdn fltdc", 75: "panpi", 77: "shaku",
        79: "ocari", 104: "sitar", 105: "banjo", 106: "shami", 107: "koto",
        109: "bagpS bagpI cornm", 110: "kit", 114: "steel",
    }.items()
    for code in codes.split()
}  # fmt: skip


@dataclass(frozen=True)
class _Spine:
    """A column of the file: the part it belongs to (-1: no **kern), and where its last token ends."""

    part: int
    end: Fraction = Fraction(0)
    fresh: bool = True  # nothing has sounded in it since it split off


def read_kern(text: str) -> Page:
    """Raises UnreadableScore with the line."""
    spines: list[_Spine] = []
    parts: list[Part] = []
    at = Fraction(0)
    barlines: list[Fraction] = []
    metres: list[tuple[Fraction, tuple[int, int]]] = []
    tempos: list[tuple[Fraction, float]] = []
    key: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("!"):
            continue
        tokens = line.split("\t")
        try:
            if line.startswith("**"):
                spines = _opened(tokens, parts)
                continue
            if len(tokens) != len(spines):
                raise ValueError(f"{len(tokens)} columns where there are {len(spines)}")
            if any(token in ("*^", "*v", "*x", "*+", "*-") for token in tokens):
                spines = _rearranged(spines, tokens)
            elif line.startswith("*"):
                for spine, token in zip(spines, tokens, strict=True):
                    if spine.part < 0:
                        continue
                    now = max((s.end for s in spines if s.part >= 0), default=at)
                    if match := re.fullmatch(r"\*M(\d+)/(\d+).*", token):
                        metres.append((now, (int(match[1]), int(match[2]))))
                    elif match := re.fullmatch(r"\*MM\[?(\d+(?:\.\d+)?).*", token):
                        tempos.append((now, float(match[1])))
                    elif match := re.fullmatch(r"\*k\[(.*)\]", token):
                        key = key or (match[1].count("#") - match[1].count("-"), 0)
                    elif match := re.fullmatch(r"\*([A-Ga-g])[#-]?:.*", token):
                        key = (key[0], int(match[1].islower())) if key else key
                    _instrument(parts[spine.part], token)
            elif line.startswith("="):
                ends = [spine.end for spine in spines if spine.part >= 0]
                barlines.append(max(ends, default=at))
            else:
                at, spines = _sounded(tokens, spines, parts, at)
        except (ValueError, ArithmeticError, LookupError) as error:
            raise UnreadableScore(f"line {number}: {error}; correct it in the file") from error
    end = max((note[0] + note[1] for part in parts for note in part.notes), default=Fraction(0))
    return Page(parts[::-1], _bars(barlines, metres, end), tempos, key)


def _opened(tokens: list[str], parts: list[Part]) -> list[_Spine]:
    spines = []
    for token in tokens:
        if token == "**kern":
            parts.append(Part())
            spines.append(_Spine(len(parts) - 1))
        else:
            spines.append(_Spine(-1))
    if not parts:
        raise ValueError("there is no **kern spine")
    return spines


def _rearranged(spines: list[_Spine], tokens: list[str]) -> list[_Spine]:
    """Spines after a line of splits, joins, exchanges and ends."""
    found: list[_Spine] = []
    n = 0
    while n < len(tokens):
        spine, token = spines[n], tokens[n]
        if token == "*^":
            found += [spine, spine]
        elif token == "*v":
            group = [spine]
            while n + 1 < len(tokens) and tokens[n + 1] == "*v" and spines[n + 1].part == spine.part:
                n += 1
                group.append(spines[n])
            found.append(replace(spine, end=max(each.end for each in group)))
        elif token == "*x" and n + 1 < len(tokens) and tokens[n + 1] == "*x":
            found += [spines[n + 1], spine]
            n += 1
        elif token == "*+":
            found += [spine, _Spine(-1)]
        elif token != "*-":
            found.append(spine)
        n += 1
    return found


def _instrument(part: Part, token: str) -> None:
    if token.startswith('*I"'):
        part.name = token[3:].strip()
        if not part.program:
            part.program = max(program_of_part(part.name), 0)
    elif token in _CODES:
        part.program = _CODES[token]


def _sounded(
    tokens: list[str], spines: list[_Spine], parts: list[Part], at: Fraction
) -> tuple[Fraction, list[_Spine]]:
    """A line of data: all its tokens begin together, where the longest silent one before them has ended."""
    mine = [n for n, spine in enumerate(spines) if spine.part >= 0 and tokens[n] != "."]
    lengths = {n: _length(tokens[n]) for n in mine}
    onsets = [spines[n].end for n in mine if lengths[n] is not None]
    now = max(onsets, default=at)
    found = list(spines)
    for n in mine:
        length = lengths[n]
        if length is None:
            continue
        for note in tokens[n].split():
            if "r" not in note and "q" not in note.lower():
                starts, stops = "[" in note or "_" in note, "]" in note or "_" in note
                parts[spines[n].part].add(now, _length(note) or length, _pitch(note), starts, stops)
        found[n] = _Spine(spines[n].part, now + length, False)
    return now, found


def _length(token: str) -> Fraction | None:
    """Quarters of a token; None of a grace note."""
    if "q" in token.lower():
        return None
    match = _LENGTH.search(token)
    if not match:
        raise ValueError(f"{token!r} has no length")
    digits, below, dots = match.groups()
    if set(digits) == {"0"}:  # 0: two wholes, 00: four
        length = Fraction(4 * 2 ** len(digits))
    else:
        length = Fraction(4 * int(below or 1), int(digits))
    return length * (2 - Fraction(1, 2 ** len(dots)))


def _pitch(token: str) -> int:
    match = _NOTE.search(token)
    if not match or len(set(match[1])) > 1:
        raise ValueError(f"{token!r} has no pitch")
    letters, signs = match.groups()
    octave = 4 + len(letters) - 1 if letters[0].islower() else 4 - len(letters)
    pitch = 12 * (octave + 1) + _STEPS[letters[0].lower()] + signs.count("#") - signs.count("-")
    if not 0 <= pitch <= 127:
        raise ValueError(f"{token!r} sounds at MIDI pitch {pitch}, outside 0 to 127")
    return pitch


def _bars(
    barlines: list[Fraction], metres: list[tuple[Fraction, tuple[int, int]]], end: Fraction
) -> list[Bar]:
    edges = sorted({Fraction(0), *(line for line in barlines if line < end), end})
    bars: list[Bar] = []
    for start, stop in pairwise(edges):
        metre = [m for at, m in metres if at <= start][-1:] or [m for _, m in metres[:1]] or [(4, 4)]
        bars.append((start, stop - start, metre[0]))
    return bars or [(Fraction(0), Fraction(4), (4, 4))]
