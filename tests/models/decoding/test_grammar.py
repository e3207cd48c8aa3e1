from collections import deque

import numpy as np
import pytest

from models.decoding.grammar import Grammar
from models.decoding.locks import LockError, Locks
from models.decoding.loop import Batch
from models.decoding.nucleus import choose
from models.decoding.script import Plan
from models.fill.region import Region
from models.fill.request import FillRequest, empty, plan_of
from models.tokens.labels import Labels
from models.tokens.tokenizer import CellTokenizer
from music.score.form import build, note_array, same_notes
from tests.conftest import TPQ
from tests.models.decoding.random_fills import C_MAJOR, RandomDecoder, random_request


def walk(
    tokenizer: CellTokenizer, requests: list[FillRequest], seed: int
) -> list[tuple[Region, list[int] | Exception]]:
    """Fill every request with random scores; (region, tokens or the LockError)."""
    decoder = RandomDecoder(len(tokenizer), 32, seed)
    batch, waiting, regions, done = Batch(decoder, Grammar(tokenizer, decoder.slots)), deque(), {}, []
    for request in requests:
        region = Region(tokenizer, request)
        try:
            job = region.job(decoder.context, float("inf"))
        except LockError as error:
            done.append((region, error))
            continue
        regions[id(job)] = region
        waiting.append(job)
    while waiting or len(batch):
        while waiting and batch.room_for(waiting[0]):
            batch.admit(waiting.popleft())
        done += [(regions[id(job)], outcome) for job, outcome in batch.step()]
    return done


@pytest.mark.parametrize("seed", range(10))
def test_a_thousand_random_walks_are_valid_and_end(tokenizer: CellTokenizer, seed: int) -> None:
    random = np.random.default_rng(seed)
    outcomes = walk(tokenizer, [random_request(random, i) for i in range(1000)], seed)
    assert len(outcomes) == 1000
    impossible = 0
    for region, outcome in outcomes:
        if isinstance(outcome, Exception):
            assert isinstance(outcome, LockError), outcome
            impossible += 1
            continue
        answer = region.answer(
            outcome
        )  # raises where a kept cell changed, bars or tracks are not those asked, or a pitch overlaps itself
        assert same_notes(tokenizer.decode_ids(tokenizer.encode_score(answer.score)[0]), answer.score)
        assert_locks_hold(region, answer.score)
    assert impossible < 60, "random locks are rarely impossible"


def assert_locks_hold(region: Region, score: object) -> None:
    request = region.request
    locks, starts = request.locks, region.starts
    for k, track in enumerate(score.tracks):  # type: ignore[attr-defined]
        notes = note_array(track)
        bar = np.searchsorted(starts, notes[:, 0], side="right") - 1
        inside = request.missing[bar, k]
        new, bar = notes[inside], bar[inside]
        if locks.scale and not track.is_drum:
            assert np.isin(new[:, 2] % 12, list(locks.scale)).all()
        if k in locks.ranges:
            assert ((new[:, 2] >= locks.ranges[k][0]) & (new[:, 2] <= locks.ranges[k][1])).all()
        assert ((new[:, 0] - starts[bar]) % locks.grid_ticks == 0).all()
        assert (new[:, 1] % locks.grid_ticks == 0).all()
        old = region.old[k]
        if locks.rhythm:
            assert sorted(map(tuple, new[:, :2].tolist())) == sorted(map(tuple, old[:, :2].tolist()))
        if locks.pitches:
            old_bar = np.searchsorted(starts, old[:, 0], side="right") - 1
            for b in range(len(starts) - 1):
                assert np.array_equal(new[bar == b, 2], old[old_bar == b, 2])


def test_rows_by_themselves_and_all_at_once_have_the_same_mask(
    tokenizer: CellTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(5)
    decoder = RandomDecoder(len(tokenizer), 24, 0)
    grammar = Grammar(tokenizer, decoder.slots)
    batch, compared = Batch(decoder, grammar), 0
    for i in range(300):
        request = random_request(random, i)
        try:
            job = Region(tokenizer, request).job(decoder.context, float("inf"))
        except LockError:
            continue
        while not batch.room_for(job):
            for key in batch.due():
                alone = grammar.mask(np.array([key]))[0]
                with monkeypatch.context() as patched:
                    patched.setattr("models.decoding.grammar.FEW", 0)
                    assert np.array_equal(alone, grammar.mask(np.array([key]))[0])
                compared += 1
            batch.step()
        batch.admit(job)
    assert compared > 5000


def test_a_piece_can_be_written_in_one_way_only(tokenizer: CellTokenizer) -> None:
    requests = [
        FillRequest(plan, empty(plan), Labels(), i)
        for i, plan in enumerate([Plan(((3, 4), (6, 8)), (40, -1)), Plan(((4, 4),) * 3, (52,))] * 30)
    ]
    for region, outcome in walk(tokenizer, requests, 1):
        score = region.answer(outcome).score  # type: ignore[arg-type]
        if all(len(track.notes) for track in score.tracks):
            assert tokenizer.encode_score(score)[0].tolist() == outcome


def test_what_real_music_does_is_never_forbidden(tokenizer: CellTokenizer) -> None:
    notes = np.array([(0, 6, 60), (0, 6, 64), (6, 30, 67), (12, 6, 64), (48, 12, 60), (96, 48, 72)])
    score = build([(40, False, notes)], [(0, 4, 4)], TPQ, 80)
    ids = tokenizer.encode_score(score)[0].tolist()
    plan = plan_of(score)
    grammar = Grammar(tokenizer, 1)
    grammar.join(
        0, Region(tokenizer, FillRequest(plan, empty(plan), Labels(), 0)).job(256, float("inf")).script
    )
    for token in ids:
        settled = grammar.settled(0)
        if settled:
            assert settled[0] == token
        else:
            assert grammar.mask(np.array([0]))[0, token], tokenizer[token]
        grammar.advance(0, token)
    assert grammar.finished(0)


@pytest.mark.parametrize(
    ("locks", "message"),
    [
        ({"rhythm": True, "pitches": True}, "both locked"),
        ({"scale": frozenset([12])}, "pitch classes 0 to 11"),
        ({"ranges": {0: (70, 60)}}, "lowest first"),
        ({"scale": C_MAJOR, "ranges": {0: (61, 61)}}, "no pitch of the scale lies in the range"),
    ],
)
def test_locks_that_cannot_hold_say_so(locks: dict[str, object], message: str) -> None:
    with pytest.raises(LockError, match=message):
        Locks(**locks).allowed_pitches(0, is_drum=False)  # type: ignore[arg-type]


def test_nucleus_keeps_the_smallest_set_and_only_legal_tokens() -> None:
    scores = np.log(np.array([[0.5, 0.3, 0.15, 0.05]])).repeat(4000, axis=0)
    legal = np.ones_like(scores, dtype=bool)
    draws = np.random.default_rng(0).random(4000)
    ones = np.ones(4000)
    picked = np.bincount(choose(scores, legal, draws, ones, ones * 0.6), minlength=4) / 4000
    assert picked[2:].sum() == 0
    assert picked[0] == pytest.approx(0.625, abs=0.03)
    legal[:, 0] = False
    assert set(choose(scores, legal, draws, ones, ones)) == {1, 2, 3}
    assert set(choose(scores, legal, draws, ones * 0.05, ones)) == {1}


def test_an_illegal_token_is_never_drawn_at_the_end_of_the_unit_interval() -> None:
    scores, legal = np.zeros((1, 5)), np.array([[True, True, False, False, False]])
    assert choose(scores, legal, np.array([np.nextafter(1, 0)]), np.ones(1), np.ones(1))[0] in (0, 1)


def test_one_line_stays_one_line_and_sections_come_back_note_for_note(tokenizer: CellTokenizer) -> None:
    random, lines, copies = np.random.default_rng(5), 0, 0
    for region, outcome in walk(tokenizer, [random_request(random, i) for i in range(600)], 5):
        if isinstance(outcome, Exception):
            continue
        request, score = region.request, region.answer(outcome).score
        starts = region.starts
        for k in request.locks.lines & set(range(len(score.tracks))):
            notes = note_array(score.tracks[k])
            bar = np.searchsorted(starts, notes[:, 0], side="right") - 1
            new = notes[request.missing[bar, k]]
            if request.plan.programs[k] >= 0:
                assert (new[1:, 0] >= new[:-1, 0] + new[:-1, 1]).all()
                lines += len(new) > 1
        for b in request.copied:
            source = int(request.form[b, 3])  # type: ignore[index]
            for track in score.tracks:
                notes = note_array(track)
                mine, theirs = (
                    notes[(notes[:, 0] >= starts[x]) & (notes[:, 0] < starts[x + 1])] - [starts[x], 0, 0]
                    for x in (b, source)
                )
                assert np.array_equal(mine, theirs)
                copies += len(mine) > 0
    assert lines > 50 and copies > 10


def test_notes_that_are_to_stay_are_there_and_others_are_written_round_them(tokenizer: CellTokenizer) -> None:
    notes = np.array([(0, 12, 60), (12, 12, 62), (24, 12, 64), (36, 12, 65)])
    score = build([(40, False, notes)], [(0, 4, 4)], TPQ, 80)
    plan, held = plan_of(score), notes[[1, 3]]
    for seed in range(20):
        locks = Locks(lines=frozenset({0} if seed % 2 else ()))
        request = FillRequest(plan, empty(plan), Labels(), seed, score, locks, held=(held,))
        ((region, outcome),) = walk(tokenizer, [request], seed)
        assert not isinstance(outcome, Exception)
        found = note_array(region.answer(outcome).score.tracks[0])
        assert {tuple(note) for note in held.tolist()} <= {tuple(note) for note in found.tolist()}
