"""ABC notation of a sheet (ABC 2.1): one voice of the text for every voice of a staff.

Accidentals are written wherever a reader may have to guess: on every note that the signature does not give,
and after another of the same letter in the bar, in whatever octave.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from music.score.instruments import DRUMS
from music.writing.engraving import Measure, Sheet, Symbol
from music.writing.note_values import GRID, values
from music.writing.spelling import LETTERS, Key, spelled

UNIT = GRID // 2  # L:1/8
ACCIDENTALS = {-2: "__", -1: "_", 0: "=", 1: "^", 2: "^^"}
CLEFS = {"treble8vb": "treble-8", "percussion": "perc"}  # others have the same name
RAISED = {"treble8vb": 12}  # what the clef lowers when it is played
MODES = {"major": "", "minor": "m", "dorian": "dor", "mixolydian": "mix"}
MEASURES_A_LINE = 4


@dataclass(frozen=True)
class Voice:
    number: int
    name: str
    clef: str
    setting: str
    raised: int
    measures: list[list[Symbol]]


def to_abc(sheet: Sheet) -> str:
    """One tune."""
    first = sheet.measures[0]
    voices = _voices(sheet)
    tempo = next((qpm for at, qpm in first.tempos if at <= first.missing), None)
    lines = ["X:1", f"T:{_plain(sheet.title) or 'Untitled'}", f"M:{_metre(first)}", "L:1/8"]
    if tempo:
        lines.append(f"Q:1/4={tempo:g}")
    if len(voices) > 1:
        lines += [f"%%score {_score_layout(sheet)}", *map(_defined, voices)]
    clef = f" clef={voices[0].clef}" if len(voices) == 1 else ""
    lines.append(f"K:{_key(first.key)}{clef}")
    for voice in voices:
        lines.append(_opening(voice, len(voices)))
        lines += _lines(sheet, voice)
    return "\n".join(lines) + "\n"


def _voices(sheet: Sheet) -> list[Voice]:
    found: list[Voice] = []
    for part in sheet.parts:
        drums = part.program == DRUMS
        for staff in part.staves:
            for n in range(max(map(len, staff.measures))):
                measures = [voices[n] if n < len(voices) else [] for voices in staff.measures]
                setting = "channel 10" if drums else f"program {part.program}"
                clef, raised = CLEFS.get(staff.clef, staff.clef), RAISED.get(staff.clef, 0)
                found.append(Voice(len(found) + 1, _plain(part.name), clef, setting, raised, measures))
    return found


def _defined(voice: Voice) -> str:
    return f'V:{voice.number} clef={voice.clef} name="{voice.name}"'


def _opening(voice: Voice, of: int) -> str:
    """The clef again: abc2midi forgets the first voice's at K:."""
    return (f"[V:{voice.number} clef={voice.clef}]" if of > 1 else "") + f"[I:MIDI {voice.setting}]"


def _score_layout(sheet: Sheet) -> str:
    """Staves of the score, as "{(1 2) | 3} 4"."""
    found, number = [], 0
    for part in sheet.parts:
        staves = []
        for staff in part.staves:
            count = max(map(len, staff.measures))
            numbers = " ".join(str(number + n + 1) for n in range(count))
            staves.append(f"({numbers})" if count > 1 else numbers)
            number += count
        found.append("{" + " | ".join(staves) + "}" if len(staves) > 1 else staves[0])
    return " ".join(found)


def _lines(sheet: Sheet, voice: Voice) -> Iterator[str]:
    line: list[str] = []
    first = voice.number == 1
    before = sheet.measures[0]
    for n, (measure, symbols) in enumerate(zip(sheet.measures, voice.measures, strict=True)):
        fields = []
        if measure.metre != before.metre:
            fields.append(f"[M:{_metre(measure)}]")
        if measure.key != before.key:
            fields.append(f"[K:{_key(measure.key)}]")
        text = "".join(fields) + _measure(measure, symbols, voice.raised, first, n == 0)
        line.append(text + ("|]" if n == len(sheet.measures) - 1 else "|"))
        before = measure
        if len(line) == MEASURES_A_LINE:
            yield " ".join(line)
            line = []
    if line:
        yield " ".join(line)


def _measure(measure: Measure, symbols: Sequence[Symbol], raised: int, first: bool, opening: bool) -> str:
    """The text between two barlines; the first voice carries tempos and chord symbols."""
    above: dict[int, str] = {}
    if first:
        for at, qpm in measure.tempos:
            if not opening or at > measure.missing:
                above[at] = above.get(at, "") + f"[Q:1/4={qpm:g}]"
        for at, name in measure.chords:
            above[at] = above.get(at, "") + f'"{name}"'
    if not symbols:
        length = measure.length - measure.missing
        return "x" + _length(Fraction(length))
    altered: dict[str, set[int]] = {}
    words: list[str] = []
    group = ""
    for opening_of, symbol in _grouped(_split_at(symbols, sorted(above), measure)):
        told = above.get(symbol.onset, "")
        text = told + opening_of + _symbol(symbol, measure.key, altered, raised)
        in_beam = symbol.length < GRID and symbol.onset % (GRID if measure.metre[1] < 8 else 3 * UNIT)
        if in_beam and not told.startswith("["):
            group += text
        else:
            words += [group] if group else []
            group = text
    return " ".join([*words, group])


def _split_at(symbols: Sequence[Symbol], places: Sequence[int], measure: Measure) -> list[Symbol]:
    """The symbols, tied where something stands above their middle."""
    found: list[Symbol] = []
    for symbol in symbols:
        end = symbol.onset + symbol.length
        inside = [place for place in places if symbol.onset < place < end]
        pieces = [(symbol.onset, symbol.length)]
        if inside:
            stretches = pairwise([symbol.onset, *inside, end])
            pieces = [piece for start, stop in stretches for piece in values(start, stop, measure.metre)]
        for n, (onset, length) in enumerate(pieces):
            on = symbol.tied_on or (bool(symbol.pitches) and n < len(pieces) - 1)
            back = symbol.tied_back or n > 0
            found.append(replace(symbol, onset=onset, length=length, tied_on=on, tied_back=back))
    return found


def _grouped(symbols: Sequence[Symbol]) -> Iterator[tuple[str, Symbol]]:
    """Every symbol with what opens a tuplet before it."""
    at = 0
    while at < len(symbols):
        if symbols[at].length % 3 == 0:
            yield "", symbols[at]
            at += 1
            continue
        run = [symbols[at]]
        while at + len(run) < len(symbols) and symbols[at + len(run)].length % 3:
            if sum(symbol.length for symbol in run) % UNIT == 0:
                break
            run.append(symbols[at + len(run)])
        for n, symbol in enumerate(run):
            yield "" if n else "(3" if len(run) == 3 else f"(3:2:{len(run)}", symbol
        at += len(run)


def _symbol(symbol: Symbol, key: Key, altered: dict[str, set[int]], raised: int) -> str:
    length = Fraction(symbol.length) if symbol.length % 3 == 0 else Fraction(symbol.length * 3, 2)
    if not symbol.pitches:
        return "z" + _length(length)
    notes = [_note(pitch + raised, key, altered) for pitch in symbol.pitches]
    head = notes[0] if len(notes) == 1 else f"[{''.join(notes)}]"
    return head + _length(length) + ("-" if symbol.tied_on else "")


def _note(pitch: int, key: Key, altered: dict[str, set[int]]) -> str:
    letter, alter, octave = spelled(pitch, key)
    signed = 1 if LETTERS.index(letter) < key.fifths else -1 if LETTERS.index(letter) - 7 >= key.fifths else 0
    before = altered.setdefault(letter, set())
    shown = alter != signed or bool(before)
    if alter != signed:
        before.add(alter)
    name = letter.lower() + "'" * (octave - 5) if octave > 4 else letter + "," * (4 - octave)
    return (ACCIDENTALS[alter] if shown else "") + name


def _length(ticks: Fraction) -> str:
    length = ticks / UNIT
    below = "" if length.denominator == 1 else "/" if length.denominator == 2 else f"/{length.denominator}"
    return ("" if length.numerator == 1 else str(length.numerator)) + below


def _metre(measure: Measure) -> str:
    return "{}/{}".format(*measure.metre)


def _key(key: Key) -> str:
    return key.tonic + MODES[key.mode]


def _plain(text: str) -> str:
    return " ".join(text.replace('"', "'").replace("%", "").split())
