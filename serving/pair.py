"""/v1/pair and /v1/wins: two takes of one prompt in a blind order, and which model people preferred."""

import base64
import random
import uuid
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from models.fill.compose import Take
from models.judge.scorecard import Judged
from monitoring import metrics
from serving.compose import ComposeRequest, composition
from serving.desk import Desk
from serving.engine import Engine
from serving.schemas import MAX_TAKES, Strict

DRAWN = (
    "style",
    "rhythm",
    "key",
    "metre",
    "instruments",
)  # a request with none of these has its prompt drawn
PLACES = ("first", "second")
PROMPTS = (
    ("irish", "jig", "6/8"),
    ("irish", "reel", "4/4"),
    ("scottish", "", "4/4"),
    ("american_fiddle", "hornpipe", "4/4"),
    ("chorale", "", "4/4"),
)
KEYS = ("D major", "G major", "A minor", "E minor", "A major")


@dataclass(frozen=True)
class Shown:
    """A take as it is shown, and whose it is."""

    id: str
    model: str
    take: Take
    judged: Judged
    place: str


class PairRequest(ComposeRequest):
    """A prompt as for /v1/compose; `n` is not read. What is left out entirely is drawn from what the model
    knows."""

    def cells(self) -> int:
        return 2 * super().cells()


class PairTake(Strict):
    id: str = Field(description="to be named in feedback")
    midi: str = Field(description="base64")
    bars: int
    notes: int


class PairAnswer(Strict):
    """Two takes of one prompt in a blind order: from two models where the service has a rival, else from two
    seeds of one."""

    request_id: str
    model: str = Field(description="the champion; which take is its is not told")
    seed: int
    asked: dict[str, str | int]
    takes: tuple[PairTake, PairTake]


class DuelAnswer(Strict):
    model: str
    rival: str
    won: int
    lost: int
    tied: int
    rate: float = Field(description="share won by `model`, a tie half")
    low: float = Field(description="of the 95 % interval of the rate")
    high: float


class WinsAnswer(Strict):
    request_id: str
    model: str
    seed: int = 0
    duels: list[DuelAnswer]


def drawn_prompt(engine: Engine, seed: int) -> dict[str, Any]:
    """A style, with its dance and metre where the model knows them, a key and eight bars."""
    chance, known = random.Random(seed), engine.known()
    able = (
        [prompt for prompt in PROMPTS if prompt[0] in known["styles"]]
        or [(style, "", "") for style in known["styles"]]
        or [("", "", "")]
    )
    style, rhythm, metre = chance.choice(able)
    return {
        "style": style,
        "rhythm": rhythm if rhythm in known["rhythms"] else "",
        "metre": metre if metre in known["metres"] else "",
        "key": chance.choice(KEYS),
        "bars": 8,
    }


def prompt_of(engine: Engine, request: PairRequest, seed: int) -> PairRequest:
    """The request, or a drawn one where it asks for nothing."""
    given = {name for name in DRAWN if getattr(request, name)}
    return request if given else request.model_copy(update=drawn_prompt(engine, seed))


def two_takes(
    champion: Engine, rival: Engine | None, request: PairRequest, seed: int, request_id: str
) -> list[Shown]:
    """Two takes in the order they are shown. With a rival both take the same seed. Raises Refused,
    Crowded."""
    writers = [(champion, seed), (rival, seed) if rival else (champion, seed + 1)]
    one = request.model_copy(update={"n": 1})
    written = [
        (engine, *engine.compose(composition(engine, one, own), request.revise, request.dynamics))
        for engine, own in writers
    ]
    random.SystemRandom().shuffle(written)
    return [
        Shown(f"{request_id}-{n + 1}", engine.bundle.tag, takes[0], judged[0], PLACES[n])
        for n, (engine, takes, judged) in enumerate(written)
    ]


def pair_answer(
    shown: list[Shown], request: PairRequest, model: str, seed: int, request_id: str
) -> PairAnswer:
    first, second = (
        PairTake(
            id=each.id,
            midi=base64.b64encode(each.take.midi).decode(),
            bars=each.judged.bars,
            notes=each.judged.notes,
        )
        for each in shown
    )
    asked = {
        name: value
        for name in ("style", "rhythm", "key", "metre", "bars")
        if (value := getattr(request, name))
    }
    return PairAnswer(request_id=request_id, model=model, seed=seed, asked=asked, takes=(first, second))


def pair(desk: Desk, request: PairRequest) -> PairAnswer:
    """Two takes of one prompt in a blind order; say with /v1/feedback which is better."""
    seed = desk.seed_of(request.seed, MAX_TAKES)
    asked = prompt_of(desk.engine, request, seed)
    with desk.exchange("pair", asked.model_dump(), seed) as exchange:
        hidden = desk.hidden_seed(seed, MAX_TAKES)  # /v1/compose would tell whose take is whose
        shown = two_takes(desk.engine, desk.rival, asked, hidden, exchange.request_id)
        answer = pair_answer(shown, asked, desk.model, seed, exchange.request_id)
        for each, take in zip(shown, answer.takes, strict=True):
            metrics.TAKES.labels("true", desk.model).inc(each.model == desk.model)
            row = {**take.model_dump(), "shown": each.place}
            exchange.answer(
                row,
                side="output",
                card=each.judged,
                seed=each.take.seed,
                answer_id=each.id,
                model=each.model,
                noted=False,
            )
    return answer


def wins(desk: Desk) -> WinsAnswer:
    """Which model people preferred in pairs of two models."""
    found = [
        DuelAnswer(
            model=d.model,
            rival=d.rival,
            won=d.won,
            lost=d.lost,
            tied=d.tied,
            rate=round(d.rate, 4),
            low=round(d.interval[0], 4),
            high=round(d.interval[1], 4),
        )
        for d in desk.wins.duels()
    ]
    return WinsAnswer(request_id=uuid.uuid4().hex, model=desk.model, duels=found)
