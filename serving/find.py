"""/v1/similar and /v1/recommend: pieces of the catalogue that are like a score, or for a taste."""

import base64
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from models.fill.compose import Composition
from models.find.answers import Unanswerable
from models.find.catalogue import Filters
from models.find.finder import Finder
from models.find.interactions import Taste
from models.find.reasons import Why
from monitoring import metrics
from serving.desk import Desk
from serving.engine import UPLOAD, Engine
from serving.errors import Refused
from serving.in_flight import current
from serving.schemas import MAX_TAKES, Scorecard, Strict, Word
from serving.scores import ScoreSent

MAX_LIKES, MAX_FOUND = 10_000, 100
Opaque = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")
]  # no @: an id, never an address
Id = Annotated[str, StringConstraints(min_length=1, max_length=300)]
SPARE = 3  # times as many pieces are written as are asked for; the recommender picks
COMPOSED_BARS = 16


class FilterValues(Strict):
    """What an answer must be."""

    labels: dict[Word, Annotated[list[Word], Field(min_length=1, max_length=40)]] = Field(
        default_factory=dict,
        max_length=8,
        description="e.g. {'style': ['irish'], 'mode': ['minor', 'dorian']}",
    )
    ranges: dict[Word, tuple[float, float]] = Field(
        default_factory=dict,
        max_length=12,
        description="descriptors, e.g. {'note_density': [1, 2]}, both ends included",
    )


class SimilarRequest(ScoreSent):
    """A score or an item to find the like of."""

    id: Id | None = Field(None, description="an item of the catalogue, or the id of an answer in the log")
    bars: tuple[int, int] | None = Field(
        None, description="first and last bar of the passage to compare, counted from 1; left out: all"
    )
    k: int = Field(10, ge=1, le=MAX_FOUND)
    filters: FilterValues = Field(default_factory=FilterValues)
    with_midi: bool = Field(False, description="send each item's score too")

    @model_validator(mode="after")
    def _one_query(self) -> "SimilarRequest":
        if bool(self.sent()) == bool(self.id):
            raise ValueError("give one of midi, score and id")
        if self.bars and not 1 <= self.bars[0] <= self.bars[1]:
            raise ValueError(
                f"bars {self.bars[0]} to {self.bars[1]}: count from 1, the first not after the last"
            )
        return self


class RecommendRequest(Strict):
    """Whose taste: a user of the log, lists of items, or both; neither is a new listener."""

    user: Opaque | None = Field(None, description="an opaque id as it was sent with feedback")
    likes: list[Id] = Field(
        default_factory=list, max_length=MAX_LIKES, description="items, or ids of answers"
    )
    dislikes: list[Id] = Field(default_factory=list, max_length=MAX_LIKES)
    k: int = Field(10, ge=1, le=MAX_FOUND)
    diversity: float = Field(
        0.2,
        ge=0,
        le=1,
        description="0: by score alone, 1: by unlikeness to what is already in the list alone",
    )
    exploration: float = Field(
        0.0, ge=0, le=1, description="share of places given to items further down the list"
    )
    repeat: bool = Field(False, description="also items the listener has met; disliked ones never")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    filters: FilterValues = Field(default_factory=FilterValues)
    with_midi: bool = False
    compose: bool = Field(False, description="also pieces that the model writes for this taste")
    takes: int = Field(2, ge=1, le=4, description="pieces to write")

    def cells(self) -> int:
        return COMPOSED_BARS * min(SPARE * self.takes, MAX_TAKES) if self.compose else 0


class ItemAnswer(Strict):
    """One piece of the catalogue."""

    id: str
    style: str
    rhythm: str
    metre: str
    key: str
    composer: str
    collection: str
    licence: str
    bars: int
    notes: int
    descriptors: dict[str, float]
    midi: str = Field("", description="base64, where it was asked for")


class MatchAnswer(Strict):
    query_bars: tuple[int, int]
    bars: tuple[int, int]
    likeness: float = Field(description="cosine of the two passages")


class WhyAnswer(Strict):
    same: list[str]
    alike: list[str]
    different: list[str]
    text: str


class SimilarHit(Strict):
    item: ItemAnswer
    likeness: float = Field(description="mean of the cosine of the wholes and of the nearest passages")
    matches: list[MatchAnswer]
    why: WhyAnswer


class SimilarAnswer(Strict):
    request_id: str
    model: str
    seed: int = 0
    found: list[SimilarHit]
    searched: int = Field(description="items that passed the filters")


class RecommendedItem(Strict):
    item: ItemAnswer
    score: float
    spoke: dict[str, float] = Field(description="which parts lifted it above the mean item, as shares")
    like: str = Field(description="the liked item that is nearest to it, if any")
    why: WhyAnswer | None


class ComposedForYou(Strict):
    id: str
    midi: str
    seed: int
    score: float
    asked: dict[str, str | float]
    scorecard: Scorecard


class RecommendAnswer(Strict):
    request_id: str
    model: str
    seed: int
    origin: str = Field(description="whom the collaborative part learned from: listeners, or simulated")
    likes: int
    dislikes: int
    found: list[RecommendedItem]
    composed: list[ComposedForYou]
    warnings: list[str]


def like(finder: Finder, request: SimilarRequest) -> tuple[list[SimilarHit], int]:
    """Items like a query, and how many passed the filters. Raises Refused."""
    bars = (request.bars[0] - 1, request.bars[1]) if request.bars else None
    try:
        found, searched = finder.similar(
            score=request.reading(UPLOAD).score if request.sent() else None,
            item=request.id or "",
            bars=bars,
            k=request.k,
            filters=_filters(request.filters),
        )
    except Unanswerable as error:
        raise Refused(str(error), request.sent() if error.field == "score" else error.field) from error
    return [
        SimilarHit(
            item=item_answer(finder, each.hit.row, request.with_midi),
            likeness=each.hit.likeness,
            why=_told(each.why),
            matches=[
                MatchAnswer(query_bars=_counted(m.query_bars), bars=_counted(m.bars), likeness=m.likeness)
                for m in each.hit.matches
            ],
        )
        for each in found
    ], searched


def for_taste(finder: Finder, request: RecommendRequest) -> tuple[list[RecommendedItem], Taste, list[str]]:
    """Items for a taste, the taste, and warnings. Raises Refused."""
    try:
        found, taste, warnings = finder.recommend(
            user=request.user or "",
            likes=request.likes,
            dislikes=request.dislikes,
            k=request.k,
            filters=_filters(request.filters),
            diversity=request.diversity,
            exploration=request.exploration,
            repeat=request.repeat,
            seed=request.seed,
        )
    except Unanswerable as error:
        raise Refused(str(error), error.field) from error
    return (
        [
            RecommendedItem(
                item=item_answer(finder, s.row, request.with_midi),
                score=s.score,
                spoke=s.spoke,
                like=s.like,
                why=_told(s.why) if s.why else None,
            )
            for s in found
        ],
        taste,
        warnings,
    )


def compose_for(
    engine: Engine, finder: Finder, taste: Taste, takes: int, seed: int, request_id: str
) -> list[ComposedForYou]:
    """Pieces written for a taste, the best by the same recommender of SPARE times as many. Raises Refused,
    Crowded."""
    try:
        asked = finder.wanted(taste)
    except Unanswerable as error:
        raise Refused(str(error), error.field) from error
    offered = engine.bundle.controls
    asked["controls"] = {name: value for name, value in asked.get("controls", {}).items() if name in offered}
    written, judged = engine.compose(
        Composition(**asked, bars=COMPOSED_BARS, seed=seed, n=min(SPARE * takes, MAX_TAKES)), revise=False
    )
    worth = finder.worth(taste, [take.score for take in written])
    best = sorted(range(len(written)), key=lambda i: -worth[i])[:takes]
    told = {name: value for name, value in asked.items() if name != "controls"} | asked.get("controls", {})
    return [
        ComposedForYou(
            id=f"{request_id}-{n + 1}",
            midi=_base64(written[i].midi),
            seed=written[i].seed,
            score=round(worth[i], 4),
            asked=told,
            scorecard=Scorecard(**judged[i].scorecard),
        )
        for n, i in enumerate(best)
    ]


def item_answer(finder: Finder, row: int, with_midi: bool) -> ItemAnswer:
    item: dict[str, Any] = asdict(finder.catalogue.items[row])
    return ItemAnswer(**item, midi=finder.midi(row) if with_midi else "")


def _filters(values: FilterValues) -> Filters:
    return Filters(values.labels, values.ranges)


def _told(why: Why) -> WhyAnswer:
    return WhyAnswer(same=why.same, alike=why.alike, different=why.different, text=why.text)


def _counted(bars: tuple[int, int]) -> tuple[int, int]:
    """[first, last) from 0 to first and last from 1."""
    return bars[0] + 1, bars[1]


def _base64(data: bytes) -> str:

    return base64.b64encode(data).decode()


def similar(desk: Desk, request: SimilarRequest) -> SimilarAnswer:
    """Pieces of the catalogue that are like a score or an item, and why."""
    body = {**request.model_dump(exclude={"midi", "score"}), **request.told()}
    with desk.exchange("similar", body) as exchange:
        desk.check_owned([request.id] if request.id else (), "id")
        found, searched = like(desk.finder, request)
        told = [{"id": hit.item.id, "likeness": hit.likeness} for hit in found]
        exchange.answer({"found": told, "searched": searched})
    return SimilarAnswer(request_id=exchange.request_id, model=desk.model, found=found, searched=searched)


def recommend(desk: Desk, request: RecommendRequest) -> RecommendAnswer:
    """Pieces for a taste, which part of the recommender spoke, and (compose) pieces written for it."""
    request = request.model_copy(update={"user": current().listener(request.user or "") or None})
    seed, user = request.seed, {"user": request.user} if request.user else {}
    counted = {"likes": len(request.likes), "dislikes": len(request.dislikes)}
    with desk.exchange("recommend", request.model_dump() | counted, seed) as exchange:
        desk.check_owned(request.likes, "likes")
        desk.check_owned(request.dislikes, "dislikes")
        found, taste, warnings = for_taste(desk.finder, request)
        composed = (
            compose_for(desk.engine, desk.finder, taste, request.takes, seed, exchange.request_id)
            if request.compose
            else []
        )
        for name in {part for each in found for part in each.spoke}:
            metrics.SPOKE.labels(name, desk.model).inc(sum(each.spoke.get(name, 0.0) for each in found))
        told = [{"id": each.item.id, "score": each.score, "spoke": each.spoke} for each in found]
        exchange.answer({**user, "found": told, "warnings": warnings})
        for piece in composed:
            row = {**user, **piece.model_dump()}
            nats = piece.scorecard.nats_per_note
            exchange.answer(row, side="output", nats=nats, seed=piece.seed, answer_id=piece.id)
    return RecommendAnswer(
        request_id=exchange.request_id,
        model=desk.model,
        seed=seed,
        origin=desk.bundle.recommender.origin,
        likes=len(taste.liked),
        dislikes=len(taste.disliked),
        found=found,
        composed=composed,
        warnings=warnings,
    )
