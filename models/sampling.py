"""Writing a set of pieces like those of a held-out set, and judging whether each is what was asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from symusic import Score

from models.decoding import Decoder, generate
from models.fill import FillRequest, Region, empty, plan_of
from models.grammar import Grammar
from models.labels import Labels, TrackAsk
from models.ngram import NgramModel
from models.script import Plan
from models.shards import Shard
from models.tokens import CellTokenizer
from music.cells import control_classes
from music.descriptors import histograms
from music.instruments import DRUMS
from music.keys import estimate_key, key_index
from music.score import bar_table


@dataclass(frozen=True)
class Sample:
    """A piece that was asked for, its tokens, and its score; score None and a reason where the tokens are not valid."""

    request: FillRequest
    ids: np.ndarray
    score: "Score | None"
    reason: str = ""


class NgramDecoder:
    """Next-token scores of the n-gram baseline, so that it writes under the same grammar and the same requests. It reads no controls."""

    def __init__(self, model: NgramModel, tokenizer: CellTokenizer, slots: int, context: int) -> None:
        self._model, self._tokenizer, self.slots, self.context = model, tokenizer, slots, context
        self._histories: dict[int, list[int]] = {}

    def prefill(self, slot: int, ids: Sequence[int]) -> np.ndarray:
        self._histories[slot] = music_of(self._tokenizer, ids)
        return self._scores(slot)

    def extend(self, slot: int, ids: Sequence[int]) -> np.ndarray:
        self._histories[slot] += [token for token in ids if not self._tokenizer.is_control(token)]
        return self._scores(slot)

    def step(self, slots: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return np.stack([self.extend(slot, [token]) for slot, token in zip(slots.tolist(), tokens.tolist(), strict=True)])

    def _scores(self, slot: int) -> np.ndarray:
        return np.log(self._model.distribution(self._histories[slot][-self._model.order :]))


def music_of(tokenizer: CellTokenizer, ids: Sequence[int]) -> list[int]:
    """The bars that lead up to what is written: without controls and without what lies ahead."""
    fill = tokenizer.id_of("Part", "Fill")
    start = len(ids) - list(ids)[::-1].index(fill) if fill in ids else next((i for i, token in enumerate(ids) if tokenizer.is_bar(token)), len(ids))
    return [token for token in ids[start:] if not tokenizer.is_control(token)]


def requests_like(shard: Shard, tokenizer: CellTokenizer, *, count: int, bars: int, seed: int, temperature: float, top_p: float, guidance: float = 1.0) -> tuple[list[FillRequest], list[int]]:
    """`count` requests with the labels, tracks, controls and opening metre of pieces of a shard, and the pieces they are like.

    Only pieces of at least `bars` bars are taken, in a seeded order, again from the start where there are too few. The controls asked of
    each track are those of the opening `bars` bars of the piece.
    """
    random = np.random.default_rng(seed)
    able = [i for i in range(len(shard)) if len(shard.bar_starts(i)) >= bars]
    if not able:
        able = list(range(len(shard)))
    order = [int(i) for _ in range(count // len(able) + 1) for i in random.permutation(able)][:count]
    requests = []
    for n, i in enumerate(order):
        record, piece = shard.records[i], tokenizer.decode_ids(shard.piece(i))
        table = bar_table(piece)
        metre = table[min(1, len(table) - 1), 2:]
        programs = tuple(DRUMS if t.is_drum else t.program for t in piece.tracks)
        statistics, length = shard.statistics(i)[:bars], int(table[:bars, 1].sum())
        asks = tuple(TrackAsk(p, tuple(control_classes(statistics[:, k], length, tokenizer.ticks_per_quarter).items())) for k, p in enumerate(programs))
        plan = Plan(((int(metre[0]), int(metre[1])),) * bars, programs)
        labels = Labels(record["style"], record["rhythm"], record["key"], bars, tempo=record["tempo"], tracks=asks)
        requests.append(FillRequest(plan, empty(plan), labels, seed * 100_003 + n, temperature=temperature, top_p=top_p, guidance=guidance))
    return requests, order


def write_samples(decoder: Decoder, tokenizer: CellTokenizer, requests: Sequence[FillRequest]) -> list[Sample]:
    """Decode all requests and judge each answer."""
    regions = [Region(tokenizer, request) for request in requests]
    written = generate(decoder, Grammar(tokenizer, decoder.slots), [region.job(decoder.context, float("inf")) for region in regions])
    return [judge(tokenizer, region, ids) for region, ids in zip(regions, written, strict=True)]


def judge(tokenizer: CellTokenizer, region: Region, ids: Sequence[int]) -> Sample:
    """Valid: exactly the bars, metres and tracks asked, nothing else changed, and a piece that the strict decoder reads note for note."""
    request, array = region.request, np.array(ids, dtype=np.uint16)
    try:
        score = region.answer(ids).score
        again = tokenizer.decode_ids(tokenizer.encode_score(score)[0])
        if plan_of(again) != request.plan:
            raise ValueError("written again, it has other bars or tracks")
    except (ValueError, RuntimeError) as error:
        return Sample(request, array, None, str(error))
    return Sample(request, array, score)


def key_obeyed(score: Score, label: str) -> bool:
    """The asked tonic and third (major or minor) are those of Krumhansl's estimate."""
    tonic, mode = key_index(label)
    found_tonic, found_mode = key_index(estimate_key(histograms(score)["pitch_class_histogram"])[0])
    return tonic == found_tonic and (mode in (1, 2)) == (found_mode == 1)
