"""What a review found that edits got wrong: kept notes off the grid, performed lines, sections of unequal
length."""

import numpy as np
import pytest
from symusic import Note, Score, TimeSignature, Track

from models.decoding.locks import Locks
from models.decoding.script import Plan
from models.edit.edit import edit_file
from models.edit.tasks import Edit
from models.fill.asked import form_places
from models.fill.fill import fill
from models.fill.request import FillRequest, empty
from models.tokens.labels import Labels
from models.tokens.tokenizer import CellTokenizer
from music.score.file_cells import FileCells, notes_of
from music.score.form import note_array
from tests.models.decoding.random_fills import RandomDecoder

QUARTER = 480


def file_of(notes: list[tuple[int, int, int]], program: int = 40) -> FileCells:
    score, track = Score(QUARTER), Track("", program, False)
    score.time_signatures.append(TimeSignature(0, 4, 4))
    for onset, duration, pitch in notes:
        track.notes.append(Note(onset, duration, pitch, 70))
    score.tracks.append(track)
    return FileCells.of(score)


def edited(tokenizer: CellTokenizer, file: FileCells, edit: Edit) -> np.ndarray:
    decoder = RandomDecoder(len(tokenizer), 16, edit.seed)
    answer = edit_file(tokenizer, {}, lambda requests: fill(decoder, tokenizer, requests), file, edit)[0]
    return notes_of(answer.file.score.tracks[0])


@pytest.mark.parametrize(
    ("notes", "keep"),
    [
        ([(30 + 220 * i, 220, 64) for i in range(16)], (9, 10)),  # repeated notes that touch on the grid
        # a unison
        ([(0, 480, 60), (1920, 480, 60), (1920, 480, 60), (2400, 960, 62), (4000, 480, 64)], (1, 2)),
        ([(0, 480, 60), (1920, 480, 62), (3360, 960, 64)], (2,)),  # the last note is tied over the barline
    ],
)
def test_kept_notes_that_meet_on_the_grid_stay_as_they_are(
    tokenizer: CellTokenizer, notes: list[tuple[int, int, int]], keep: tuple[int, ...]
) -> None:
    file = file_of(notes)
    for seed in range(6):
        after = edited(
            tokenizer, file, Edit("infill", bars=(1, 2), keep=tuple((0, n) for n in keep), seed=seed)
        )
        there = {tuple(note) for note in after.tolist()}
        before = file.notes(0)
        before = before[np.lexsort((before[:, 2], before[:, 0]))]
        assert all(tuple(before[n].tolist()) in there for n in keep)


def test_a_new_melody_of_a_performed_line_keeps_its_rhythm(tokenizer: CellTokenizer) -> None:
    notes = [(30 + 220 * i, 220, 60 + i * 5 % 12) for i in range(16)]
    after = edited(tokenizer, file_of(notes), Edit("melody", bars=(1, 2), seed=1))
    assert [tuple(row[:2]) for row in after.tolist()] == [note[:2] for note in notes]


def test_a_scale_beyond_the_compass_of_a_part_widens_it(tokenizer: CellTokenizer) -> None:
    notes = [(480 * i, 480, 65 + i % 3) for i in range(12)]
    after = edited(
        tokenizer, file_of(notes), Edit("infill", bars=(1, 2), locks=Locks(scale=frozenset({0})), seed=1)
    )
    inside = after[(after[:, 0] >= 1920) & (after[:, 0] < 3840)]
    assert len(inside) and set((inside[:, 2] % 12).tolist()) == {0}


def test_rests_can_stand_before_a_kept_note_of_a_line_and_the_grid_holds_after_it(
    tokenizer: CellTokenizer,
) -> None:
    notes = [(480 * i, 480, 60 + i) for i in range(4)] + [(1920 + 1440 + 160, 160, 67), (3840, 480, 60)]
    rests = 0
    for seed in range(30):
        locks = Locks(grid_ticks=6)
        after = edited(
            tokenizer, file_of(notes), Edit("infill", bars=(1, 2), keep=((0, 4),), locks=locks, seed=seed)
        )
        inside = after[(after[:, 0] >= 1920) & (after[:, 0] < 3840)]
        new = inside[inside[:, 0] != 1920 + 1600]
        assert not (new[:, 0] % 240).any(), "on the grid of quavers"
        ends = np.concatenate([[1920], inside[:-1, 0] + inside[:-1, 1]])
        rests += bool((inside[:, 0] > ends).any())
    assert rests > 5


@pytest.mark.parametrize("form", ["A:8 B:8 A:4", "A:4 B:2 A:2", "A:4 B:2 A:2 B:2", "A:2 B:4 A:3 B:2"])
def test_sections_that_come_back_shorter_end_with_their_bars(tokenizer: CellTokenizer, form: str) -> None:
    bars = sum(int(part.split(":")[1]) for part in form.split())
    places, copied = form_places(form, bars)
    plan = Plan(((4, 4),) * bars, (0,))
    for seed in range(8):
        request = FillRequest(plan, empty(plan), Labels(bars=bars), seed, form=places, copied=copied)
        score = fill(RandomDecoder(len(tokenizer), 1, seed), tokenizer, [request])[0].score
        notes = note_array(score.tracks[0])
        for b in copied:
            mine, theirs = (
                notes[(notes[:, 0] >= 48 * x) & (notes[:, 0] < 48 * (x + 1))] - [48 * x, 0, 0]
                for x in (b, int(places[b, 3]))
            )
            assert np.array_equal(mine, theirs)
