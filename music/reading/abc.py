"""ABC notation: split a tune book, read headers, drop ornaments, find the upbeat, convert through abc2midi
(in symusic).

abc2midi writes no barlines, so a tune with an upbeat would come out with every bar shifted; the upbeat is
measured here from the text and the notes are moved so that bars are bars.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from symusic import Score

from music.score.errors import UnreadableScore
from music.score.form import FASTEST_QPM, SLOWEST_QPM, VELOCITY
from music.score.keys import parse_key

CONVERTER = "abc2midi"
_STRUCK_TOGETHER = "\n%%MIDI chordattack 0\n"  # abc2midi would break every chord
_VOICE_NAME = re.compile(r'^V:\s*(\S+)(?:.*?\b(?:name|nm)\s*=\s*"([^"]*)")?', flags=re.MULTILINE)
# a letter and a colon, where the colon is no repeat sign after a note
_FIELD = re.compile(r"^([A-Za-z]):(?![:|])\s*(.*?)\s*$")
_MUSIC_LETTERS = "abcdefgxzABCDEFGZ"  # in the body a line such as "A: |" is music
_INSTRUMENT = re.compile(r"^%%MIDI\s+(program|channel|transpose)\b")
_FIELD_LINES = re.compile(r"^(%%.*|[A-Za-z]:(?![:|]).*)$", flags=re.MULTILINE)
_COMMENT = re.compile(r"(?<!\\)%.*$")
# Chord symbols and annotations, decorations, grace notes, single-letter ornaments: abc2midi would play them
# as notes.
_ORNAMENTS = re.compile(
    r'"[^"]*"|![^!\n]*!|\+[a-z]+\+|\{[^}]*\}|[~.]|[uvHLMOPST](?=[\^_=]*[A-Ga-gz\[({"!~.])'
)
_TOKEN = re.compile(
    r"(?P<field>\[[A-Za-z]:[^\]]*\])"
    r"|(?P<bar>[:\[]*\|[|:\]]*|::)"
    r"|\((?P<tuplet>[2-9])(?::(?P<in>\d*))?(?::(?P<of>\d*))?"
    r"|(?P<broken><+|>+)"
    r"|(?P<chord>\[[^\]|:]+\])(?P<cnum>\d*)(?P<cslash>/*)(?P<cden>\d*)"
    r"|[\^_=]*(?P<note>[A-Ga-gzx])[,']*(?P<num>\d*)(?P<slash>/*)(?P<den>\d*)"
)
_TUPLET_TIME = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}


@dataclass(frozen=True)
class Tune:
    """One tune of a book: its number, header fields (first of each letter) and its text."""

    number: str
    fields: dict[str, str]
    text: str


def split_tunes(book: str) -> list[Tune]:
    """Tunes of an ABC file in order. Fields before the first `X:` (metre, unit length, tempo, rhythm,
    composer, origin) hold for every tune that has none of its own."""
    starts = [match.start() for match in re.finditer(r"^X:", book, flags=re.MULTILINE)]
    tunes = []
    shared: dict[str, str] = {}
    for line in book[: starts[0] if starts else 0].splitlines():
        match = _FIELD.match(_COMMENT.sub("", line))
        if match and match[1] in "MLQRCO":
            shared.setdefault(match[1], match[2])
    for start, stop in pairwise([*starts, len(book)]):
        text = book[start:stop].rstrip()
        fields: dict[str, str] = {}
        for line in text.splitlines():
            match = _FIELD.match(_COMMENT.sub("", line))
            if match:
                fields.setdefault(match[1], match[2])
                if match[1] == "K":
                    break
        missing = {letter: value for letter, value in shared.items() if letter not in fields}
        if missing:
            first, _, rest = text.partition("\n")
            text = "\n".join([first, *(f"{letter}:{value}" for letter, value in missing.items()), rest])
        tunes.append(Tune(fields.get("X", "").strip(), fields | missing, text))
    return tunes


def metre_of(field: str) -> tuple[int, int] | None:
    """As "6/8" -> (6, 8), "C" -> (4, 4), "C|" -> (2, 2); None where there is no metre."""
    word = field.split("%", maxsplit=1)[0].strip()
    if word in ("C", "c"):
        return 4, 4
    if word in ("C|", "c|"):
        return 2, 2
    match = re.match(r"^(\d{1,2})\s*/\s*(\d{1,2})", word)
    return (int(match[1]), int(match[2])) if match else None


def labels(tune: Tune) -> dict[str, str]:
    """Catalogue labels of a tune: title, composer, key, metre, rhythm, origin, tempo (quarters a minute); ""
    where the header is silent."""
    field = tune.fields.get
    metre = metre_of(field("M", ""))
    return {
        "title": field("T", ""),
        "composer": field("C", ""),
        "key": parse_key(field("K", "")),
        "metre": f"{metre[0]}/{metre[1]}" if metre else "",
        "rhythm": rhythm_label(field("R", "")),
        "origin": field("O", ""),
        "tempo": tempo_qpm(field("Q", "")),
    }


def tempo_qpm(text: str) -> str:
    """Quarters a minute of a Q: field ("3/8=120" gives "180"); "" where it says none in numbers."""
    match = re.search(r"(\d+)/(\d+)\s*=\s*(\d+)", text)
    return f"{4 * int(match[1]) / int(match[2]) * int(match[3]):g}" if match and int(match[2]) else ""


def rhythm_label(text: str) -> str:
    """As "Double Jig" -> "jig": one word for each kind of dance, lower case; "" where none is known."""
    word = text.lower().replace("slipjig", "slip jig").split(",")[0].strip()
    for kind in (
        "slip jig",
        "highland fling",
        "hornpipe",
        "strathspey",
        "reel",
        "jig",
        "waltz",
        "march",
        "polka",
        "air",
        "clog",
        "fling",
    ):
        if kind in word:
            return "highland fling" if kind == "fling" else kind
    return ""


def without_ornaments(text: str) -> str:
    """The tune without grace notes, rolls, trills, chord symbols, lyrics and comments, which abc2midi would
    play or print. Instruments, and the order of parts where the header gives one, stay."""
    lines = []
    in_body = False
    ordered = False
    for line in text.splitlines():
        if _INSTRUMENT.match(line):
            lines.append(line)
            continue
        bare = _COMMENT.sub("", line)
        match = _FIELD.match(bare)
        if match and in_body and match[1] in _MUSIC_LETTERS:
            match = None
        if match and (not in_body or match[1] in "KLMVPQ"):
            ordered = ordered or (match[1] == "P" and not in_body)
            if match[1] in "XMLKVQ" or (match[1] == "P" and ordered):
                lines.append(bare)
            in_body = in_body or match[1] == "K"
        elif in_body and not match and bare.strip():
            lines.append(_ORNAMENTS.sub("", bare))
    return "\n".join(lines) + "\n"


def _factor(number: str, slashes: str, denominator: str) -> Fraction:
    below = int(denominator) if denominator else 2 ** len(slashes)
    return Fraction(int(number) if number else 1, max(below, 1))


def upbeat_quarters(text: str) -> Fraction:
    """Length of the notes before the first barline where that is less than a bar, in quarters; 0 without an
    upbeat."""
    fields = split_tunes(text)[0].fields
    metre = metre_of(fields.get("M", ""))
    if metre is None:
        return Fraction(0)
    bar = Fraction(*metre)
    unit_field = re.match(r"(\d+)/(\d+)", fields.get("L", ""))
    unit = (
        Fraction(int(unit_field[1]), int(unit_field[2]))
        if unit_field
        else Fraction(1, 16 if bar < Fraction(3, 4) else 8)
    )
    body = _FIELD_LINES.sub("", text.split("\nK:", 1)[-1].partition("\n")[2])
    lengths: list[Fraction] = []
    scale, tuplet_left, pending = Fraction(1), 0, Fraction(1)
    for token in _TOKEN.finditer(body):
        if token["bar"]:
            if lengths:
                break
        elif token["tuplet"]:
            count = int(token["tuplet"])
            time = int(token["in"]) if token["in"] else _TUPLET_TIME.get(count, 2)
            scale, tuplet_left = Fraction(time, count), int(token["of"]) if token["of"] else count
        elif token["broken"] and lengths:
            short = Fraction(1, 2 ** len(token["broken"]))
            first, pending = (2 - short, short) if token["broken"][0] == ">" else (short, 2 - short)
            lengths[-1] *= first
        elif token["note"] or token["chord"]:
            if token["chord"]:
                inner = _TOKEN.match(token["chord"][1:-1])
                length = _factor(token["cnum"], token["cslash"], token["cden"])
                if inner and inner["note"]:
                    length *= _factor(inner["num"], inner["slash"], inner["den"])
            else:
                length = _factor(token["num"], token["slash"], token["den"])
            lengths.append(length * pending * (scale if tuplet_left > 0 else 1))
            pending, tuplet_left = Fraction(1), tuplet_left - 1
    total = sum(lengths, Fraction(0)) * unit
    return total * 4 if total < bar else Fraction(0)


def _voice_names(text: str) -> list[str]:
    """Of the voices in the order of their first mention; "" for one that has no name."""
    found: dict[str, str] = {}
    for number, name in _VOICE_NAME.findall(text):
        found[number] = found.get(number) or name
    return list(found.values())


def heard(text: str) -> Score:
    """What abc2midi plays of a text, without tempos that cannot be. Raises UnreadableScore."""
    try:
        score = Score.from_abc(text)
    except Exception as error:  # it ended, and says not why
        raise UnreadableScore("abc2midi cannot read the tune: check its M:, L:, Q: and K: lines") from error
    tempos = [tempo for tempo in score.tempos if SLOWEST_QPM <= tempo.qpm <= FASTEST_QPM]
    score.tempos.clear()
    score.tempos.extend(tempos)
    return score


def read_tune(tune: Tune) -> tuple[Score, int]:
    """The tune as a score in whole bars, and the ticks by which its notes were moved: an upbeat starts late
    in bar 0. All notes are equally loud: the accents are abc2midi's. Raises UnreadableScore."""
    text = without_ornaments(tune.text)
    if "K" not in tune.fields:
        raise UnreadableScore("the tune has no K: line, so its notes do not start anywhere: add one")
    score = heard(_STRUCK_TOGETHER.join(text.partition("\n")[::2]))
    upbeat = upbeat_quarters(text)
    metre = metre_of(tune.fields.get("M", ""))
    shift = 0
    if upbeat and metre:
        shift = round((Fraction(4 * metre[0], metre[1]) - upbeat) * score.tpq)
    names = _voice_names(tune.text)
    for n, track in enumerate(score.tracks):
        track.name = names[n] if len(names) == len(score.tracks) else ""
        for note in track.notes:
            note.time = max(note.time - 1 + shift, 0)  # abc2midi starts at tick 1 and ends a tick early
            note.duration += 1
            note.velocity = VELOCITY
    for event in (*score.time_signatures, *score.tempos, *score.key_signatures):
        if event.time > 0:  # after the upbeat
            event.time += shift
    return score, shift
