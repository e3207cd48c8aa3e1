from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from symusic import Score

from models.tokens.augmentation import transposition
from models.tokens.build import load_tokenizer
from models.tokens.labels import Labels
from models.tokens.tokenizer import CellTokenizer, NotRepresentable
from music.score.form import build, note_array, same_notes
from tests.conftest import TPQ, normal_scores


@given(score=normal_scores())
def test_notes_to_tokens_to_notes_is_exact(tokenizer: CellTokenizer, score: Score) -> None:
    ids, bar_starts = tokenizer.encode_score(score)
    assert same_notes(tokenizer.decode_ids(ids), score)
    assert [tokenizer[int(i)].startswith("Bar_") for i in ids[bar_starts]] == [True] * len(bar_starts)


@given(score=normal_scores())
def test_it_is_a_miditok_tokenizer(tokenizer: CellTokenizer, score: Score) -> None:
    sequence = tokenizer.encode(score, no_preprocess_score=True)
    assert same_notes(tokenizer.decode(sequence), score)


@given(score=normal_scores(drums=False), semitones=st.integers(-5, 5))
def test_transposing_tokens_transposes_notes(tokenizer: CellTokenizer, score: Score, semitones: int) -> None:
    pitches = np.concatenate([note_array(track)[:, 2] for track in score.tracks])
    if pitches.min() + semitones < 0 or pitches.max() + semitones > 127:
        return
    moved = tokenizer.decode_ids(transposition(tokenizer, semitones)[tokenizer.encode_score(score)[0]])
    for before, after in zip(score.tracks, moved.tracks, strict=True):
        assert np.array_equal(note_array(before) + np.array([0, 0, semitones]), note_array(after))


def test_transposing_moves_the_key_token_within_its_mode(tokenizer: CellTokenizer) -> None:
    before, after = (np.array(tokenizer.prefix(Labels(key=key))) for key in ("B dorian", "Db dorian"))
    assert np.array_equal(transposition(tokenizer, 2)[before], after)


def test_a_run_of_quavers_costs_one_token_a_note(tokenizer: CellTokenizer) -> None:
    notes = np.array([(i * 6, 6, 60 + i) for i in range(6)])
    ids, _ = tokenizer.encode_score(build([(40, False, notes)], [(0, 6, 8)], TPQ, 80))
    assert [tokenizer[int(i)] for i in ids] == [
        "Bar_6/8",
        "Program_40",
        "Duration_6",
        *(f"Pitch_{60 + i}" for i in range(6)),
        "EOS_None",
    ]


def test_saved_tokenizer_is_the_same_when_reloaded(tokenizer: CellTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert again.vocab == tokenizer.vocab
    assert (again.metres, again.programs, again.styles) == (
        tokenizer.metres,
        tokenizer.programs,
        tokenizer.styles,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids, t: ids[:-1], "does not end in EOS"),
        (lambda ids, t: [*ids, ids[0]], "after EOS"),
        (lambda ids, t: [ids[0], *ids], "does not open the next cell"),
        (lambda ids, t: [ids[0], ids[1], t.id_of("Pitch", 60), *ids[2:]], "out of place"),
        (lambda ids, t: [*ids[:-1], t.id_of("Position", 3), ids[-1]], "without its Pitch"),
        (
            lambda ids, t: [*ids[:-1], t.id_of("Position", 0), t.id_of("Pitch", 60), ids[-1]],
            "out of order or doubled",
        ),
        (lambda ids, t: [ids[0], t.id_of("Program", 52), ids[-1]], ""),
    ],
)
def test_the_strict_decoder_refuses_what_is_out_of_place(
    tokenizer: CellTokenizer, change, message: str
) -> None:  # type: ignore[no-untyped-def]
    ids, _ = tokenizer.encode_score(
        build([(40, False, np.array([(0, 6, 60), (6, 6, 62)]))], [(0, 6, 8)], TPQ, 80)
    )
    broken = change(ids.tolist(), tokenizer)
    if message:
        with pytest.raises(ValueError, match=message):
            tokenizer.decode_ids(broken)
    else:
        assert tokenizer.decode_ids(broken).tracks[0].program == 52


def test_unknown_values_name_the_known_ones(tokenizer: CellTokenizer) -> None:
    with pytest.raises(
        NotRepresentable, match="style 'polka' was not in the training data; known are: chorale, irish"
    ):
        tokenizer.prefix(Labels(style="polka"))
    with pytest.raises(NotRepresentable, match="known are: 1/4, 2/2, 3/4|known are: 4/4, 3/4"):
        tokenizer.id_of("Bar", "7/8")
