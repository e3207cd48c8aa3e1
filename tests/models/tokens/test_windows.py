"""Training rows: what they hold, what of it is learned, and that nothing leaks."""

from collections import Counter
from copy import copy

import numpy as np
import pytest

from models.tokens.asking import Asker, Asking, Cut, transposed
from models.tokens.augmentation import stretching
from models.tokens.shards import Shard, ShardWriter
from models.tokens.tokenizer import CellTokenizer
from models.tokens.windows import Augmentation, Mixture, WindowDataset, piece_weights
from music.analysis.chords import chords_of
from music.analysis.sections import bar_places, sections_of
from music.score.cells import cell_statistics
from music.score.form import build
from music.score.parts import Part
from tests.conftest import TPQ

EVERYTHING = Mixture(0.3, 0.3, 0.2, 0.2)


@pytest.fixture(scope="module")
def shard(tokenizer: CellTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Shard:
    folder, random = tmp_path_factory.mktemp("shard"), np.random.default_rng(0)
    with ShardWriter(folder, "train") as writer:
        for i in range(12):
            tracks, bars = 1 + i % 3, 20
            parts = []
            for _ in range(tracks):
                onsets = np.arange(0, bars * 48, 12)
                parts.append(
                    (
                        52,
                        False,
                        np.stack(
                            [onsets, np.full(len(onsets), 12), random.integers(50, 80, len(onsets))], axis=1
                        ),
                    )
                )
            score = build(parts, [(0, 4, 4)], TPQ, 80)
            ids, starts = tokenizer.encode_score(score)
            writer.add(
                ids,
                starts,
                cell_statistics(score),
                bar_places(sections_of(score), len(starts)),
                chords_of(score, "G major"),
                piece_id=str(i),
                collection="a" if i else "b",
                style="chorale",
                rhythm="reel" if i < 2 else "jig",
                key="G major",
                tempo="fast",
                notes=score.note_num(),
                low=50,
                high=79,
            )
    return Shard(folder, "train")


def rows(
    shard: Shard,
    tokenizer: CellTokenizer,
    controls: bool,
    mixture: Mixture = EVERYTHING,
    first: int = 0,
    count: int = 60,
    **knobs: float,
) -> list[tuple[list[str], np.ndarray]]:
    data = WindowDataset(
        shard,
        tokenizer,
        256,
        Augmentation(**{"transpose": 5, "asking": Asking(controls), **knobs}),  # type: ignore[arg-type]
        mixture,
        7,
        first,
        count,
    )
    return [
        ([tokenizer[int(token)] for token in placed[:, 0]], scored.numpy())
        for placed, scored in (data[i] for i in range(count))
    ]


def test_controls_and_what_lies_ahead_are_read_and_never_learned(
    shard: Shard, tokenizer: CellTokenizer
) -> None:
    ahead = False
    for words, scored in rows(shard, tokenizer, controls=True):
        for word, learned in zip(words, scored, strict=True):
            kind = word.split("_")[0]
            ahead = word == "Part_Ahead" or (ahead and word != "Part_Fill")
            if ahead or kind in (
                "Start",
                "Style",
                "Rhythm",
                "Tonic",
                "Mode",
                "Tempo",
                "Bars",
                "Part",
                "Density",
                "Polyphony",
                "Range",
                "NoteLength",
                "Syncopation",
                "MASK",
            ):
                assert not learned, word
        ahead = False


def test_pretraining_asks_for_nothing(shard: Shard, tokenizer: CellTokenizer) -> None:
    kinds = {word.split("_")[0] for words, _ in rows(shard, tokenizer, controls=False) for word in words}
    assert not kinds & {
        "Style",
        "Rhythm",
        "Tonic",
        "Mode",
        "Tempo",
        "Density",
        "Polyphony",
        "Range",
        "NoteLength",
        "Syncopation",
    }
    assert {"Part", "MASK", "Bars"} <= kinds


def test_every_control_is_asked_and_left_out(shard: Shard, tokenizer: CellTokenizer) -> None:
    starts = [
        " ".join(words).split("Start_")[1:] for words, _ in rows(shard, tokenizer, controls=True, count=120)
    ]
    prefixes = [text.split("Bar_")[0] for texts in starts for text in texts]
    for kind in (
        "Style_chorale",
        "Rhythm_jig",
        "Tonic_",
        "Tempo_fast",
        "Bars_",
        "Program_52",
        "Density_",
        "Polyphony_0",
        "Range_",
        "NoteLength_",
        "Syncopation_0",
    ):
        share = np.mean([kind in prefix for prefix in prefixes])
        assert 0.05 < share < 0.95, (kind, share)


def test_a_row_depends_on_seed_and_index_alone(shard: Shard, tokenizer: CellTokenizer) -> None:
    whole, part = rows(shard, tokenizer, True, count=20), rows(shard, tokenizer, True, first=12, count=8)
    assert all(a[0] == b[0] and (a[1] == b[1]).all() for a, b in zip(whole[12:], part, strict=True))


def test_kept_cells_of_a_region_are_not_learned(shard: Shard, tokenizer: CellTokenizer) -> None:
    learned = [
        scored.mean()
        for words, scored in rows(shard, tokenizer, False, Mixture(0, 0, 1, 0))
        if "Part_Fill" in words
    ]
    assert np.mean(learned) < 0.8
    assert np.mean([scored.mean() for _, scored in rows(shard, tokenizer, False, Mixture(1, 0, 0, 0))]) > 0.97


def test_stretched_rows_are_music_of_twice_or_half_the_length(shard: Shard, tokenizer: CellTokenizer) -> None:
    durations = {
        word
        for words, _ in rows(shard, tokenizer, False, Mixture(1, 0, 0, 0), stretch=1.0)
        for word in words
        if word.startswith("Duration")
    }
    assert durations == {"Duration_12"}, (
        "4/4 has neither 4/2 nor 4/8 in this vocabulary, so pieces stay as they are"
    )
    table = stretching(tokenizer, 2)
    assert tokenizer[int(table[tokenizer.id_of("Duration", 6)])] == "Duration_12"
    assert tokenizer[int(stretching(tokenizer, -2)[tokenizer.id_of("Duration", 12)])] == "Duration_6"
    assert stretching(tokenizer, -2)[tokenizer.id_of("Duration", 7)] == -1
    assert table[tokenizer.id_of("Bar", "4/4")] == -1


def test_weights_lift_small_collections_and_rare_labels(shard: Shard) -> None:
    plain, even, rare = (piece_weights(shard, *knobs) for knobs in ((1.0, 0.0), (0.0, 0.0), (1.0, 0.5)))
    collection = np.array([record["collection"] for record in shard.records])
    assert plain[collection == "b"].sum() == pytest.approx(shard.lengths[0] / shard.lengths.sum())
    assert even[collection == "b"].sum() == pytest.approx(0.5)
    reels = np.array([record["rhythm"] == "reel" for record in shard.records])
    assert rare[reels].sum() > plain[reels].sum()


def test_real_ends_are_met_at_every_length_that_is_told(shard: Shard, tokenizer: CellTokenizer) -> None:
    ends: Counter[int] = Counter()
    told = 0
    for words, _ in rows(shard, tokenizer, True, Mixture(1, 0, 0, 0), count=400, most_bars=16, transpose=0):
        told = 0
        bars = 0
        for word in words:
            if word.startswith("Start_"):
                told = bars = 0
            elif word.startswith("Bars_"):
                told = int(word.split("_")[1])
            elif word.startswith("Bar_"):
                bars += 1
            elif word == "EOS_None" and told:
                assert bars == told, "a piece that was told to have so many bars ends after them"
                ends[told] += 1
    assert set(range(1, 20)) <= set(ends), "of pieces of 20 bars every rest is met"
    assert sum(ends.values()) > 200


def test_pieces_stay_within_the_compass_of_their_instrument(shard: Shard, tokenizer: CellTokenizer) -> None:
    t = copy(tokenizer)
    t.parts = {52: Part(50, 81, True)}
    pitches = [
        int(word.split("_")[1])
        for words, _ in rows(shard, t, False, count=40)
        for word in words
        if word.startswith("Pitch_")
    ]
    assert min(pitches) >= 50 and max(pitches) == 81


def test_chords_and_form_are_told_and_moved_with_the_music(shard: Shard, tokenizer: CellTokenizer) -> None:
    random, asker = np.random.default_rng(0), Asker(shard, tokenizer, Asking(True, 0.0, 1.0, 1.0))
    cut = Cut(3, np.arange(4, 12), 2, 16, 0)
    _, told = asker.ask(random, cut, None)
    assert told.chords is not None and len(told.chords) == 8 * 48
    assert told.before == 2 and len(told.sections) == len(told.again) == 8
    moved = transposed(told, 5)
    sounding = (told.chords[:, 0] >= 0) & (told.chords[:, 0] < 12)
    assert (moved.chords[sounding, 0] == (told.chords[sounding, 0] + 5) % 12).all()  # type: ignore[index]
    assert moved.key is None or moved.key[0] == (told.key[0] + 5) % 12  # type: ignore[index]
