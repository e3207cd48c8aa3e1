"""New notes are as loud and as late as the notes around them."""

import numpy as np

from models.decoding.torch_decoder import TorchDecoder
from models.edit.edit import edit_file
from models.edit.tasks import Edit
from models.fill.fill import fill
from models.fill.neighbours import lateness_at, loudness_at
from models.network.config import sized
from models.network.decoder import Network
from models.tokens.tokenizer import CellTokenizer
from music.score.file_cells import FileCells
from music.score.form import build, note_array

STEP, BAR = 40, 1920
BARLINES = np.arange(0, 8 * BAR, BAR)


def played(late: list[int]) -> np.ndarray:
    """Quavers of eight bars, each so late, over and over."""
    onsets = np.arange(0, 8 * BAR, 240)
    onsets[1:] += np.resize(late, len(onsets))[1:]
    return np.column_stack([onsets, np.full(len(onsets), 200), 60 + onsets % 7, 70 + onsets % 5])


def test_notes_between_two_sides_take_the_nearer() -> None:
    old = np.array([(0, 10, 60, 40), (1000, 10, 60, 90)])
    assert loudness_at(np.array([400, 500, 501]), old, 80).tolist() == [40, 40, 90]
    assert loudness_at(np.array([400]), old[:0], 80).tolist() == [80]


def test_lateness_is_that_of_the_nearest_note() -> None:
    old = played([12, -9])
    assert lateness_at(np.array([240, 480, 600]), old, BARLINES, STEP).tolist() == [-9, 12, 12]


def test_a_written_file_stays_on_its_grid() -> None:
    assert not lateness_at(np.arange(0, BAR, 120), played([0]), BARLINES, STEP).any()
    assert not lateness_at(np.arange(0, BAR, 120), played([0, 0, 0, 17]), BARLINES, STEP).any()


def test_a_bar_filled_in_a_played_file_is_played(tokenizer: CellTokenizer) -> None:
    import torch

    torch.manual_seed(0)
    decoder = TorchDecoder(Network(sized("tiny", vocabulary=len(tokenizer), context=256)).eval(), 4)
    late = {}
    for name, how in (("played", [12, -9, 15, 7]), ("written", [0])):
        file = FileCells.of(build([(40, False, played(how))], [(0, 4, 4)], 480))
        edit = Edit("infill", (1, 7), (0,), seed=2)
        (answer,) = edit_file(tokenizer, {}, lambda r: fill(decoder, tokenizer, r), file, edit)
        assert answer.contract.kept
        notes = note_array(answer.file.score.tracks[0])
        new = notes[np.isin(answer.file.bar_of(notes[:, 0]), range(1, 7)), 0]
        assert len(new) > 3
        late[name] = new - np.rint(new / STEP) * STEP
    assert not late["written"].any()
    assert set(late["played"].tolist()) <= {12, -9, 15, 7}
    assert len(set(late["played"].tolist())) > 1
