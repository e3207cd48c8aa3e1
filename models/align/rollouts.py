"""Takes of the present network for prompts like real pieces, as sequences a training step can read: what
align learns from."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from symusic import Score
from torch import Tensor

from models.decoding.grammar import Grammar
from models.decoding.locks import Locks
from models.decoding.loop import generate
from models.decoding.onnx_decoder import OnnxDecoder
from models.decoding.onnx_graph import build_graph
from models.decoding.script import Plan
from models.fill.parts import as_played, polyphonic
from models.fill.region import Region
from models.fill.request import FillRequest, empty, plan_of
from models.network.config import NetworkConfig
from models.tokens.labels import Labels, TrackAsk
from models.tokens.layout import filled, grid_of
from models.tokens.place import WIDTH
from models.tokens.place_reader import PlaceReader
from models.tokens.shards import Shard, opening
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import control_classes
from music.score.form import bar_table, note_array

SLOTS = 20  # sequences a lane decodes at once
FEWEST_BARS = 4


@dataclass(frozen=True)
class Take:
    """What was written for a prompt: `ids` int32 (T, WIDTH), tokens with their places, with what was read
    before them; `scored` (T,): which are the network's own; `notes` (T, 2): track of each and which note of
    it a pitch token is, -1 for all others; `free` (T', WIDTH): the same where nothing is asked."""

    request: FillRequest
    ids: np.ndarray
    scored: np.ndarray
    notes: np.ndarray
    score: Score
    free: np.ndarray
    ahead: int  # tokens by which `free` is longer


def prompts_like(
    shard: Shard,
    tokenizer: CellTokenizer,
    *,
    count: int,
    bars: int,
    seed: int,
    harmonise: float = 0.5,
    top_p: float = 1.0,
) -> list[FillRequest]:
    """Requests with labels and some controls of real openings, every style as often: `bars` bars of one
    track, half as many of several, of which a share `harmonise` gives the first track and asks for the
    others. Chorales keep from parallels, as they are served (models/decoding/voice_leading.py)."""
    random = np.random.default_rng(seed)
    by_style: dict[str, list[int]] = {}
    for i, record in enumerate(shard.records):
        if len(shard.bar_starts(i)) >= FEWEST_BARS:
            by_style.setdefault(record["style"], []).append(i)
    styles = sorted(by_style)
    return [
        _prompt(
            shard,
            tokenizer,
            int(random.choice(by_style[styles[n % len(styles)]])),
            bars,
            harmonise,
            random,
            seed * 1_000_003 + n,
            top_p,
        )
        for n in range(count)
    ]


def _prompt(
    shard: Shard,
    tokenizer: CellTokenizer,
    i: int,
    bars: int,
    harmonise: float,
    random: np.random.Generator,
    seed: int,
    top_p: float,
) -> FillRequest:
    record, piece = shard.records[i], opening(shard, tokenizer, i, bars)
    plan = plan_of(piece)
    count = len(plan.metres)
    table = bar_table(piece)
    given = len(plan.programs) > 1 and random.random() < harmonise
    statistics, length = shard.statistics(i)[:count], int(table[:, 1].sum())
    share = random.random()
    asks = tuple(
        TrackAsk(
            program,
            tuple(
                (name, index)
                for name, index in control_classes(
                    statistics[:, k], length, tokenizer.ticks_per_quarter
                ).items()
                if random.random() < share
            )
            if k or not given
            else (),
        )
        for k, program in enumerate(plan.programs)
    )
    locks = as_played(tokenizer, plan.programs, record["style"], Locks(), polyphonic(asks))
    labels = Labels(
        record["style"],
        record["rhythm"] if random.random() < 0.9 else "",
        record["key"],
        count,
        tempo=record["tempo"],
        tracks=asks,
    )
    if given:
        missing = empty(plan)
        missing[:, 0] = False
        return FillRequest(plan, missing, labels, seed, piece, locks, top_p=top_p, steered=False)
    even = Plan((plan.metres[min(1, count - 1)],) * count, plan.programs)  # without the upbeat
    return FillRequest(even, empty(even), labels, seed, locks=locks, top_p=top_p, steered=False)


def real_takes(
    shard: Shard, tokenizer: CellTokenizer, *, bars: int, tracks: int, context: int, seed: int
) -> list[Take]:
    """Real openings of pieces of so many tracks as the answers to prompts like them, each once from nothing
    and once with the first track given."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(len(shard)):
        if shard.statistics(i).shape[1] == tracks and len(shard.bar_starts(i)) >= FEWEST_BARS:
            score = opening(shard, tokenizer, i, bars)
            for harmonise in (0.0, 1.0):
                request = _prompt(shard, tokenizer, i, bars, harmonise, random, 0, 1.0)
                found.append(take_of(tokenizer, replace(request, plan=plan_of(score)), score, context))
    return found


class Writer:
    """Decodes with weights as they are now, in two lanes of a thread each."""

    def __init__(self, tokenizer: CellTokenizer, config: NetworkConfig, lanes: int = 2) -> None:
        self._tokenizer, self._config, self._lanes = tokenizer, config, lanes

    def write(self, weights: Mapping[str, Tensor], requests: Sequence[FillRequest]) -> list[Take]:
        """A take of each request, in order."""
        graph = build_graph(
            {name: value.detach().float().cpu().numpy() for name, value in weights.items()},
            self._config,
            eight_bit=True,
        )
        regions = [Region(self._tokenizer, request) for request in requests]

        def lane(k: int) -> list[list[int]]:
            decoder = OnnxDecoder(graph, SLOTS)
            return generate(
                decoder,
                Grammar(self._tokenizer, SLOTS),
                [region.job(decoder.context, float("inf")) for region in regions[k :: self._lanes]],
            )

        with ThreadPoolExecutor(self._lanes) as pool:
            parts = list(pool.map(lane, range(self._lanes)))
        return [
            self._take(region, parts[n % self._lanes][n // self._lanes]) for n, region in enumerate(regions)
        ]

    def _take(self, region: Region, written: list[int]) -> Take:
        return take_of(self._tokenizer, region.request, region.answer(written).score, self._config.context)


def take_of(tokenizer: CellTokenizer, request: FillRequest, score: Score, context: int) -> Take:
    """A score as the answer to a request: the first prompt and what is written after it, at most context + 1
    tokens. Raises ValueError where it is no answer."""
    if plan_of(score) != request.plan:
        raise ValueError("the score has other bars, metres or instruments than the request")
    body, starts = tokenizer.encode_score(score)
    own, scored = filled(
        tokenizer, grid_of(tokenizer, body, starts), request.missing, *request.bars, request.cells
    )
    job = Region(tokenizer, replace(request, guidance=2.0)).job(context, float("inf"))
    assert job.free_prompt is not None
    asked, unasked_ = job.prompt([]), job.free_prompt([])
    before, free = asked.ids, unasked_.ids
    places = PlaceReader(tokenizer)
    ids = places.read(np.array([*before, *own]), asked.told)[: context + 1]
    untold = places.read(np.array([*free, *own]), unasked_.told)[: context + 1]
    marks = np.array([*([False] * len(before)), *scored], dtype=bool)[: context + 1]
    notes = np.concatenate(
        [np.full((len(before), 2), -1), _notes(tokenizer, np.array(own), request.bars[0], score)]
    )
    return Take(request, ids, marks, notes[: context + 1], score, untold, len(free) - len(before))


def _notes(tokenizer: CellTokenizer, own: np.ndarray, first: int, score: Score) -> np.ndarray:
    """(track, index of the note in its track) of each pitch token of whole bars from bar `first` on, -1 for
    other tokens: int64 (n, 2)."""
    bar, program, pitch, drum = (
        (own >= tokenizer.first_id[kind]) & (own < tokenizer.first_id[kind] + tokenizer.block_size[kind])
        for kind in ("Bar", "Program", "Pitch", "PitchDrum")
    )
    programs = np.cumsum(program)
    tracks = programs - np.concatenate([[0], programs[bar]])[np.cumsum(bar)] - 1
    start = int(bar_table(score)[first, 0])
    found = np.full((len(own), 2), -1, dtype=np.int64)
    for k, track in enumerate(score.tracks):
        mine = np.flatnonzero((pitch | drum) & (tracks == k))
        earlier = int((note_array(track)[:, 0] < start).sum())
        found[mine] = np.stack([np.full(len(mine), k), np.arange(len(mine)) + earlier], axis=1)
    return found


def padded(takes: Sequence[Take]) -> tuple[Tensor, Tensor]:
    """Tokens with their places int32 (n, T, WIDTH) and scored bool (n, T), filled up on the right to a
    multiple of 64: few shapes, so that few kernels are built."""
    width = -(-max(len(take.ids) for take in takes) // 64) * 64 + 1
    ids, scored = (
        torch.zeros(len(takes), width, WIDTH, dtype=torch.int32),
        torch.zeros(len(takes), width, dtype=torch.bool),
    )
    for row, take in enumerate(takes):
        ids[row, : len(take.ids)], scored[row, : len(take.ids)] = (
            torch.from_numpy(take.ids),
            torch.from_numpy(take.scored),
        )
    return ids, scored


def unasked(takes: Sequence[Take], width: int) -> tuple[Tensor, Tensor]:
    """The same takes after prompts that ask for nothing, int32 (n, width, WIDTH); and where in them the token
    is that stands at each place of `padded`, int64 (n, width)."""
    ids = torch.zeros(len(takes), width, WIDTH, dtype=torch.int32)
    places = torch.arange(width).repeat(len(takes), 1)
    for row, take in enumerate(takes):
        whole = torch.from_numpy(take.free[:width])
        ids[row, : len(whole)] = whole
        places[row] += take.ahead
    return ids, places.clamp(0, width - 1)


def several_takes(requests: Sequence[FillRequest], takes: int, guidance: float = 1.0) -> list[FillRequest]:
    """`takes` requests in a row for each, alike but for the seed; every second is written with `guidance`."""
    return [
        replace(request, seed=request.seed * takes + k, guidance=guidance if k % 2 else 1.0)
        for request in requests
        for k in range(takes)
    ]
