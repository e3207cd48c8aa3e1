"""Musical place: the reader of whole sequences and the scan token by token say the same, and nothing of what
comes."""

import numpy as np
import pytest
from symusic import Score

from models.tokens.labels import Labels
from models.tokens.layout import ahead_end, filled, grid_of
from models.tokens.place import COLUMN, COPIES, COPY_NAMES, FIRST, NONE, SIZES, WIDTH, Told, entry
from models.tokens.place_cells import Kinds
from models.tokens.place_reader import PlaceReader
from models.tokens.place_scan import PlaceScan
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import CELL_CONTROLS
from music.score.form import build
from tests.conftest import TPQ
from tests.models.decoding.random_fills import random_score

NAMES = ["id", *(f"copy{i}" for i in range(COPIES)), *SIZES]


def sequence(tokenizer: CellTokenizer, random: np.random.Generator) -> tuple[list[int], Told]:
    """A piece from some bar on or a region with what is kept around it, and anything that can be told of
    it."""
    ids, starts = tokenizer.encode_score(random_score(random))
    grid = grid_of(tokenizer, ids, starts)
    B, K = len(starts), len(grid.programs)
    prefix = tokenizer.prefix(Labels(style="irish", bars=3))
    if random.random() < 0.5:
        first = int(random.integers(B))
        missing = np.zeros((B, K), dtype=bool)
        chosen = random.random(K) < 0.5
        chosen[random.integers(K)] = True
        missing[first : first + int(random.integers(1, 4)), chosen] = True
        last = int(np.flatnonzero(missing.any(axis=1))[-1]) + 1
        hidden = grid.with_missing(missing)
        end = ahead_end(hidden, first, int(random.integers(20, 200)))
        start = int(random.integers(first + 1))
        ahead = hidden.masked(first, end, tokenizer.mask_id)
        shown = (
            [tokenizer.id_of("Part", "Ahead"), *ahead, tokenizer.id_of("Part", "Fill")] if end > first else []
        )
        cells = {(first, 0): (("density", 2),)} if random.random() < 0.3 else {}
        written = filled(tokenizer, grid, missing, first, last, cells)[0]
        tokens, before, shown_bars = (
            [*prefix, *shown, *grid.written(start, first), *written],
            first - start,
            last - start,
        )
    else:
        start = int(random.integers(B))
        tokens, before, shown_bars = prefix + ids[starts[start] :].tolist(), 0, B - start
    return tokens, told_at_random(random, K, before, shown_bars)


def told_at_random(random: np.random.Generator, tracks: int, before: int, bars: int) -> Told:
    def often(share: float) -> bool:
        return bool(random.random() < share)

    beats = int(random.integers(1, 60))
    chords = np.stack(
        [random.integers(low, high, beats) for low, high in ((-1, 13), (0, 10), (0, 12))], axis=1
    )
    return Told(
        tracks,
        int(random.integers(70)),
        int(random.integers(-1, 30)),
        before,
        (int(random.integers(12)), int(random.integers(4))) if often(0.7) else None,
        tuple(tuple(int(random.integers(-1, c.classes)) for c in CELL_CONTROLS) for _ in range(tracks))
        if often(0.6)
        else (),
        tuple((int(random.integers(-1, 5)), b % 8, 7 - b % 8) for b in range(bars)) if often(0.5) else (),
        tuple(int(random.integers(-1, b)) if b and often(0.7) else NONE for b in range(bars))
        if often(0.5)
        else (),
        chords.repeat(TPQ, axis=0) if often(0.5) else None,
    )


def test_whole_sequences_and_token_by_token_say_the_same(tokenizer: CellTokenizer) -> None:
    random, reader = np.random.default_rng(0), PlaceReader(tokenizer)
    for n in range(1000):
        tokens, told = sequence(tokenizer, random)
        whole, scanned = reader.read(np.array(tokens), told), PlaceScan(reader.kinds, told).follow(tokens)
        differing = {NAMES[column] for _, column in np.argwhere(whole != scanned)}
        assert not differing, (n, differing)


def test_a_place_says_nothing_of_what_comes_after_it(tokenizer: CellTokenizer) -> None:
    random, reader = np.random.default_rng(1), PlaceReader(tokenizer)
    for _ in range(60):
        tokens, told = sequence(tokenizer, random)
        whole = reader.read(np.array(tokens), told)
        for stop in random.integers(1, len(tokens), 8).tolist():
            assert np.array_equal(reader.read(np.array(tokens[:stop]), told), whole[:stop])


def test_every_entry_lies_in_its_column(tokenizer: CellTokenizer) -> None:
    random, reader = np.random.default_rng(2), PlaceReader(tokenizer)
    seen: set[str] = set()
    for _ in range(200):
        tokens, told = sequence(tokenizer, random)
        entries = reader.read(np.array(tokens), told)[:, 1 + COPIES :]
        assert entries.shape[1] == WIDTH - 1 - COPIES
        inside = (entries == 0) | ((entries >= FIRST) & (entries < FIRST + np.array(list(SIZES.values()))))
        assert inside.all()
        seen |= {name for i, name in enumerate(SIZES) if entries[:, i].any()}
    rare = {
        *(f"run{name}" for name in ("8", "16", "+8", "+16")),
        *(f"{name}{o}" for name in ("pitch", "motion", "parallel") for o in ("-3", "+3")),
    }
    assert set(SIZES) - rare <= seen, "some column never says anything"


@pytest.fixture
def duet() -> Score:
    """Two bars: a soprano C D | E G over a bass C (held) | G."""
    soprano = np.array([(0, 24, 60), (24, 24, 62), (48, 24, 64), (72, 24, 67)])
    bass = np.array([(0, 48, 48), (48, 48, 43)])
    return build([(52, False, soprano), (52, False, bass)], [(0, 4, 4)], TPQ, 80)


def test_the_bass_hears_the_soprano_at_the_very_moment(tokenizer: CellTokenizer, duet: Score) -> None:
    ids, _ = tokenizer.encode_score(duet)
    placed = PlaceReader(tokenizer).read(ids, Told(2, bars_left=2, first_bar=0, key=(0, 0)))

    def says(position: int) -> dict[str, int]:
        row = placed[position, 1 + COPIES :]
        return {name: int(row[i] - FIRST[i]) for name, i in COLUMN.items() if row[i]}

    words = [tokenizer[int(token)] for token in ids]
    bass = [i for i, word in enumerate(words) if word == "Program_52"][3]
    place = says(bass)
    assert (place["tick"], place["bars_left"], place["from_bottom"]) == (0, 1, 0)
    assert place["pitch-1"] == 64 and place["motion-1"] == 64 - 62 + 13, "the soprano came from D to E"
    assert place["last"] == 48 and place["sounds4"] == 0 and "sounds7" not in place
    assert place["moves"] == 1 and place["next_move"] == 24
    last = says(bass + 1)
    assert words[bass + 1] == "Duration_48" and last["closing"] == 1, "so long it ends the last bar"
    assert says(len(ids) - 1).get("closing") is None


def test_parallels_are_named_before_they_are_written(tokenizer: CellTokenizer) -> None:
    soprano, bass = np.array([(0, 24, 67), (24, 24, 69)]), np.array([(0, 24, 60), (24, 24, 65)])
    score = build([(52, False, soprano), (52, False, bass)], [(0, 4, 4)], TPQ, 80)
    ids, _ = tokenizer.encode_score(score)
    placed = PlaceReader(tokenizer).read(ids, Told(2))
    at = next(i for i, token in enumerate(ids) if tokenizer[int(token)] == "Pitch_60")
    column = 1 + COPIES + COLUMN["parallel-1"]
    assert placed[at, column] == entry("parallel-1", 62), "G to A over C: D would be a parallel fifth"


def test_a_bar_that_comes_back_is_foretold_until_it_differs(tokenizer: CellTokenizer) -> None:
    tune = [60, 62, 64, 65]
    pitches = [*tune, 67, 67, 67, 67, *[50] * 8, *tune[:2], 71, 72]
    notes = np.array([(12 * i, 12, p) for i, p in enumerate(pitches)])
    ids, starts = tokenizer.encode_score(build([(40, False, notes)], [(0, 4, 4)], TPQ, 80))
    again = (NONE, NONE, NONE, NONE, 0)
    for placed in (
        PlaceReader(tokenizer).read(ids, Told(1, again=again)),
        PlaceScan(Kinds(tokenizer), Told(1, again=again)).follow(ids),
    ):
        # what form says comes back
        told = [tokenizer[int(t)] if t else "" for t in placed[starts[4] + 1 :, 1 + COPY_NAMES.index("")]]
        lag = [tokenizer[int(t)] if t else "" for t in placed[starts[4] + 1 :, 1]]  # four bars ago
        assert told == lag
        assert told[:5] == ["Duration_12", "Pitch_60", "Pitch_62", "Pitch_64", ""]


def test_copying_is_worn_where_form_tells_of_a_new_bar(tokenizer: CellTokenizer) -> None:
    notes = np.array([(12 * i, 12, 60 + i % 4) for i in range(4 * 6)])
    ids, starts = tokenizer.encode_score(build([(40, False, notes)], [(0, 4, 4)], TPQ, 80))
    pitch, untold = tokenizer.id_of("Pitch", "61"), (NONE, 0, 0)
    new, returning, within = (1, 0, 0), (0, 0, 1), (0, 4, 0)

    def worn(section: tuple[int, int, int], again: tuple[int, ...] = ()) -> tuple[int, ...]:
        told = Told(1, sections=((0, 0, 3), (0, 1, 2), (0, 2, 1), (0, 3, 0), section), again=again)
        scan = PlaceScan(Kinds(tokenizer), told)
        scan.follow(ids[: starts[4] + 4])  # Bar, Program, Duration, Pitch
        assert scan.standing is not None
        return scan.standing.worn

    assert worn(new) == (pitch,)
    assert worn(within) == ()
    assert worn(returning, (NONE,) * 4 + (0,)) == ()
    assert worn(untold) == ()


def test_a_bar_that_is_kept_ahead_is_foretold(tokenizer: CellTokenizer) -> None:
    """A tune of bars A B C D A B C E: bars 1 to 4 are written, 5 to 8 are kept."""
    bars = [[60, 62, 64, 65], [67] * 4, [50] * 4, [72] * 4]
    pitches = [p for bar in [*bars, *bars[:3], [74, 72, 71, 72]] for p in bar]
    notes = np.array([(12 * i, 12, p) for i, p in enumerate(pitches)])
    body, starts = tokenizer.encode_score(build([(40, False, notes)], [(0, 4, 4)], TPQ, 80))
    grid, missing = grid_of(tokenizer, body, starts), np.zeros((8, 1), dtype=bool)
    missing[:4] = True
    ahead = grid.with_missing(missing).masked(0, 8, tokenizer.mask_id)
    ids = [tokenizer.id_of("Part", "Ahead"), *ahead, tokenizer.id_of("Part", "Fill")]
    main = len(ids)
    ids += filled(tokenizer, grid, missing, 0, 4, {})[0]
    reader = PlaceReader(tokenizer)
    for placed in (
        reader.read(np.array(ids), Told(1, first_bar=0)),
        PlaceScan(reader.kinds, Told(1, first_bar=0)).follow(ids),
    ):
        copies = placed[main:, 1 + COPY_NAMES.index("+4")].tolist()
        cells = np.flatnonzero([tokenizer[t].startswith("Program") for t in ids[main:]])
        for bar, at in enumerate(cells[:3].tolist()):
            stop = cells[bar + 1]
            assert copies[at : stop - 1] == ids[main + at + 1 : main + stop], f"bar {bar + 1}"
        assert ids[main + cells[3] + 2] not in copies[cells[3] :], "bar 4 is not what bar 8 is"
        runs = placed[main + cells, 1 + COPIES + COLUMN["run+4"]] - FIRST[COLUMN["run+4"]]
        assert runs.tolist() == [0, 1, 2, 3], "so many bars were the same"
