"""Compose: fill an empty grid of cells under controls."""

from dataclasses import dataclass, field

from symusic import Score

from models.decoding import NetworkNext, Request, generate
from models.grammar import Plan
from models.network import Network
from models.tokens import CellTokenizer, Labels
from music.instruments import program_of
from music.score import DEFAULT_TEMPO_QPM, to_midi

DEFAULT_METRE = "4/4"


@dataclass(frozen=True)
class Composition:
    """What is asked. Empty strings and lists are left to the model (metre and instruments: to the defaults below)."""

    style: str = ""
    rhythm: str = ""
    key: str = ""
    metre: str = ""
    bars: int = 8
    instruments: list[str | int] = field(default_factory=list)
    tempo: float = DEFAULT_TEMPO_QPM
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 0.98
    n: int = 1


@dataclass(frozen=True)
class Take:
    """One answer: the score, its tokens' count and the seed that gives it again."""

    score: Score
    tokens: int
    seed: int

    @property
    def midi(self) -> bytes:
        return to_midi(self.score)


def default_programs(tokenizer: CellTokenizer, style: str) -> tuple[int, ...]:
    """Four voices for a chorale, otherwise one melody instrument: the first of fiddle, voice, or what the tokenizer knows."""
    if style == "chorale" and 52 in tokenizer.programs:
        return (52,) * 4
    return (next((p for p in (40, 52, 0) if p in tokenizer.programs), tokenizer.programs[0]),)


def requests_of(tokenizer: CellTokenizer, asked: Composition) -> list[Request]:
    """One decoding request for each of the n takes. Raises ValueError (of which NotRepresentable is one) naming what is known."""
    metre = asked.metre or (DEFAULT_METRE if tuple(int(x) for x in DEFAULT_METRE.split("/")) in tokenizer.metres else "/".join(map(str, tokenizer.metres[0])))
    tokenizer.id_of("Bar", metre)
    numerator, denominator = (int(part) for part in metre.split("/"))
    programs = tuple(program_of(name) for name in asked.instruments) or default_programs(tokenizer, asked.style)
    for program in programs:
        tokenizer.id_of("Program", program)
    labels = Labels(asked.style, asked.rhythm, asked.key, asked.bars if asked.bars <= tokenizer.max_bars_control else 0)
    tokenizer.prefix(labels)
    plan = Plan(((numerator, denominator),) * asked.bars, programs)
    return [Request(plan, labels, asked.seed + take, asked.temperature, asked.top_p) for take in range(asked.n)]


def compose(network: Network, tokenizer: CellTokenizer, asked: Composition, deadline_s: float | None = None) -> list[Take]:
    """Write `asked.n` pieces of exactly `asked.bars` bars; take k is drawn with the seed `asked.seed + k`. Raises TimeoutError past the deadline."""
    requests = requests_of(tokenizer, asked)
    written = generate(NetworkNext(network, tokenizer), tokenizer, requests, deadline_s)
    return [Take(tokenizer.decode_ids(ids, asked.tempo), len(ids), request.seed) for request, ids in zip(requests, written, strict=True)]
