"""Sequences: the example of docs/model.md, and that training and decoding lay out the same."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from symusic import Score

from models.fill.region import Region
from models.fill.request import FillRequest, plan_of
from models.tokens.labels import Labels, TrackAsk
from models.tokens.layout import filled, grid_of
from models.tokens.tokenizer import CellTokenizer
from music.score.form import build
from tests.conftest import ROOT, TPQ, normal_scores

SOPRANO = np.array(
    [
        (0, 12, 67),
        (12, 12, 69),
        (24, 24, 71),
        (48, 24, 72),
        (72, 24, 71),
        (96, 24, 69),
        (120, 24, 67),
        (144, 48, 67),
    ]
)
BASS = np.array(
    [(0, 24, 55), (24, 24, 52), (48, 24, 48), (72, 24, 55), (96, 24, 50), (120, 24, 50), (144, 48, 43)]
)


def test_the_example_of_the_documentation_is_what_the_code_writes(tokenizer: CellTokenizer) -> None:
    score = build([(52, False, SOPRANO), (52, False, BASS)], [(0, 4, 4)], TPQ, 80)
    missing = np.zeros((4, 2), dtype=bool)
    missing[1:3, 1] = True
    labels = Labels(
        style="chorale", key="G major", bars=4, tracks=(TrackAsk(52), TrackAsk(52, (("density", 1),)))
    )
    job = Region(
        tokenizer, FillRequest(plan_of(score), missing, labels, 0, score, cells={(1, 1): (("density", 1),)})
    ).job(512, float("inf"))
    grid = grid_of(tokenizer, *tokenizer.encode_score(score))
    written, scored = filled(tokenizer, grid, missing, 1, 3, {(1, 1): (("density", 1),)})
    shown = " ".join(tokenizer[token].replace("_None", "") for token in [*job.prompt([]).ids, *written])
    page = (ROOT / "docs/model.md").read_text().split("Start_Piece", 1)[1].split("\n\n", 1)[0]
    words = [
        word.strip("[]") for word in f"Start_Piece{page}".split() if "_" in word or word in ("MASK", "EOS")
    ]
    assert shown == " ".join(words)
    assert [tokenizer[token] for token, mine in zip(written, scored, strict=True) if mine] == [
        "Duration_24",
        "Pitch_48",
        "Pitch_55",
        "Bar_4/4",
        "Duration_24",
        "Pitch_50",
        "Pitch_50",
        "EOS_None",
    ]


@given(score=normal_scores(), data=st.data())
def test_a_piece_of_written_and_missing_bars_is_the_piece_again(
    tokenizer: CellTokenizer, score: Score, data: st.DataObject
) -> None:
    ids, starts = tokenizer.encode_score(score)
    grid = grid_of(tokenizer, ids, starts)
    missing = np.array(
        data.draw(
            st.lists(
                st.booleans(),
                min_size=len(starts) * len(score.tracks),
                max_size=len(starts) * len(score.tracks),
            )
        )
    ).reshape(len(starts), -1)
    cut = data.draw(st.integers(0, len(starts) - 1))
    written, scored = filled(tokenizer, grid, missing, cut, len(starts), {})
    assert grid.written(0, cut) + written == ids.tolist()
    notes = sum(
        mine and tokenizer[token].startswith("Pitch") for token, mine in zip(written, scored, strict=True)
    )
    expected = sum(
        sum(1 for token in grid.cells[b][k] if tokenizer[int(token)].startswith("Pitch"))
        for b in range(cut, len(starts))
        for k in range(len(score.tracks))
        if missing[b, k]
    )  # type: ignore[union-attr]
    assert notes == expected, "every note of a missing cell is learned, and no other"


def test_a_prompt_of_sixteen_full_tracks_fits_and_is_whole(tokenizer: CellTokenizer) -> None:
    random = np.random.default_rng(0)
    full = [
        (
            0 if k % 5 else 40,
            False,
            np.array(
                [
                    (t, 1, int(p))
                    for t in range(0, 4 * 48, 2)
                    for p in np.sort(random.choice(np.arange(40, 90), 3, replace=False))
                ]
            ),
        )
        for k in range(16)
    ]
    score = build(full, [(0, 4, 4)], TPQ, 80)
    plan = plan_of(score)
    asks = tuple(
        TrackAsk(p, (("density", 7), ("polyphony", 2), ("range", 3), ("note_length", 0), ("syncopation", 0)))
        for p in plan.programs
    )
    for region in ((slice(1, 3), slice(0, 1)), (slice(2, 4), slice(None))):
        missing = np.zeros((4, 16), dtype=bool)
        missing[region] = True
        for context in (256, 512):
            job = Region(tokenizer, FillRequest(plan, missing, Labels(bars=4, tracks=asks), 0, score)).job(
                context, float("inf")
            )
            for written in ([], job.script.tokens[:40].tolist(), job.script.tokens.tolist()):
                words = [tokenizer[token] for token in job.prompt(written).ids]
                assert len(words) < context
                assert words.count("Part_Fill") == words.count("Part_Ahead")
                assert not written or words[-1] == tokenizer[written[-1]]


def test_paths_of_the_page_exist() -> None:
    for path in (
        "models/tokens/layout.py",
        "models/tokens/windows.py",
        "models/fill/region.py",
        "models/tokens/place.py",
        "music/score/cells.py",
        "docs/decisions/0006-fill-format.md",
        "docs/decisions/0007-decoding.md",
        "docs/finetune.md",
    ):
        assert Path(ROOT / path).is_file(), path
