"""Writing a set of pieces like those of a held-out set, and judging whether each is what was asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from symusic import Score

from models.decoding import NextToken, Request, generate
from models.grammar import Plan
from models.ngram import NgramModel
from models.shards import Shard
from models.tokens import CellTokenizer, Labels
from music.descriptors import histograms
from music.instruments import DRUMS
from music.keys import estimate_key, key_index
from music.score import bar_table


@dataclass(frozen=True)
class Sample:
    """A piece that was asked for, its tokens, and its score; score None and a reason where the tokens are not valid."""

    request: Request
    ids: np.ndarray
    score: "Score | None"  # quoted: symusic.Score is a factory, and `|` asks for a type
    reason: str = ""


class NgramNext:
    """Next-token scores of the n-gram baseline, so that it writes under the same grammar and the same requests."""

    def __init__(self, model: NgramModel) -> None:
        self._model = model

    def start(self, requests: Sequence[Request]) -> np.ndarray:
        self._histories: list[list[int]] = [[] for _ in requests]
        return self._scores()

    def _scores(self) -> np.ndarray:
        return np.log(np.stack([self._model.distribution(history[-self._model.order :]) for history in self._histories]))

    def step(self, tokens: np.ndarray, bars: np.ndarray) -> np.ndarray:
        for history, token in zip(self._histories, tokens, strict=True):
            history.append(int(token))
        return self._scores()

    def keep(self, rows: np.ndarray) -> None:
        self._histories = [self._histories[int(row)] for row in rows]


def requests_like(shard: Shard, tokenizer: CellTokenizer, *, count: int, bars: int, seed: int, temperature: float, top_p: float) -> tuple[list[Request], list[int]]:
    """`count` requests with the labels, tracks and opening metre of pieces of a shard, and the pieces they are like.

    Only pieces of at least `bars` bars are taken, in a seeded order, again from the start where there are too few.
    """
    random = np.random.default_rng(seed)
    able = [i for i in range(len(shard)) if len(shard.bar_starts(i)) >= bars]
    if not able:
        able = list(range(len(shard)))
    order = [int(i) for _ in range(count // len(able) + 1) for i in random.permutation(able)][:count]
    requests = []
    for n, i in enumerate(order):
        record, opening = shard.records[i], tokenizer.decode_ids(shard.piece(i))
        metre = bar_table(opening)[min(1, len(shard.bar_starts(i)) - 1), 2:]
        programs = tuple(DRUMS if t.is_drum else t.program for t in opening.tracks)
        plan = Plan(((int(metre[0]), int(metre[1])),) * bars, programs)
        asked = bars if bars <= tokenizer.max_bars_control else 0
        requests.append(Request(plan, Labels(record["style"], record["rhythm"], record["key"], asked), seed * 100_003 + n, temperature, top_p))
    return requests, order


def write_samples(model: NextToken, tokenizer: CellTokenizer, requests: Sequence[Request], batch_size: int) -> list[Sample]:
    """Decode all requests in batches and judge each answer with the strict decoder."""
    samples = []
    for first in range(0, len(requests), batch_size):
        batch = requests[first : first + batch_size]
        for request, ids in zip(batch, generate(model, tokenizer, batch), strict=True):
            samples.append(judge(tokenizer, request, ids))
    return samples


def judge(tokenizer: CellTokenizer, request: Request, ids: np.ndarray) -> Sample:
    """Valid: decodes strictly, and has exactly the bars, metres and tracks that were asked."""
    try:
        score = tokenizer.decode_ids(ids)
    except ValueError as error:
        return Sample(request, ids, None, str(error))
    metres = tuple((int(n), int(d)) for _, _, n, d in bar_table(score))
    programs = tuple(DRUMS if t.is_drum else t.program for t in score.tracks)
    if metres != request.plan.metres:
        return Sample(request, ids, None, f"{len(metres)} bars, asked {len(request.plan.metres)}")
    if programs != request.plan.programs:
        return Sample(request, ids, None, f"tracks {programs}, asked {request.plan.programs}")
    return Sample(request, ids, score)


def key_obeyed(score: Score, label: str) -> bool:
    """The asked tonic and third (major or minor) are those of Krumhansl's estimate."""
    tonic, mode = key_index(label)
    found_tonic, found_mode = key_index(estimate_key(histograms(score)["pitch_class_histogram"])[0])
    return tonic == found_tonic and (mode in (1, 2)) == (found_mode == 1)
