import numpy as np
import pytest

from models.decoding.locks import Locks
from models.decoding.script import Plan
from models.fill.compose import Composition, requests_of
from models.fill.region import Region
from models.fill.request import FillRequest, plan_of
from models.tokens.labels import Labels
from models.tokens.tokenizer import CellTokenizer
from music.analysis.voices import parallels, voice_grid
from music.score.form import build, note_array
from tests.conftest import TPQ
from tests.models.decoding.test_grammar import walk

BARS, STEPS = 4, 8  # bars of 4/4, in quavers


def four_voices(random: np.random.Generator) -> np.ndarray:
    """Pitches (steps, 4) of quavers, at random."""
    return np.stack([random.integers(low, low + 13, BARS * STEPS) for low in (64, 57, 52, 43)], axis=1)


def score_of(grid: np.ndarray):  # type: ignore[no-untyped-def]
    tracks = [
        (52, False, np.array([(n * TPQ // 2, TPQ // 2, pitch) for n, pitch in enumerate(voice)]))
        for voice in grid.T.tolist()
    ]
    return build(tracks, [(0, 4, 4)], TPQ, 80)


def new_parallels(region: Region, tokens: list[int]) -> int:
    """Parallels in which a note that was written takes part."""
    missing = np.repeat(region.request.missing, STEPS, axis=0)
    grid = voice_grid(region.answer(tokens).score, TPQ // 2)
    return sum(
        bool(missing[found.step - 1 : found.step + 1, [found.high, found.low]].any())
        for found in parallels(grid)
    )


@pytest.mark.parametrize("led", [True, False])
def test_no_note_that_is_written_makes_a_parallel_with_what_stands_before_beside_or_after_it(
    tokenizer: CellTokenizer, led: bool
) -> None:
    random = np.random.default_rng(3)
    requests = []
    for n in range(60):
        score = score_of(four_voices(random))
        missing = random.random((BARS, 4)) < random.choice([0.3, 0.7, 1.0])
        missing[random.integers(BARS), random.integers(4)] = True
        ranges = {k: (low, low + 12) for k, low in enumerate((64, 57, 52, 43))}
        requests.append(
            FillRequest(
                plan_of(score),
                missing,
                Labels(bars=BARS),
                n,
                score,
                Locks(rhythm=True, ranges=ranges, voice_leading=led),
            )
        )
    found = sum(new_parallels(region, outcome) for region, outcome in walk(tokenizer, requests, 7))  # type: ignore[arg-type]
    assert found == 0 if led else found > 100


def test_a_parallel_is_written_where_nothing_else_is_legal(tokenizer: CellTokenizer) -> None:
    half = 4 * TPQ
    above, below = (
        np.array([[0, half, 67], [half, half, 69], [2 * half, 2 * half, 71]]),
        np.array([[0, half, 60], [half, half, 61], [2 * half, 2 * half, 61]]),
    )
    score = build([(52, False, above), (52, False, below)], [(0, 2, 2)], TPQ, 80)
    missing = np.zeros((4, 2), dtype=bool)
    missing[1, 1] = True
    locks = Locks(rhythm=True, ranges={1: (62, 62)}, voice_leading=True)
    ((region, outcome),) = walk(
        tokenizer, [FillRequest(plan_of(score), missing, Labels(), 1, score, locks)], 1
    )
    assert note_array(region.answer(outcome).score.tracks[1])[:, 2].tolist() == [60, 62, 61]  # type: ignore[arg-type]


def test_chorales_keep_from_parallels_unless_told_otherwise(tokenizer: CellTokenizer) -> None:
    style = tokenizer.styles[0]
    for asked, led in (
        (Composition(style="chorale"), True),
        (Composition(style=style), style == "chorale"),
        (Composition(style="chorale", locks=Locks(voice_leading=False)), False),
        (Composition(locks=Locks(voice_leading=True)), True),
    ):
        if asked.style and asked.style not in tokenizer.styles:
            continue
        (request,) = requests_of(tokenizer, asked)
        assert request.locks.voice_leading is led
        assert (
            isinstance(request.plan, Plan)
            and (Region(tokenizer, request).job(256, float("inf")).script.leading is not None) is led
        )
