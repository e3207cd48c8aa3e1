"""MusicXML of a sheet, through music21: it beams, brackets tuplets, decides which accidentals are shown, and
writes.

Compared with the writers of partitura and of music21 from MIDI by `python -m benchmarks.writers`.
"""

from functools import cache
from typing import Any

from music.score.chords import NAMES, NO_CHORD, parse_chord
from music.score.instruments import DRUMS
from music.writing.engraving import Measure, Sheet, SheetPart, Staff, Symbol
from music.writing.note_values import GRID
from music.writing.spelling import Key, spelled

# of chord qualities, <kind> of the format
KINDS = {
    "": "major", "m": "minor", "dim": "diminished", "aug": "augmented", "7": "dominant-seventh",
    "maj7": "major-seventh", "m7": "minor-seventh", "m7b5": "half-diminished-seventh",
    "dim7": "diminished-seventh", "sus4": "suspended-fourth",
}  # fmt: skip
STEPS = "CDEFGAB"
DRUM_CHANNEL = 9  # from 0
CHANNELS = [n for n in range(16) if n != DRUM_CHANNEL]
# where drums stand on their staff, as a pitch in the treble clef
DISPLAYED = {35: "F4", 36: "F4", 38: "C5", 40: "C5", 42: "G5", 44: "D4", 46: "G5", 49: "A5", 51: "F5"}


@cache
def _music21() -> Any:
    import music21

    return music21


def to_musicxml(sheet: Sheet) -> bytes:
    """A MusicXML document (score-partwise, UTF-8)."""
    m = _music21()
    score = m.stream.Score()
    score.insert(0, m.metadata.Metadata(title=sheet.title or "-"))
    for part in sheet.parts:
        staves = [_staff(sheet, part, staff, n) for n, staff in enumerate(part.staves)]
        for staff in staves:
            score.insert(0, staff)
        if len(staves) > 1:
            score.insert(0, m.layout.StaffGroup(staves, name=part.name, symbol="brace"))
    exporter = m.musicxml.m21ToXml.ScoreExporter(score, makeNotation=False)
    root = exporter.parse()
    for parent in [*root.iter("identification"), *root.iter("encoding")]:  # the same notes, the same bytes
        for found in [*parent.findall("creator"), *parent.findall("encoding-date")]:
            parent.remove(found)
    for named in [root.find("work"), root.find("movement-title")] if not sheet.title else []:
        root.remove(named)  # music21 makes one up
    _set_drums(root)
    return bytes(exporter.asBytes())


def _set_drums(root: Any) -> None:
    """For every struck note its drum: music21 gives all notes of a chord the same one. Until here a drum
    stands at the step of its MIDI note."""
    for part in root.iter("part"):
        for note in part.iter("note"):
            place = note.find("unpitched")
            if place is None:
                continue
            step, octave = place.find("display-step"), place.find("display-octave")
            pitch = 7 * int(octave.text) + STEPS.index(step.text)
            step.text, octave.text = tuple(DISPLAYED.get(pitch, "E4"))
            if (named := note.find("instrument")) is not None:  # left out where the part has one drum
                named.set("id", f"{part.get('id')}-{pitch}")


def _staff(sheet: Sheet, part: SheetPart, staff: Staff, number: int) -> Any:
    m = _music21()
    made = (m.stream.PartStaff if len(part.staves) > 1 else m.stream.Part)()
    made.partName = part.name
    drums = _drums(part, staff) if part.program == DRUMS else {}
    place = sheet.parts.index(part) + 1
    for named, instrument in drums.items() if drums else [("I1", _instrument(part))]:
        channel = DRUM_CHANNEL if drums else CHANNELS[(place - 1) % len(CHANNELS)]
        instrument.midiChannel = channel
        instrument.autoAssignMidiChannel = lambda channel=channel, **_: channel  # two of one are no fault
        instrument.partId, instrument.instrumentId = f"P{place}", f"P{place}-{named}"
        made.insert(0, instrument)
    key, metre, at = None, None, 0
    for n, (measure, voices) in enumerate(zip(sheet.measures, staff.measures, strict=True)):
        bar = m.stream.Measure(number=n + (not sheet.measures[0].missing))
        if n == 0:
            bar.clef = (
                m.clef.clefFromString(staff.clef) if staff.clef != "percussion" else m.clef.PercussionClef()
            )
        if measure.key != key and part.program != DRUMS:
            bar.keySignature, key = m.key.KeySignature(measure.key.fifths), measure.key
        if measure.metre != metre:
            bar.timeSignature, metre = m.meter.TimeSignature("{}/{}".format(*measure.metre)), measure.metre
        bar.paddingLeft = measure.missing / GRID
        if number == 0 and part is sheet.parts[0]:
            _above(bar, measure)
        _fill(bar, measure, voices, drums)
        made.insert(at / GRID, bar)
        at += measure.length - measure.missing
    bar.rightBarline = m.bar.Barline("final")
    measures = made.getElementsByClass("Measure").stream()
    _beam(list(measures), sheet)
    for bar in measures:
        _part_stems(list(bar.voices))
    if part.program != DRUMS:
        m.stream.makeNotation.makeAccidentalsInMeasureStream(measures)
    return made


def _beam(bars: list[Any], sheet: Sheet) -> None:
    """Beams, with the metre in every bar while they are made: where it stands at its change alone, music21
    looks for it through all of the part, bar by bar."""
    m = _music21()
    for bar, measure in zip(bars, sheet.measures, strict=True):
        borrowed = None
        if bar.timeSignature is None:
            borrowed = bar.timeSignature = m.meter.TimeSignature("{}/{}".format(*measure.metre))
        m.stream.makeNotation.makeBeams(bar, inPlace=True)
        if borrowed is not None:
            bar.remove(borrowed)


def _above(bar: Any, measure: Measure) -> None:
    """Tempos and chord symbols of a measure."""
    m = _music21()
    for at, qpm in measure.tempos:
        bar.insert((at - measure.missing) / GRID, m.tempo.MetronomeMark(number=round(qpm, 2)))
    for at, symbol in measure.chords:
        bar.insert((at - measure.missing) / GRID, _harmony(symbol, measure.key))


def _harmony(symbol: str, key: Key) -> Any:
    m = _music21()
    root, quality, bass = parse_chord(symbol)
    if root == NO_CHORD:
        return m.harmony.NoChord()
    return m.harmony.ChordSymbol(
        root=_pitch(root + 60, key).name, kind=KINDS[NAMES[quality]], bass=_pitch(bass + 60, key).name
    )


def _fill(bar: Any, measure: Measure, voices: list[list[Symbol]], drums: dict[int, Any]) -> None:
    m = _music21()
    several = sum(map(bool, voices)) > 1
    for n, symbols in enumerate(voices):
        line = m.stream.Voice(id=str(n + 1)) if several else bar
        for symbol in symbols:
            line.insert((symbol.onset - measure.missing) / GRID, _symbol(symbol, measure.key, drums))
        if symbols:
            m.stream.makeNotation.makeTupletBrackets(line, inPlace=True)
        if several and symbols:
            bar.insert(0, line)


def _part_stems(voices: list[Any]) -> None:
    """Where voices share a staff, stems of the higher go up and of the lower down."""
    heights = [sum(p.ps for p in v.pitches) / len(v.pitches) if v.pitches else 0.0 for v in voices]
    highest = max(heights, default=0.0)
    for voice, height in zip(voices, heights, strict=True):
        for each in voice.notes:
            each.stemDirection = "up" if height == highest else "down"


def _symbol(symbol: Symbol, key: Key, drums: dict[int, Any]) -> Any:
    m = _music21()
    length = m.common.opFrac(symbol.length / GRID)
    if not symbol.pitches:
        return m.note.Rest(quarterLength=length)
    if drums:
        notes = [m.note.Unpitched(f"{STEPS[pitch % 7]}{pitch // 7}") for pitch in symbol.pitches]
        for each, pitch in zip(notes, symbol.pitches, strict=True):
            each.storedInstrument = drums[pitch]
    else:
        notes = [m.note.Note(_pitch(pitch, key)) for pitch in symbol.pitches]
    tie = {(True, False): "start", (False, True): "stop", (True, True): "continue"}.get(
        (symbol.tied_on, symbol.tied_back)
    )
    for each in notes:
        each.duration.quarterLength = length
        if tie:
            each.tie = m.tie.Tie(tie)
        each.volume.velocity = symbol.velocity
    if len(notes) == 1:
        return notes[0]
    made = (m.percussion.PercussionChord if drums else m.chord.Chord)(notes)
    made.duration.quarterLength = length
    return made


def _pitch(pitch: int, key: Key) -> Any:
    letter, alter, octave = spelled(pitch, key)
    made = _music21().pitch.Pitch(letter + ("#" * alter if alter > 0 else "-" * -alter))
    made.octave = octave  # not in the name: an octave below 0 would be read as a flat
    return made


def _instrument(part: SheetPart) -> Any:
    m = _music21()
    made = m.instrument.instrumentFromMidiProgram(part.program)
    made.transposition = None  # pitches are written as they sound
    made.midiProgram = part.program
    return _named(made, part)


def _drums(part: SheetPart, staff: Staff) -> dict[int, Any]:
    """An instrument for each MIDI note of a drum set: readers know the drum by it."""
    m = _music21()
    struck = {pitch for voices in staff.measures for v in voices for symbol in v for pitch in symbol.pitches}
    found = {}
    for pitch in sorted(struck):
        kind = type(f"Drum{pitch}", (m.instrument.UnpitchedPercussion,), {})  # music21 tells them by class
        found[pitch] = _named(kind(), part)
        found[pitch].percMapPitch = pitch
        found[pitch].instrumentName = f"{part.name} {pitch}"
    return found


def _named(made: Any, part: SheetPart) -> Any:
    made.instrumentName = made.partName = part.name
    words = part.name.split()
    made.instrumentAbbreviation = made.partAbbreviation = " ".join(
        word if word.isdecimal() else word[:1] + "." for word in words
    )
    return made
