"""/v1/pair: two takes of one prompt in a blind order, for people to compare. No HTTP here."""

import base64
import random
from dataclasses import dataclass
from typing import Any

from models.fill.compose import Take
from models.judge.scorecard import Judged
from serving.engine import Engine
from serving.schemas_comparing import PairAnswer, PairRequest, PairTake

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


def pair(
    champion: Engine, rival: Engine | None, request: PairRequest, seed: int, request_id: str
) -> list[Shown]:
    """Two takes in the order they are shown. With a rival both take the same seed. Raises Refused,
    Crowded."""
    writers = [(champion, seed), (rival, seed) if rival else (champion, seed + 1)]
    written = [
        (engine, *engine.compose(engine.composition(request.model_copy(update={"n": 1}), own)))
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
