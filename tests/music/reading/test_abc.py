from fractions import Fraction

import pytest

from music.reading import abc
from music.reading.files import Reading, read_file
from music.score.errors import UnreadableScore
from music.score.form import Limits, bar_table, normalise, note_array
from music.score.keys import estimate_key, key_index, parse_key

JIG = """X:1
T:Test Jig
R:Double Jig
O:Ireland
M:6/8
L:1/8
K:Edor
B|"Em"{d}E2B ~BAB|dBA B2:|
"""


def test_a_book_is_split_and_labelled_tune_by_tune() -> None:
    tunes = abc.split_tunes("%abc\n" + JIG + "\n" + JIG.replace("X:1", "X:2").replace("Edor", "Gmix"))
    assert [tune.number for tune in tunes] == ["1", "2"]
    assert abc.labels(tunes[0]) == {
        "title": "Test Jig",
        "composer": "",
        "key": "E dorian",
        "metre": "6/8",
        "rhythm": "jig",
        "origin": "Ireland",
        "tempo": "",
    }
    assert abc.labels(tunes[1])["key"] == "G mixolydian"


@pytest.mark.parametrize(
    ("body", "quarters"),
    [
        ("B|ABc def|", Fraction(1, 2)),
        ("ABc def|", 0),
        ("B/2c/|ABc def|", Fraction(1, 2)),
        ("(3ABc|ABc def|", 1),
        ("A>B|ABc def|", 1),
        ("[GB]A|ABc|", 1),
        ("|:D|ABc def|", Fraction(1, 2)),
        ("[K:D]A|B|", Fraction(1, 2)),
    ],
)
def test_upbeat_is_measured_from_the_text(body: str, quarters: Fraction) -> None:
    assert abc.upbeat_quarters(f"X:1\nM:6/8\nL:1/8\nK:D\n{body}\n") == quarters


def test_upbeat_starts_late_in_the_first_bar_and_the_rest_falls_on_barlines() -> None:
    reading = read_file(JIG.encode(), "jig.abc", Limits())[0]
    assert isinstance(reading, Reading)
    score = normalise(reading.score, ticks_per_quarter=12, velocity=80)
    notes = note_array(score.tracks[0])
    assert notes[:3, 0].tolist() == [30, 36, 48]  # a quaver before the bar of 36 ticks
    assert bar_table(score)[:, 1].tolist() == [36] * len(bar_table(score))


def test_graces_chord_symbols_and_rolls_are_not_played() -> None:
    reading = read_file(JIG.replace(":|", "|").encode(), "jig.abc", Limits())[0]
    assert isinstance(reading, Reading)
    assert len(reading.score.tracks) == 1
    assert len(reading.score.tracks[0].notes) == 10


def test_a_broken_tune_is_reported_and_the_others_are_read() -> None:
    found = read_file((JIG + "\nX:2\nT:no key\nM:4/4\n").encode(), "two.abc", Limits())
    assert isinstance(found[0], Reading)
    assert found[1] == ("1:2", "the tune has no K: line, so its notes do not start anywhere: add one")


@pytest.mark.parametrize("header", ["M:4/0", "L:1/0", "M:0/4"])
def test_an_impossible_header_is_reported_for_its_tune_alone(header: str) -> None:
    found = read_file(
        (JIG.replace(header[:2] + ("6/8" if header[0] == "M" else "1/8"), header) + "\n" + JIG).encode(),
        "a.abc",
        Limits(),
    )
    assert isinstance(found[1], Reading)


TUNE = 'X:1\nT:a\nM:{0}\nL:1/8\nQ:1/4={1}\nK:D\n"D"dfa dfa|"A7"ece d3|]\n'


@pytest.mark.parametrize("metre", ["6/65536", "4/7", "6/2147483648", "6/0"])
def test_a_metre_that_is_none_is_one_sentence(metre: str) -> None:
    ((_, reason),) = read_file(TUNE.format(metre, 120).encode(), "x.abc", Limits())
    assert isinstance(reason, str)
    assert "Process" not in reason
    assert "M:" in reason or "metre" in reason or "not ABC" in reason


@pytest.mark.parametrize("tempo", ["2147483648", "99999999999999999999", "0", "-1"])
def test_a_tempo_that_is_none_is_left_out(tempo: str) -> None:
    (found,) = read_file(TUNE.format("6/8", tempo).encode(), "x.abc", Limits())
    assert isinstance(found, Reading)
    assert all(4 <= each.qpm <= 1000 for each in found.score.tempos)


def test_a_file_without_a_tune_says_so() -> None:
    with pytest.raises(UnreadableScore, match="no tune found"):
        read_file(b"just text", "a.abc", Limits())


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("G", "G major"),
        ("Edor", "E dorian"),
        ("F#m", "Gb minor"),
        ("Bb Major", "Bb major"),
        ("A Mix", "A mixolydian"),
        ("Dphr", "D minor"),
        ("none", ""),
    ],
)
def test_key_headers_become_labels(text: str, label: str) -> None:
    assert parse_key(text) == label


def test_unknown_key_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="tonics C, Db"):
        key_index("H major")
    assert key_index("d minor") == (2, 1)


def test_krumhansl_finds_the_key_of_a_scale_and_a_signature_decides_between_relatives() -> None:
    import numpy as np

    histogram = np.zeros(12)
    histogram[[2, 4, 6, 7, 9, 11, 1]] = [4, 1, 2, 2, 3, 1, 1]
    assert estimate_key(histogram)[0] == "D major"
    assert estimate_key(histogram, sharps=2)[0] == "D major"
    assert estimate_key(np.roll(histogram, -3), sharps=2)[0] == "B minor"


def heard(text: str) -> Reading:
    (found,) = read_file(text.encode(), "x.abc", Limits())
    assert isinstance(found, Reading)
    return found


def pitches(found: Reading) -> list[int]:
    return [note.pitch for note in found.score.tracks[0].notes]


def test_fields_of_the_file_hold_for_every_tune_and_a_byte_order_mark_is_no_text() -> None:
    book = "\ufeffM:3/4\nL:1/4\n\nX:1\nT:a\nK:C\nEFG|\n\nX:2\nT:b\nM:4/4\nK:C\nEFGA|\n"
    first, second = read_file(book.encode(), "x.abc", Limits())
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    assert [(n, d) for _, _, n, d in bar_table(first.score).tolist()] == [(3, 4)]
    assert [(n, d) for _, _, n, d in bar_table(second.score).tolist()] == [(4, 4)]


def test_a_line_that_begins_with_a_repeat_after_a_note_is_music() -> None:
    assert pitches(heard("X:1\nM:4/4\nL:1/4\nK:C\n|:CDEF|GABc\nc::\ncBAG|FEDC:|\n")).count(60) == 4


def test_instruments_and_the_order_of_parts_are_kept() -> None:
    found = heard("X:1\nM:4/4\nL:1/4\nP:ABBA\n%%MIDI program 72\nK:C\nP:A\nCDEF|\nP:B\nGABc|\n")
    assert found.score.tracks[0].program == 72
    assert pitches(found)[::4] == [60, 67, 67, 60]


def test_a_metre_changes_where_the_text_has_it_after_an_upbeat() -> None:
    bars = bar_table(heard("X:1\nM:4/4\nL:1/4\nK:C\nG|CDEF|GABc|[M:3/4]CDE|FGA|\n").score)
    assert [(n, d) for _, _, n, d in bars.tolist()] == [(4, 4)] * 3 + [(3, 4)] * 2


def test_chord_symbols_stand_where_they_are_played() -> None:
    found = heard(
        'X:1\nM:4/4\nL:1/4\nK:Am\nE|:"Am"ABcd|"Dm/f"e2"E7"e2|1"Am"A3B:|2"Am"A4|"^slow"cdef|"D.C."c4|\n'
    )
    quarters = [(round(tick / found.score.tpq, 2), symbol) for tick, symbol in found.chords]
    assert quarters == [(4, "Am"), (8, "Dm/F"), (10, "E7"), (12, "Am"), (20, "Dm/F"), (22, "E7"), (24, "Am")]
    assert pitches(found) == pitches(heard("X:1\nM:4/4\nL:1/4\nK:Am\nE|:ABcd|e2e2|1A3B:|2A4|cdef|c4|\n"))
    assert {note.velocity for note in found.score.tracks[0].notes} == {80}
