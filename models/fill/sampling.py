"""Writing a set of pieces like those of a held-out set, and judging whether each is what was asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from symusic import Score

from models.decoding.grammar import Grammar
from models.decoding.locks import Locks
from models.decoding.loop import Decoder, generate
from models.decoding.script import Plan
from models.fill.parts import as_played, polyphonic
from models.fill.region import Region
from models.fill.request import FillRequest, empty, plan_of
from models.tokens.labels import Labels, TrackAsk
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer
from music.analysis.descriptors import histograms
from music.score.cells import control_classes
from music.score.form import bar_table
from music.score.instruments import DRUMS
from music.score.keys import estimate_key, key_index


@dataclass(frozen=True)
class Sample:
    """A piece that was asked for, its tokens, and its score; score None and a reason where the tokens are not
    valid."""

    request: FillRequest
    ids: np.ndarray
    score: "Score | None"
    reason: str = ""


def requests_like(
    shard: Shard,
    tokenizer: CellTokenizer,
    *,
    count: int,
    bars: int,
    seed: int,
    temperature: float,
    top_p: float,
    guidance: float = 1.0,
    style: str = "",
) -> tuple[list[FillRequest], list[int]]:
    """`count` requests with the labels, tracks, controls and opening metre of pieces of a shard, and the
    pieces they are like.

    Only pieces of at least `bars` bars are taken, in a seeded order, again from the start where there are too
    few. The controls asked of each track are those of the opening `bars` bars of the piece. `style`: only
    pieces of it; nothing where there are none.
    """
    random = np.random.default_rng(seed)
    mine = [i for i, record in enumerate(shard.records) if not style or record["style"] == style]
    able = [i for i in mine if len(shard.bar_starts(i)) >= bars] or mine
    if not able:
        return [], []
    order = [int(i) for _ in range(count // len(able) + 1) for i in random.permutation(able)][:count]
    requests = []
    for n, i in enumerate(order):
        record, piece = shard.records[i], tokenizer.decode_ids(shard.piece(i))
        table = bar_table(piece)
        metre = table[min(1, len(table) - 1), 2:]
        programs = tuple(DRUMS if t.is_drum else t.program for t in piece.tracks)
        statistics, length = shard.statistics(i)[:bars], int(table[:bars, 1].sum())
        asks = tuple(
            TrackAsk(p, tuple(control_classes(statistics[:, k], length, tokenizer.ticks_per_quarter).items()))
            for k, p in enumerate(programs)
        )
        plan = Plan(((int(metre[0]), int(metre[1])),) * bars, programs)
        labels = Labels(
            record["style"], record["rhythm"], record["key"], bars, tempo=record["tempo"], tracks=asks
        )
        requests.append(
            FillRequest(
                plan,
                empty(plan),
                labels,
                seed * 100_003 + n,
                locks=as_played(tokenizer, programs, record["style"], Locks(), polyphonic(asks)),
                temperature=temperature,
                top_p=top_p,
                guidance=guidance,
            )
        )
    return requests, order


def write_samples(
    decoder: Decoder, tokenizer: CellTokenizer, requests: Sequence[FillRequest]
) -> list[Sample]:
    """Decode all requests and judge each answer."""
    regions = [Region(tokenizer, request) for request in requests]
    written = generate(
        decoder,
        Grammar(tokenizer, decoder.slots),
        [region.job(decoder.context, float("inf")) for region in regions],
    )
    return [judge(tokenizer, region, ids) for region, ids in zip(regions, written, strict=True)]


def judge(tokenizer: CellTokenizer, region: Region, ids: Sequence[int]) -> Sample:
    """Valid: exactly the bars, metres and tracks asked, nothing else changed, and a piece that the strict
    decoder reads note for note."""
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
