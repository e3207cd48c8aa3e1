"""MusicXML as notation programs write it: what sounds, in which bars, by which instrument."""

import io
import zipfile

import pytest

from models.edit.by_rule import Rule
from models.edit.edit import apply_rule
from music.reading.files import Reading, read_file, read_midi
from music.score.errors import UnreadableScore
from music.score.file_cells import FileCells
from music.score.form import Limits, bar_table, note_array

NOTE = "<note><pitch><step>{0}</step><octave>{1}</octave></pitch><duration>{2}</duration></note>"


def notes(*rows: tuple[str, int, int]) -> str:
    return "".join(NOTE.format(*row) for row in rows)


def page(*measures: str, instrument: str = "", head: str = "", name: str = "Part") -> str:
    """A part of measures; divisions 1, 4/4 unless `head` says more."""
    attributes = f"<attributes><divisions>1</divisions>{head or '<time><beats>4</beats><beat-type>4</beat-type></time>'}</attributes>"  # noqa: E501
    body = "".join(
        f'<measure number="{n + 1}">{attributes if not n else ""}{each}</measure>'
        for n, each in enumerate(measures)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><score-partwise version="4.0"><part-list><score-part id="P1">'
        f"<part-name>{name}</part-name>{instrument}</score-part></part-list>"
        f'<part id="P1">{body}</part></score-partwise>'
    )


def read(text: str) -> Reading:
    (found,) = read_file(text.encode(), "x.musicxml", Limits())
    assert isinstance(found, Reading)
    return found


def sounding(found: Reading) -> list[tuple[float, float, int]]:
    tpq = found.score.tpq
    return [(o / tpq, d / tpq, p) for o, d, p in note_array(found.score.tracks[0]).tolist()]


SCALE = notes(("C", 4, 1), ("D", 4, 1), ("E", 4, 1), ("F", 4, 1))
WHOLE = notes(("G", 4, 4))


def test_a_transposing_instrument_sounds_where_it_sounds() -> None:
    found = read(
        page(
            SCALE,
            WHOLE,
            head="<key><fifths>2</fifths></key><time><beats>4</beats><beat-type>4</beat-type></time>"
            "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose>",
        )
    )
    assert [pitch for _, _, pitch in sounding(found)] == [58, 60, 62, 63, 65]
    assert found.score.key_signatures[0].key == 0


def test_drums_are_the_notes_of_their_instruments_and_need_them() -> None:
    hit = (
        "<note><unpitched><display-step>F</display-step><display-octave>4</display-octave></unpitched>"
        '<duration>4</duration><instrument id="P1-K"/></note>'
    )
    kick = '<midi-instrument id="P1-K"><midi-unpitched>37</midi-unpitched></midi-instrument>'
    found = read(page(hit, instrument=kick))
    assert found.score.tracks[0].is_drum
    assert sounding(found) == [(0, 4, 36)]
    with pytest.raises(UnreadableScore, match="part P1, measure 1: .*names no drum"):
        read(page(hit))


def test_cue_notes_are_silent_and_decimals_are_read() -> None:
    cue = "<note><cue/><pitch><step>A</step><octave>4</octave></pitch><duration>4</duration></note>"
    sharp = (
        "<note><pitch><step>F</step><alter>1.0</alter><octave>4</octave></pitch><duration>4.0</duration>"
        "</note>"
    )
    assert sounding(read(page(cue, sharp, WHOLE))) == [(4, 4, 66), (8, 4, 67)]


@pytest.mark.parametrize("duration", ["99999999999999999999", "1e308", "2147483648"])
def test_a_duration_that_is_none_is_refused_with_the_reason(duration: str) -> None:
    with pytest.raises(UnreadableScore, match="duration"):
        read(page(SCALE.replace("<duration>1</duration>", f"<duration>{duration}</duration>", 1)))


def test_metres_may_be_sums() -> None:
    head = "<time><beats>3+2</beats><beat-type>8</beat-type></time>"
    five = notes(("C", 4, 2)) + "<note><rest/><duration>0.5</duration></note>"
    found = read(page(five, five, five, head=head))
    assert {(n, d) for _, _, n, d in bar_table(found.score).tolist()} == {(5, 8)}


@pytest.mark.parametrize(
    ("measures", "played"),
    [
        (("C", "D|"), "CDCD"),
        (("C", "|:D", "E|", "F"), "CDEDEF"),
        (("|:C", "D1|", "E2", "F"), "CDCEF"),
        (("C", "D f", "E c"), "CDECD"),
        (("C", "S D", "E t", "F s", "K G"), "CDEFDEG"),
    ],
)
def test_repeats_are_played(measures: tuple[str, ...], played: str) -> None:
    signs = {"|": '<repeat direction="backward"/>', "|:": '<repeat direction="forward"/>'}
    sounds = {"f": 'fine="yes"', "c": 'dacapo="yes"', "S": 'segno="a"', "s": 'dalsegno="a"'}
    sounds |= {"t": 'tocoda="b"', "K": 'coda="b"'}
    bars = []
    for text in measures:
        step = next(letter for letter in text if letter in "CDEFG")
        body = notes((step, 4, 4))
        for number in ("1", "2"):
            if number in text:
                kinds = ('<ending number="{0}" type="start"/>', '<ending number="{0}" type="stop"/>')
                body = "".join(f"<barline>{kind.format(number)}</barline>" for kind in kinds) + body
        body += "".join(f"<sound {tag}/>" for letter, tag in sounds.items() if letter in text)
        if text.startswith("|:"):
            body = f"<barline>{signs['|:']}</barline>" + body
        if text.endswith("|"):
            body += f"<barline>{signs['|']}</barline>"
        bars.append(body)
    heard = sounding(read(page(*bars)))
    assert "".join("CDEFGAB"[(0, 0, 1, 1, 2, 3, 3, 4)[pitch - 60]] for _, _, pitch in heard) == played
    assert [onset for onset, _, _ in heard] == [4 * n for n in range(len(played))]


def test_chord_symbols_and_dynamics_are_read() -> None:
    symbol = (
        "<harmony><root><root-step>B</root-step><root-alter>-1</root-alter></root>"
        "<kind>minor-seventh</kind><bass><bass-step>F</bass-step></bass></harmony>"
    )
    soft = "<direction><direction-type><dynamics><p/></dynamics></direction-type></direction>"
    found = read(page(SCALE, soft + symbol + WHOLE))
    assert found.chords == [(4 * found.score.tpq, "Bbm7/F")]
    assert [note.velocity for note in found.score.tracks[0].notes] == [80, 80, 80, 80, 49]


def test_a_packed_page_may_be_utf_16_and_its_table_of_contents_last() -> None:
    packed = io.BytesIO()
    text = page(SCALE, WHOLE).replace("UTF-8", "UTF-16")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a page.xml", text.encode("utf-16"))
        archive.writestr(
            "META-INF/container.xml",
            '<container><rootfiles><rootfile full-path="a page.xml"/></rootfiles></container>',
        )
    (found,) = read_file(packed.getvalue(), "x.mxl", Limits())
    assert isinstance(found, Reading)
    assert [pitch for _, _, pitch in sounding(found)] == [60, 62, 64, 65, 67]


def test_the_number_of_an_instrument_is_believed_before_the_name_of_its_part() -> None:
    violin = '<midi-instrument id="P1-I1"><midi-program>41</midi-program></midi-instrument>'
    assert read(page(SCALE, instrument=violin, name="Flöte")).score.tracks[0].program == 40
    assert read(page(SCALE, name="Violoncello")).score.tracks[0].program == 42


def test_a_tempo_is_kept_by_an_edit() -> None:
    mark = '<direction><direction-type><words>Andante</words></direction-type><sound tempo="72"/></direction>'
    found = read(page(mark + SCALE, WHOLE))
    answer = apply_rule(FileCells.of(found.score), "transpose", Rule(semitones=2), (1, 2), None, found.source)
    assert [round(tempo.qpm, 3) for tempo in found.score.tempos] == [72]
    assert [round(tempo.qpm, 3) for tempo in read_midi(answer.midi, Limits()).tempos] == [72]


def test_what_could_harm_the_reader_is_refused() -> None:
    entity = page(SCALE).replace(
        "<score-partwise", '<!DOCTYPE s [<!ENTITY e SYSTEM "file:///etc/passwd">]><score-partwise', 1
    )
    with pytest.raises(UnreadableScore, match="entities"):
        read(entity)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", b" " * 65_000_000)
    with pytest.raises(UnreadableScore, match="unpacks to more"):
        read_file(packed.getvalue(), "x.mxl", Limits())
