from pathlib import Path
from typing import Any

import numpy as np
import pytest
from symusic import Score

from music.score.form import note_array, to_midi
from pipelines.ingest import read_source
from pipelines.prepare import duplicate_groups, prepare_piece, split_groups
from pipelines.running.params import Source, Split, load_params
from pipelines.running.sources import Item
from tests.conftest import ROOT, SHARED
from tests.music.score.test_form import raw_score

PARAMS = load_params(ROOT / "params.yaml")


def row(notes: list[tuple[int, int, int]], **changes: Any) -> dict[str, Any]:
    base = {
        "piece_id": "a/b",
        "collection": "a",
        "path": "b",
        "sha256": "",
        "licence": "unstated",
        "converter": "x",
        "score_made": True,
        "program": 40,
        "title": "T",
        "composer": "",
        "key": "",
        "metre": "",
        "rhythm": "",
        "origin": "",
        "style": "",
        "tempo": "",
        "chords": [],
        "midi": to_midi(raw_score(notes)),
    }
    return base | changes


def line(seed: int, count: int = 40) -> list[tuple[int, int, int]]:
    pitches = np.random.default_rng(seed).integers(60, 80, count)
    return [(i * 480, 480, int(p)) for i, p in enumerate(pitches)]


def test_a_piece_comes_out_anonymous_with_its_labels() -> None:
    (piece,) = prepare_piece(row(line(0)), PARAMS.prepare)
    assert b"Somebody" not in piece["midi"]
    assert b"words" not in piece["midi"]
    assert min(piece["stripped"][:2]) >= 1
    assert piece["title"] == "T"
    assert piece["notes"] == 40
    assert piece["bars"] == 10
    assert piece["key_source"] == "estimate"


@pytest.mark.parametrize(
    ("notes", "reason", "knob"),
    [
        (line(0, 5), "5 notes", "min_notes"),
        ([(i * 40, 40, 60 + i % 7) for i in range(40)], "1 bars", "min_bars"),
        (
            [(int(t), 300, 60 + i % 7) for i, t in enumerate(np.linspace(7, 19000, 61))],
            "off the beat",
            "max_performed",
        ),
    ],
)
def test_out_of_bounds_pieces_are_dropped_with_a_reason_and_the_knob_to_turn(
    notes: list[tuple[int, int, int]], reason: str, knob: str
) -> None:
    (dropped,) = prepare_piece(row(notes), PARAMS.prepare)
    assert dropped["drop"].startswith(reason)
    assert (dropped["knob"], dropped["collection"], dropped["path"]) == (knob, "a", "b")
    assert hasattr(PARAMS.prepare, knob)


def test_a_long_work_is_cut_at_barlines_and_stays_in_one_group() -> None:
    notes = line(0, 200)
    pieces = prepare_piece(row(notes), PARAMS.prepare.model_copy(update={"max_notes": 100}))
    assert [piece["piece_id"] for piece in pieces] == [f"a/b#part{n}" for n in range(1, len(pieces) + 1)]
    assert all(piece["notes"] <= 100 for piece in pieces)
    assert sum(piece["notes"] for piece in pieces) == 200
    assert len(set(duplicate_groups(pieces, PARAMS.prepare).tolist())) == 1
    played = [n for piece in pieces for n in note_array(Score.from_midi(piece["midi"]).tracks[0])[:, 2]]
    assert played == [pitch for _, _, pitch in notes]


def test_a_pedal_note_is_shortened_and_the_piece_is_kept() -> None:
    (piece,) = prepare_piece(row([*line(0), (480 * 40, 480 * 40, 30)]), PARAMS.prepare)
    longest = note_array(Score.from_midi(piece["midi"]).tracks[0])[:, 1].max()
    assert longest == PARAMS.prepare.max_note_quarters * PARAMS.prepare.ticks_per_quarter
    assert piece["shortened"] == 1


def test_played_music_is_put_on_the_places_of_its_beats() -> None:
    chance = np.random.default_rng(0)
    written = [(240 * i, 240, 60 + i % 12) for i in range(64)]  # quavers, then triplets, as played
    written += [(240 * 64 + 160 * i, 160, 60 + i % 12) for i in range(48)]
    late = chance.normal(0, 14, len(written)).round().astype(int)
    played = [(max(o + d, 0), n, p) for (o, n, p), d in zip(written, late.tolist(), strict=True)]
    (piece,) = prepare_piece(row(played), PARAMS.prepare)
    found = note_array(Score.from_midi(piece["midi"]).tracks[0])
    right = {(round(o / 40), p) for o, _, p in written}
    rounded = {(round(o / 40), p) for o, _, p in played}
    mine = {(o, p) for o, _, p in found.tolist()}
    assert len(mine & right) >= 0.97 * len(right)
    assert len(rounded & right) < 0.9 * len(right)


def test_loudness_tempos_and_chord_symbols_of_the_source_are_kept() -> None:
    score = raw_score(line(0))
    for n, note in enumerate(score.tracks[0].notes):
        note.velocity = 40 + n
    told = [{"quarter": 4.0, "symbol": "Dm7"}]
    (piece,) = prepare_piece(row([], midi=to_midi(score), chords=told), PARAMS.prepare)
    back = Score.from_midi(piece["midi"])
    assert [note.velocity for note in back.tracks[0].notes] == list(range(40, 80))
    assert piece["chords"] == told


def test_damaged_midi_is_dropped_with_a_reason() -> None:
    assert "drop" in prepare_piece(row([], midi=b"MThd" + b"\xff" * 30), PARAMS.prepare)[0]


def test_near_duplicates_and_settings_of_one_tune_share_a_group() -> None:
    transposed = [(o, d, p + 3) for o, d, p in line(1)]
    pieces = [
        prepare_piece(row(notes, piece_id=str(n)), PARAMS.prepare)[0]
        for n, notes in enumerate((line(1), line(2), transposed))
    ]
    assert (duplicate_groups(pieces, PARAMS.prepare) == np.array([0, 1, 0])).all()
    voices = [
        prepare_piece(row(notes, piece_id=str(n), style="chorale"), PARAMS.prepare)[0]
        for n, notes in enumerate(
            (line(3), line(3)[:30] + [(o + 30 * 480, d, p) for o, d, p in line(4)], line(5))
        )
    ]
    groups = duplicate_groups(voices, PARAMS.prepare)
    assert groups[0] == groups[1] != groups[2]


def test_a_group_is_never_split_and_shares_are_kept() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 3000, 5000)
    ids = [f"p{i}" for i in range(5000)]
    splits = split_groups(ids, groups, Split(train=0.8, valid=0.1, test=0.1), seed=1)
    assert all(len({splits[i] for i in np.flatnonzero(groups == g)}) == 1 for g in np.unique(groups))
    assert 0.76 < splits.count("train") / 5000 < 0.84
    assert splits != split_groups(ids, groups, Split(train=0.8, valid=0.1, test=0.1), seed=2)


def test_pieces_keep_their_split_when_others_are_added() -> None:
    shares = Split(train=0.8, valid=0.1, test=0.1)
    few = split_groups([f"p{i}" for i in range(100)], np.arange(100), shares, 7)
    many = split_groups([f"p{i}" for i in range(300)], np.arange(300), shares, 7)
    assert many[:100] == few


def test_broken_files_do_not_stop_ingest_and_a_killed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "music").mkdir()
    files = {
        "good.mid": to_midi(raw_score(line(0))),
        "empty.mid": b"",
        "noise.mid": bytes(range(256)),
        "cut.mid": to_midi(raw_score(line(0)))[:60],
        "bad.abc": b"X:1\n",
        "bad.xml": b"<a",
    }
    items = []
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        items.append(Item(tmp_path / name, name, {}))
    source = Source(name="mine", kind="folder", path="data/scores/mine", licence="permissive")
    pieces, failures = read_source(source, items, PARAMS.ingest)
    assert [piece["piece_id"] for piece in pieces] == ["mine/good.mid"]
    assert len(failures) == 5
    assert all(failure["reason"] for failure in failures)
    monkeypatch.setattr("pipelines.ingest.read_items", None)  # a second run that had to read again would fail
    assert read_source(source, items, PARAMS.ingest) == (pieces, failures)


@pytest.mark.skipif(
    not (SHARED / "data/lieder.tar.gz").exists(),
    reason="../shared/data/lieder.tar.gz (OpenScore Lieder) is not beside this checkout",
)
def test_real_songs_for_voice_and_piano_are_read_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from pipelines.running.sources import items_of

    monkeypatch.chdir(tmp_path)
    Path("data/scores").mkdir(parents=True)
    Path("music").mkdir()
    shutil.copy(SHARED / "data/lieder.tar.gz", "data/scores/lieder.tar.gz")
    source = Source(
        name="lieder", kind="archive", path="data/scores/lieder.tar.gz", licence="public-domain", style="lied"
    )
    items = items_of(source, PARAMS.ingest.music21_version)[::20]
    pieces, failures = read_source(source, items, PARAMS.ingest)
    assert not failures
    kept = [piece for row in pieces for piece in prepare_piece(row, PARAMS.prepare) if "drop" not in piece]
    assert len(kept) > 0.95 * len(items)
    assert all(piece["licence"] == "public-domain" for piece in kept)
