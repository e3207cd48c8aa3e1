"""/v1/similar, /v1/recommend and /v1/feedback: from requests to models/find/finder.py and back. No HTTP
here."""

from dataclasses import asdict
from typing import Any

from models.fill.compose import Composition
from models.find.answers import Unanswerable
from models.find.catalogue import Filters
from models.find.finder import Finder
from models.find.interactions import Taste
from models.find.reasons import Why
from monitoring.log import EventLog
from monitoring.wins import COMPARED
from serving.engine import Engine
from serving.errors import Refused
from serving.schemas import Scorecard
from serving.schemas_recommending import (
    ComposedForYou,
    FeedbackRequest,
    FilterValues,
    ItemAnswer,
    MatchAnswer,
    RecommendedItem,
    RecommendRequest,
    SimilarHit,
    SimilarRequest,
    WhyAnswer,
)

SPARE = 3  # times as many pieces are written as are asked for; the recommender picks


def similar(finder: Finder, request: SimilarRequest) -> tuple[list[SimilarHit], int]:
    """Items like a query, and how many passed the filters. Raises Refused."""
    bars = (request.bars[0] - 1, request.bars[1]) if request.bars else None
    try:
        found, searched = finder.similar(
            midi=request.midi,
            item=request.id or "",
            bars=bars,
            k=request.k,
            filters=_filters(request.filters),
        )
    except Unanswerable as error:
        raise Refused(str(error), error.field) from error
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


def recommend(finder: Finder, request: RecommendRequest) -> tuple[list[RecommendedItem], Taste, list[str]]:
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
    written, judged = engine.compose(Composition(**asked, bars=16, seed=seed, n=min(SPARE * takes, 8)))
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


def check_item(finder: Finder, log: EventLog, request: FeedbackRequest) -> None:
    """Raises Refused for feedback on what is neither an item nor an answer, and for a comparison of what was
    not offered as a pair."""
    if request.event in COMPARED:
        both = [log.answer(name) for name in (request.item, request.over)]
        for name, row, field in zip((request.item, request.over), both, ("item", "over"), strict=True):
            if row is None:
                raise Refused(
                    f"no answer {name!r} is in the log: compare two takes of one answer, by their ids", field
                )
        if (
            both[0] is not None
            and both[1] is not None
            and (both[0].request_id != both[1].request_id or both[0].id == both[1].id)
        ):
            raise Refused(
                "item and over are to be two takes of one answer (POST /v1/pair, or /v1/compose with n)",
                "over",
            )
        return
    finder.refresh()
    if finder.unknown([request.item]):
        raise Refused(f"no item or answer {request.item!r}: it was never there, or was removed", "item")


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
    import base64

    return base64.b64encode(data).decode()
