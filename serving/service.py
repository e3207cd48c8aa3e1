"""The BentoML service. The bundle is pinned by `model_tag.txt`, which `ostinato package` writes beside this
file."""

import base64
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bentoml
import torch

from models.bundle import open_bundle
from models.edit.edit import NAMES
from models.fill.fill import ContractBroken
from models.find.finder import Finder
from models.find.interactions import EVENTS
from models.find.recommender import PARTS
from models.judge.scorecard import Judged
from models.tokens.labels import Labels
from monitoring import metrics
from monitoring.drift import SIDES, STATUSES, descriptor_columns, find_drift, rows_on
from monitoring.log import EventLog, Row
from monitoring.wins import COMPARED, duels
from serving.cancelling import AT_WORK
from serving.comparing import pair, pair_answer, prompt_of
from serving.editing import edit, edit_answer, read_upload, stored_score, without_text
from serving.engine import Engine
from serving.errors import Gone
from serving.finding import check_item, compose_for, recommend, similar
from serving.middleware import REQUEST_ID, CheckRequests, CountRequests, OneErrorShape, ServeMetrics
from serving.schemas import (
    MAX_TAKES,
    ComposeAnswer,
    ComposeRequest,
    EditAnswer,
    EditRequest,
    ModelAnswer,
    ScoreAnswer,
    Scorecard,
    ScoreRequest,
    TakeAnswer,
)
from serving.schemas_comparing import DuelAnswer, PairAnswer, PairRequest, WinsAnswer
from serving.schemas_recommending import (
    FeedbackAnswer,
    FeedbackRequest,
    RecommendAnswer,
    RecommendRequest,
    SimilarAnswer,
    SimilarRequest,
)

MODEL_TAG = (
    Path(__file__).with_name("model_tag.txt").read_text().strip()
)  # ostinato:<first 16 digits of the bundle's digest>
MODEL = MODEL_TAG.partition(":")[2]
VERSION = Path(__file__).with_name("model_version.txt").read_text().strip()  # its number in the registry
REQUIREMENTS = Path(__file__).with_name("requirements.txt").read_text().split()
DRIFT_EVERY_S = float(os.environ.get("OSTINATO_DRIFT_EVERY_S", "60"))
DRIFT_WINDOW_H = float(os.environ.get("OSTINATO_DRIFT_WINDOW_H", "24"))
DRIFT_ALPHA = float(os.environ.get("OSTINATO_DRIFT_ALPHA", "0.01"))
CATALOGUE = (
    Path(os.environ["OSTINATO_CATALOGUE"]) if os.environ.get("OSTINATO_CATALOGUE") else None
)  # the owner's own items, if there are any
RIVAL = (
    Path(os.environ["OSTINATO_RIVAL"]) if os.environ.get("OSTINATO_RIVAL") else None
)  # the bundle of another model, which /v1/pair sets against the champion
FAISS_PAST = int(os.environ.get("OSTINATO_FAISS_PAST", "200000"))
DRIFT_MIN_ROWS = int(os.environ.get("OSTINATO_DRIFT_MIN_ROWS", "50"))
logger = logging.getLogger("ostinato")


@bentoml.service(
    name="ostinato",
    image=bentoml.images.Image(python_version="3.11", lock_python_packages=False)
    .python_packages(*REQUIREMENTS)
    .run("mkdir -p /log && chown bentoml:bentoml /log"),
    traffic={"timeout": 60, "max_concurrency": 32},  # past it: 429
    threads=32,  # they wait for the one decoding thread, which writes for all of them at once
    metrics={"enabled": False},  # ours are served by the middleware
)
class Ostinato:
    """Composes and scores music with the pinned bundle."""

    pinned = bentoml.models.BentoModel(MODEL_TAG)

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ.get("OSTINATO_TORCH_THREADS", "2")))
        self._bundle = open_bundle(Path(self.pinned.path))
        self._engine = Engine(self._bundle)
        self._engine.warm_up()
        self._rival = Engine(open_bundle(RIVAL)) if RIVAL else None
        self._log = EventLog(Path(os.environ.get("OSTINATO_LOG", ".ostinato/log")))
        self._finder = Finder(self._bundle, self._log, CATALOGUE, FAISS_PAST)
        metrics.INFO.labels(MODEL, self._bundle.lineage["licence"]).set(1)
        for valid in ("true", "false"):
            metrics.TAKES.labels(valid, MODEL)
        for operation in NAMES:
            metrics.EDITS.labels(
                operation, "broken", MODEL
            )  # at 0 from the start, so that the alert sees the first
        for event in (*EVENTS, *COMPARED):
            metrics.FEEDBACK.labels(event, MODEL)
        for part in PARTS:
            metrics.SPOKE.labels(part, MODEL)
        self._stop, self._storing = threading.Event(), threading.Lock()
        threading.Thread(target=self._watch_drift, daemon=True).start()
        self._ready = True

    def __is_ready__(self) -> bool:
        return self._ready

    @bentoml.on_shutdown
    def stop(self) -> None:
        self._stop.set()

    @bentoml.api(route="/v1/compose")
    def compose(self, request: ComposeRequest, /) -> ComposeAnswer:
        """Write music under controls."""
        begin, request_id = time.perf_counter(), uuid.uuid4().hex
        seed = (
            request.seed if request.seed is not None else random.SystemRandom().randrange(2**31 - MAX_TAKES)
        )
        body = request.model_dump()
        self._append(Row("request", "compose", request_id, MODEL, seed, body=body))
        with self._failures_logged("compose", request_id, seed):
            try:
                takes, judged = self._engine.compose(self._engine.composition(request, seed))
            except ContractBroken:  # what came out is not what was asked: must never happen
                metrics.TAKES.labels("false", MODEL).inc()
                raise
        seconds = time.perf_counter() - begin
        tokens = sum(take.tokens for take in takes)
        metrics.TOKENS.labels(MODEL).inc(tokens)
        metrics.TOKENS_PER_SECOND.labels(MODEL).observe(tokens / seconds)
        metrics.TAKES.labels("true", MODEL).inc(len(takes))
        answers: list[TakeAnswer] = []
        for take, card in zip(takes, judged, strict=True):
            metrics.NOTES.labels(MODEL).inc(card.notes)
            midi = base64.b64encode(take.midi).decode()
            answers.append(
                TakeAnswer(
                    id=f"{request_id}-{len(answers) + 1}",
                    midi=midi,
                    seed=take.seed,
                    bars=card.bars,
                    notes=card.notes,
                    tokens=take.tokens,
                    scorecard=Scorecard(**card.scorecard),
                )
            )
            self._note(card, "output")
        self._append(
            *(
                Row(
                    "answer",
                    "compose",
                    request_id,
                    MODEL,
                    a.seed,
                    "output",
                    seconds,
                    a.scorecard.nats_per_note,
                    card.opening,
                    a.model_dump(),
                    id=a.id,
                )
                for a, card in zip(answers, judged, strict=True)
            )
        )
        return ComposeAnswer(request_id=request_id, model=MODEL, seed=seed, takes=answers)

    @bentoml.api(route="/v1/edit")
    def edit(self, request: EditRequest, /, ctx: bentoml.Context) -> EditAnswer:
        """Change a part of a score, and prove that nothing else changed."""
        begin, request_id = time.perf_counter(), ctx.request.headers[REQUEST_ID.decode()]
        seed = (
            request.seed
            if request.seed is not None
            else random.SystemRandom().randrange(2**31 - 1000 * MAX_TAKES)
        )
        body = {
            **request.model_dump(exclude={"midi"}, exclude_unset=True),
            "midi_bytes": len(request.midi) * 3 // 4,
        }
        self._append(Row("request", "edit", request_id, MODEL, seed, body=body))
        cancelling = AT_WORK.begin(request_id)
        try:
            with self._failures_logged("edit", request_id, seed):
                file = read_upload(request.midi or stored_score(self._log, request.parent))
                done = edit(self._engine, request, file, seed, cancelling)
        except ContractBroken:  # must never happen: counted, logged, answered with a 500
            metrics.EDITS.labels(request.operation, "broken", MODEL).inc()
            logger.exception("the edit contract was broken by request %s", request_id)
            raise
        except InterruptedError:
            metrics.EDITS.labels(request.operation, "cancelled", MODEL).inc()
            raise Gone("the client went away: the edit was cancelled") from None
        finally:
            AT_WORK.end(request_id)
        metrics.EDITS.labels(request.operation, "kept", MODEL).inc(len(done.answers))
        seconds = time.perf_counter() - begin
        answer = edit_answer(request, request_id, MODEL, seed, done)
        self._append(
            *(
                Row(
                    "answer",
                    "edit",
                    request_id,
                    MODEL,
                    a.seed,
                    "output" if card else "",
                    seconds,
                    card.scorecard["nats_per_note"] if card else None,
                    card.opening if card else {},
                    {
                        **a.model_dump(exclude={"midi"}),
                        "parent": request.parent,
                        "operation": request.operation,
                        "midi": without_text(answered.file),
                    },
                    id=a.id,
                )
                for a, card, answered in zip(answer.alternatives, done.after, done.answers, strict=True)
            )
        )
        return answer

    @bentoml.api(route="/v1/score")
    def score(self, request: ScoreRequest, /) -> ScoreAnswer:
        """Say how likely a score is, bar by bar, and describe it."""
        begin, request_id = time.perf_counter(), uuid.uuid4().hex
        self._append(
            Row(
                "request",
                "score",
                request_id,
                MODEL,
                body={
                    "style": request.style,
                    "rhythm": request.rhythm,
                    "key": request.key,
                    "midi_bytes": len(request.midi) * 3 // 4,
                },
            )
        )
        with self._failures_logged("score", request_id, 0):
            judged = self._engine.score(request.midi, Labels(request.style, request.rhythm, request.key))
        self._note(judged, "input")
        card = Scorecard(**judged.scorecard)
        answer = ScoreAnswer(
            request_id=request_id,
            model=MODEL,
            seed=0,
            bars=judged.bars,
            notes=judged.notes,
            surprise_per_bar=judged.surprise_per_bar,
            scorecard=card,
        )
        seconds = time.perf_counter() - begin
        self._append(
            Row(
                "answer",
                "score",
                request_id,
                MODEL,
                0,
                "input",
                seconds,
                card.nats_per_note,
                judged.opening,
                {"bars": judged.bars, "notes": judged.notes, "percentile": card.percentile},
            )
        )
        return answer

    @bentoml.api(route="/v1/similar")
    def similar(self, request: SimilarRequest, /) -> SimilarAnswer:
        """Pieces of the catalogue that are like a score or an item, and why."""
        begin, request_id = time.perf_counter(), uuid.uuid4().hex
        self._append(
            Row(
                "request",
                "similar",
                request_id,
                MODEL,
                body={**request.model_dump(exclude={"midi"}), "midi_bytes": len(request.midi) * 3 // 4},
            )
        )
        with self._failures_logged("similar", request_id, 0):
            found, searched = similar(self._finder, request)
        body = {
            "found": [{"id": hit.item.id, "likeness": hit.likeness} for hit in found],
            "searched": searched,
        }
        self._append(
            Row("answer", "similar", request_id, MODEL, 0, seconds=time.perf_counter() - begin, body=body)
        )
        return SimilarAnswer(request_id=request_id, model=MODEL, found=found, searched=searched)

    @bentoml.api(route="/v1/recommend")
    def recommend(self, request: RecommendRequest, /) -> RecommendAnswer:
        """Pieces for a taste, which part of the recommender spoke, and (compose) pieces written for it."""
        begin, request_id = time.perf_counter(), uuid.uuid4().hex
        self._append(Row("request", "recommend", request_id, MODEL, request.seed, body=request.model_dump()))
        with self._failures_logged("recommend", request_id, request.seed):
            found, taste, warnings = recommend(self._finder, request)
            composed = (
                compose_for(self._engine, self._finder, taste, request.takes, request.seed, request_id)
                if request.compose
                else []
            )
        seconds = time.perf_counter() - begin
        for name in {part for each in found for part in each.spoke}:
            metrics.SPOKE.labels(name, MODEL).inc(sum(each.spoke.get(name, 0.0) for each in found))
        user = {"user": request.user} if request.user else {}
        self._append(
            Row(
                "answer",
                "recommend",
                request_id,
                MODEL,
                request.seed,
                seconds=seconds,
                body={
                    **user,
                    "found": [
                        {"id": each.item.id, "score": each.score, "spoke": each.spoke} for each in found
                    ],
                    "warnings": warnings,
                },
            ),
            *(
                Row(
                    "answer",
                    "recommend",
                    request_id,
                    MODEL,
                    each.seed,
                    "output",
                    seconds,
                    each.scorecard.nats_per_note,
                    {},
                    {**user, **each.model_dump()},
                    id=each.id,
                )
                for each in composed
            ),
        )
        return RecommendAnswer(
            request_id=request_id,
            model=MODEL,
            seed=request.seed,
            origin=self._bundle.recommender.origin,
            likes=len(taste.liked),
            dislikes=len(taste.disliked),
            found=found,
            composed=composed,
            warnings=warnings,
        )

    @bentoml.api(route="/v1/feedback")
    def feedback(self, request: FeedbackRequest, /) -> FeedbackAnswer:
        """Store one event of a listener; it is on disk before this answers."""
        request_id = uuid.uuid4().hex
        check_item(self._finder, self._log, request)
        with self._storing:  # one at a time, so that two of one key cannot both be the first
            listener = self._finder.listeners.of(request.user)
            stored = not (request.key and listener is not None and request.key in listener.keys)
            if stored:
                self._append(
                    Row("feedback", "feedback", request_id, MODEL, body=request.model_dump(exclude_none=True))
                )
        metrics.FEEDBACK.labels(request.event if stored else "duplicate", MODEL).inc()
        return FeedbackAnswer(request_id=request_id, model=MODEL, stored=stored)

    @bentoml.api(route="/v1/pair")
    def pair(self, request: PairRequest, /) -> PairAnswer:
        """Two takes of one prompt in a blind order; say with /v1/feedback which is better."""
        begin, request_id = time.perf_counter(), uuid.uuid4().hex
        seed = (
            request.seed if request.seed is not None else random.SystemRandom().randrange(2**31 - MAX_TAKES)
        )
        asked = prompt_of(self._engine, request, seed)
        self._append(Row("request", "pair", request_id, MODEL, seed, body=asked.model_dump()))
        with self._failures_logged("pair", request_id, seed):
            shown = pair(self._engine, self._rival, asked, seed, request_id)
        answer, seconds = pair_answer(shown, asked, MODEL, seed, request_id), time.perf_counter() - begin
        for each in shown:
            metrics.TAKES.labels("true", MODEL).inc(each.model == MODEL)
        self._append(
            *(
                Row(
                    "answer",
                    "pair",
                    request_id,
                    each.model,
                    each.take.seed,
                    "output",
                    seconds,
                    each.judged.scorecard["nats_per_note"],
                    each.judged.opening,
                    {**take.model_dump(), "shown": each.place},
                    id=each.id,
                )
                for each, take in zip(shown, answer.takes, strict=True)
            )
        )
        return answer

    @bentoml.api(route="/v1/wins", input_spec=None)
    def wins(self) -> WinsAnswer:
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
            for d in duels(self._log.rows())
        ]
        return WinsAnswer(request_id=uuid.uuid4().hex, model=MODEL, duels=found)

    @bentoml.api(route="/v1/model", input_spec=None)
    def model(self) -> ModelAnswer:
        """Which model answers, what it was trained on, what it may be used for."""
        origin = self._bundle.lineage
        evaluation = {
            name: value for name, value in self._bundle.evaluation["metrics"].items() if name != "overlap"
        }
        return ModelAnswer(
            request_id=uuid.uuid4().hex,
            model=self._bundle.digest,
            version=VERSION,
            licence=origin["licence"],
            lineage=origin,
            metrics=evaluation,
            known=self._engine.known(),
        )

    @contextmanager
    def _failures_logged(self, endpoint: str, request_id: str, seed: int) -> Iterator[None]:
        """A request that ends in an error has its answer in the log too."""
        try:
            yield
        except Exception as error:
            self._append(Row("answer", endpoint, request_id, MODEL, seed, body={"error": str(error)[:1000]}))
            raise

    def _note(self, judged: Judged, side: str) -> None:
        metrics.NATS.labels(side, MODEL).observe(judged.scorecard["nats_per_note"])
        for name, value in judged.opening.items():
            metrics.DESCRIPTOR.labels(name, side, MODEL).observe(value)

    def _append(self, *rows: Row) -> None:
        try:
            self._log.append(*rows)
        except OSError:
            metrics.LOG_ERRORS.inc()
            logger.exception("a row could not be written to the log")
            raise bentoml.exceptions.ServiceUnavailable(
                "the log cannot be written (is the disk full?); nothing is answered that is not logged"
            ) from None

    def _watch_drift(self) -> None:
        """Compare the log with the bundle's profile every minute; the gauges hold the last look."""
        while not self._stop.wait(DRIFT_EVERY_S):
            try:
                self._look_for_drift()
            except Exception:
                logger.exception("the drift watch failed; it tries again in %.0f s", DRIFT_EVERY_S)

    def _look_for_drift(self) -> None:
        since = datetime.now(timezone.utc) - timedelta(hours=DRIFT_WINDOW_H)
        columns = descriptor_columns(self._log.rows(since.isoformat(timespec="milliseconds")), MODEL)
        for side in SIDES:
            metrics.DRIFT_ROWS.labels(side).set(rows_on(columns, side))
        profile: dict[str, Any] = self._bundle.profile
        for drift in find_drift(profile, columns, DRIFT_ALPHA, DRIFT_MIN_ROWS):
            metrics.DRIFT_PSI.labels(drift.descriptor, drift.side).set(drift.psi / drift.threshold)
            metrics.DRIFT_STATUS.labels(drift.descriptor, drift.side).set(STATUSES.index(drift.status))


Ostinato.add_asgi_middleware(OneErrorShape)  # type: ignore[attr-defined]  # the decorator made it a Service
Ostinato.add_asgi_middleware(CountRequests, model=MODEL)  # type: ignore[attr-defined]
Ostinato.add_asgi_middleware(CheckRequests)  # type: ignore[attr-defined]
Ostinato.add_asgi_middleware(ServeMetrics)  # type: ignore[attr-defined]
