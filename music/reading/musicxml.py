"""MusicXML and its zip archives, element by element.

No library reads all that people have right (`python -m benchmarks.readers`, docs/files.md): what sounds is
taken here, which is pitches after transposition, drums by their MIDI notes, ties merged, loudness by dynamic
marks, repeats as they are played; cue and grace notes are left out. Measures of all parts begin together.
"""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from lxml import etree

from music.reading.notation import Bar, Page, Part
from music.reading.repeats import Signs, played_order
from music.score.chords import ROOTS
from music.score.errors import UnreadableScore
from music.score.form import VELOCITY
from music.score.instruments import program_of_part

CONVERTER = "musicxml"
UNPACKED = 64_000_000  # bytes of an archive, at most
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
DRUM_CHANNEL = 10
UNITS = {"breve": "8", "whole": "4", "half": "2", "quarter": "1", "eighth": "1/2", "16th": "1/4"}
DYNAMICS = {"pppp": 10, "ppp": 23, "pp": 36, "p": 49, "mp": 64, "mf": 80, "f": 96, "ff": 112, "fff": 120}
SOUNDING = 90  # velocity of 100 in <sound dynamics>, as the format has it
# of <kind>, as chord symbols; what is not here is told by its text
KINDS = {
    "major": "", "minor": "m", "augmented": "aug", "diminished": "dim", "dominant": "7",
    "major-seventh": "maj7", "minor-seventh": "m7", "diminished-seventh": "dim7", "augmented-seventh": "7#5",
    "half-diminished": "m7b5", "major-minor": "mM7", "major-sixth": "6", "minor-sixth": "m6",
    "dominant-ninth": "9", "major-ninth": "maj9", "minor-ninth": "m9", "dominant-11th": "11",
    "minor-11th": "m11", "dominant-13th": "13", "major-13th": "maj13", "minor-13th": "m13",
    "suspended-second": "sus2", "suspended-fourth": "sus4", "power": "5",
}  # fmt: skip
Node = Any


def read_musicxml(data: bytes) -> Page:
    """Raises UnreadableScore with the part and measure."""
    root = _parsed(_unpacked(data) if data[:2] == b"PK" else data)
    if root.tag == "score-timewise":
        parts = _regrouped(root)
    elif root.tag == "score-partwise":
        parts = [(part.get("id", ""), part.findall("measure")) for part in root.findall("part")]
    else:
        raise UnreadableScore(
            f"cannot read the file as MusicXML: it starts with <{root.tag}>, a score starts with "
            "<score-partwise>"
        )
    listed = {each.get("id", ""): each for each in root.findall("part-list/score-part")}
    readers = [_PartReader(name, listed.get(name)) for name, _ in parts]
    bars: list[Bar] = []
    tempos: list[tuple[Fraction, float]] = []
    start = Fraction(0)
    for n in range(max((len(measures) for _, measures in parts), default=0)):
        lengths = [
            reader.measure(measures[n], start, tempos)
            for reader, (_, measures) in zip(readers, parts, strict=True)
            if n < len(measures)
        ]
        metre = next((reader.metre for reader in readers if reader.metre), (4, 4))
        full = Fraction(4 * metre[0], metre[1])  # one part may be short of it, or have too much
        length = full if full in lengths else max(lengths, default=full) or full
        bars.append((start, length, metre))
        start += length
    if not bars:
        raise UnreadableScore("the file has no measures")
    keys = [reader.key for reader in readers if reader.key is not None]
    chords = max((reader.chords for reader in readers), key=len)
    return Page(
        [reader.part for reader in readers],
        bars,
        tempos,
        keys[0] if keys else None,
        sorted(chords, key=lambda chord: chord[0]),
        played_order(_signs([measures for _, measures in parts], len(bars))),
    )


def _unpacked(data: bytes) -> bytes:
    """The score of an archive: what its container names, else its first .xml."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(each.file_size for each in archive.infolist()) > UNPACKED:
                raise UnreadableScore(f"the archive unpacks to more than {UNPACKED // 10**6} MB")
            names = archive.namelist()
            name = ""
            if "META-INF/container.xml" in names:
                container = _parsed(archive.read("META-INF/container.xml"))
                name = next((n.get("full-path", "") for n in container.iter("{*}rootfile")), "")
            if name not in names:
                inside = [n for n in names if n.lower().endswith((".xml", ".musicxml"))]
                name = next((n for n in inside if not n.startswith("META-INF")), "")
            if not name:
                raise UnreadableScore("cannot read the archive: there is no score in it")
            return archive.read(name)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise UnreadableScore(f"cannot read the archive ({error}): export the score again") from error


def _parsed(data: bytes) -> Node:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    try:
        tree = etree.parse(io.BytesIO(data), parser)
    except etree.XMLSyntaxError as error:
        raise UnreadableScore(
            f"cannot read the file as XML ({error}): check that it opens in a notation program and export it "
            "again"
        ) from error
    if tree.docinfo.internalDTD is not None and any(True for _ in tree.docinfo.internalDTD.iterentities()):
        raise UnreadableScore("the file defines entities of its own, which are not read: export it again")
    return tree.getroot()


def _regrouped(root: Node) -> list[tuple[str, list[Node]]]:
    """Measures by part of a score that has parts by measure."""
    found: dict[str, list[Node]] = {}
    for measure in root.findall("measure"):
        for part in measure.findall("part"):
            part.set("number", measure.get("number", ""))
            found.setdefault(part.get("id", ""), []).append(part)
    return list(found.items())


def _signs(parts: list[list[Node]], count: int) -> list[Signs]:
    """What stands at each measure in any part that says how it is played."""
    signs = [Signs() for _ in range(count)]
    for measures in parts:
        under: tuple[int, ...] = ()
        for each, measure in zip(signs, measures, strict=False):
            for ending in measure.iterfind("barline/ending"):
                if ending.get("type") == "start":
                    words = (ending.get("number") or "").replace(",", " ").replace(".", " ").split()
                    under = tuple(int(word) for word in words if word.isdecimal())
            each.endings = each.endings or under
            if any(e.get("type") in ("stop", "discontinue") for e in measure.iterfind("barline/ending")):
                under = ()
            for repeat in measure.iterfind("barline/repeat"):
                each.forward |= repeat.get("direction") == "forward"
                each.backward |= repeat.get("direction") == "backward"
                if (repeat.get("times") or "").isdecimal():
                    each.times = max(int(repeat.get("times")), 1)
            for sound in measure.iter("sound"):
                each.segno = each.segno or sound.get("segno", "")
                each.coda = each.coda or sound.get("coda", "")
                each.to_coda = each.to_coda or sound.get("tocoda", "")
                each.fine |= sound.get("fine") is not None
                each.jump = each.jump or sound.get("dalsegno", "")
                each.jump = each.jump or ("capo" if sound.get("dacapo") == "yes" else "")
    return signs


def _text(node: Node, path: str, default: str = "") -> str:
    return (node.findtext(path) or default).strip()


@dataclass
class _PartReader:
    """Reads the measures of one part in order."""

    id: str
    listed: Node
    part: Part = field(default_factory=Part)
    metre: tuple[int, int] | None = None
    key: tuple[int, int] | None = None
    chords: list[tuple[Fraction, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._divisions, self._transpose, self._loudness = Fraction(1), 0, VELOCITY
        self._drums: dict[str, int] = {}
        if self.listed is None:
            return
        self.part.name = _text(self.listed, "part-name")
        programs = [_text(each, "midi-program") for each in self.listed.findall("midi-instrument")]
        for each in self.listed.findall("midi-instrument"):
            if pitch := _text(each, "midi-unpitched"):
                self._drums[each.get("id", "")] = int(Fraction(pitch)) - 1
            self.part.is_drum |= _text(each, "midi-channel") == str(DRUM_CHANNEL)
        names = [
            self.part.name,
            *(_text(each, "instrument-name") for each in self.listed.findall("score-instrument")),
        ]
        if programs and programs[0]:
            self.part.program = min(max(int(Fraction(programs[0])) - 1, 0), 127)
        else:
            self.part.program = next((p for p in map(program_of_part, names) if p > 0), 0)

    def measure(self, measure: Node, start: Fraction, tempos: list[tuple[Fraction, float]]) -> Fraction:
        """Read a measure that starts at `start`; its length. Raises UnreadableScore."""
        try:
            return self._measure(measure, start, tempos)
        except (ValueError, ArithmeticError, LookupError, TypeError) as error:
            raise UnreadableScore(
                f"part {self.id}, measure {measure.get('number', '?')}: {error}; correct it in a notation "
                "program"
            ) from error

    def _measure(self, measure: Node, start: Fraction, tempos: list[tuple[Fraction, float]]) -> Fraction:
        at = onset = furthest = start
        for node in measure:
            if node.tag == "attributes":
                self._attributes(node)
            elif node.tag == "note":
                if node.find("grace") is not None:
                    continue
                length = self._length(node)
                chord = node.find("chord") is not None
                onset = onset if chord else at
                if node.find("rest") is None and node.find("cue") is None:
                    self._note(node, onset, length)
                at = max(at, onset + length) if chord else at + length
            elif node.tag == "backup":
                at = max(at - self._length(node), start)
            elif node.tag == "forward":
                at += self._length(node)
            elif node.tag in ("direction", "sound"):
                tempos += [(at, qpm) for qpm in _tempo(node)]
                self._loudness = _loudness(node, self._loudness)
            elif node.tag == "harmony":
                begin = at + Fraction(_text(node, "offset", "0")) / self._divisions
                self.chords += [(max(begin, start), symbol) for symbol in _symbol(node, self._transpose)]
            furthest = max(furthest, at)
        return furthest - start

    def _length(self, node: Node) -> Fraction:
        return Fraction(_text(node, "duration", "0")) / self._divisions

    def _attributes(self, node: Node) -> None:
        if divisions := _text(node, "divisions"):
            self._divisions = Fraction(divisions)
            if self._divisions <= 0:
                raise ValueError(f"divisions are {divisions}")
        shift = node.find("transpose")
        if shift is not None:
            octaves = int(Fraction(_text(shift, "octave-change", "0")))
            self._transpose = round(Fraction(_text(shift, "chromatic", "0"))) + 12 * octaves
        time = node.find("time")
        if time is not None and time.find("beats") is not None:
            self.metre = _metre(time)
        key = node.find("key/fifths")
        if key is not None and self.key is None:
            fifths = int(Fraction(key.text or "0")) + (7 * self._transpose + 6) % 12 - 6
            fifths = fifths - 12 if fifths > 7 else fifths + 12 if fifths < -7 else fifths
            self.key = (fifths, int(_text(node, "key/mode") == "minor"))

    def _note(self, node: Node, onset: Fraction, length: Fraction) -> None:
        if length <= 0:
            return
        kinds = {tie.get("type") for tie in (*node.findall("tie"), *node.findall("notations/tied"))}
        if node.find("unpitched") is not None:
            self.part.is_drum = True
            pitch = self._drum(node)
        else:
            step = _text(node, "pitch/step").upper()
            alter = round(Fraction(_text(node, "pitch/alter", "0")))
            pitch = STEPS[step] + alter + 12 * (int(_text(node, "pitch/octave")) + 1) + self._transpose
        if not 0 <= pitch <= 127:
            raise ValueError(f"a note sounds at MIDI pitch {pitch}, outside 0 to 127")
        own = node.get("dynamics")
        loud = _velocity(own) if own else self._loudness
        self.part.add(onset, length, pitch, "start" in kinds, "stop" in kinds, loud)

    def _drum(self, node: Node) -> int:
        named = node.find("instrument")
        pitch = self._drums.get(named.get("id", "") if named is not None else next(iter(self._drums), ""))
        if pitch is None:
            raise ValueError(
                "an unpitched note names no drum: give its instrument a <midi-unpitched> in the part list"
            )
        return pitch


def _metre(time: Node) -> tuple[int, int]:
    """3+2 over 8 is 5/8; 2/4 + 3/8 is 7/8."""
    total, below = Fraction(0), 1
    for beats, unit in zip(time.findall("beats"), time.findall("beat-type"), strict=True):
        count, each = sum(int(n) for n in (beats.text or "").split("+")), int(unit.text or "4")
        total, below = total + Fraction(count, each), max(below, each)
    numerator = total * below
    if numerator <= 0 or numerator.denominator != 1:
        raise ValueError("the metre is no whole number of beats")
    return int(numerator), below


def _tempo(node: Node) -> Iterator[float]:
    """Quarters a minute of a <sound> or a metronome mark."""
    sound = node if node.tag == "sound" else node.find("sound")
    if sound is not None and sound.get("tempo"):
        yield float(sound.get("tempo", ""))
        return
    for mark in node.iter("metronome"):
        digits = "".join(c if c.isdigit() or c == "." else " " for c in _text(mark, "per-minute")).split()
        unit = UNITS.get(_text(mark, "beat-unit"))
        if digits and unit:
            dotted = Fraction(2) - Fraction(1, 2 ** len(mark.findall("beat-unit-dot")))
            yield float(Fraction(unit) * dotted) * float(digits[0])


def _velocity(percent: str) -> int:
    return min(max(round(SOUNDING * float(percent) / 100), 1), 127)


def _loudness(node: Node, before: int) -> int:
    """Velocity after a direction."""
    for sound in node.iter("sound"):
        if sound.get("dynamics"):
            return _velocity(sound.get("dynamics"))
    marks = [mark.tag for found in node.iter("dynamics") for mark in found if mark.tag in DYNAMICS]
    return DYNAMICS[marks[-1]] if marks else before


def _symbol(node: Node, transpose: int) -> Iterator[str]:
    """The chord symbol of a <harmony> as it sounds."""
    kind = node.find("kind")
    if kind is not None and (kind.text or "").strip() == "none":
        yield "N.C."
    root = node.find("root")
    if kind is None or root is None:
        return
    quality = KINDS.get((kind.text or "").strip(), kind.get("text", ""))
    symbol = _named(root, "root", transpose) + quality
    bass = node.find("bass")
    yield symbol if bass is None else f"{symbol}/{_named(bass, 'bass', transpose)}"


def _named(node: Node, which: str, transpose: int) -> str:
    alter = round(Fraction(_text(node, f"{which}-alter", "0")))
    return ROOTS[(STEPS[_text(node, f"{which}-step").upper()] + alter + transpose) % 12]
