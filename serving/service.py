"""The BentoML service: the table of serving/routes.py as methods. The bundle is pinned by `model_tag.txt`,
which `ostinato package` writes beside this file."""

import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bentoml
from pydantic import BaseModel

from models.bundle import BundleError, open_bundle
from models.edit.edit import NAMES
from models.find.finder import Finder
from models.find.interactions import EVENTS
from models.find.recommender import PARTS
from monitoring import metrics
from monitoring.keys import KeyFile
from monitoring.log import EventLog
from monitoring.wins import COMPARED, WinsOfLog
from serving import about, compose, edit, feedback, find, pair, score
from serving.desk import Desk
from serving.drift_watch import DriftWatch
from serving.endings import Endings
from serving.engine import Engine
from serving.jobs import Jobs
from serving.live import Live, Wanted, answering
from serving.memory import give_back
from serving.middleware import ANSWER_S, CheckRequests
from serving.outermost import CountRequests, OneErrorShape, ServeMetrics
from serving.pair import WinsAnswer
from serving.scores import as_accepted

HERE = Path(__file__).parent
MODEL_TAG = (HERE / "model_tag.txt").read_text().strip()  # ostinato:<first 16 digits of the bundle's digest>
MODEL = MODEL_TAG.partition(":")[2]
VERSION = (HERE / "model_version.txt").read_text().strip()  # its number in the registry
BASE_IMAGE = "python:3.11.14-slim-bookworm"
REQUIREMENTS = (HERE / "requirements.txt").read_text().split()


WORK: dict[str, tuple[type[BaseModel], Callable[[Desk, Any], BaseModel]]] = {  # that can be done later
    "/v1/compose": (compose.ComposeRequest, compose.compose),
    "/v1/edit": (edit.EditRequest, edit.edit),
    "/v1/pair": (pair.PairRequest, pair.pair),
}
TRIED = ("/v1/compose", "/v1/edit")  # that a challenger may answer, or has a try at in the shadow
LOOK_S, LOOKS_TO_TRIM = 5.0, 12  # between looks at the decoding threads; between trims of memory


def told(name: str) -> Path | None:
    """A path that the environment names, if it does."""
    return Path(os.environ[name]) if os.environ.get(name) else None


logger = logging.getLogger("ostinato")
KEYS = told("OSTINATO_KEYS")
LOG = told("OSTINATO_LOG") or Path(".ostinato/log")


@bentoml.service(
    name="ostinato",
    image=bentoml.images.Image(base_image=BASE_IMAGE, lock_python_packages=False)
    .python_packages(*REQUIREMENTS)
    .run("mkdir -p /log && chown bentoml:bentoml /log"),
    envs=[{"name": "MALLOC_ARENA_MAX", "value": "2"}],  # of the C library: one for each thread grows for ever
    workers=int(os.environ.get("OSTINATO_WORKERS", "1")),
    traffic={"timeout": 2 * ANSWER_S},  # the middleware ends a request before
    threads=32,  # they wait for the one decoding thread, which writes for all of them at once
    metrics={"enabled": False},  # ours are served by the middleware
)
class Ostinato:
    """Composes, edits, scores and recommends music with the pinned bundle."""

    pinned = bentoml.models.BentoModel(MODEL_TAG)

    def __init__(self) -> None:
        if KEYS is None and os.environ.get("OSTINATO_OPEN") != "1":
            raise RuntimeError(
                "OSTINATO_KEYS names no file of keys: make one with `ostinato keys add`, or say "
                "OSTINATO_OPEN=1 to let everybody who reaches the service ask everything"
            )
        metrics.forget_the_dead()
        self._log, self._stop = EventLog(LOG), threading.Event()
        self._wins = WinsOfLog(self._log)
        pinned = Wanted(MODEL, VERSION, Path(self.pinned.path))
        self._live = Live(self._open(pinned), self._open, self._close, LOG / "rollouts")
        metrics.SERVES_PROMOTED.set(1)
        if follows := told("OSTINATO_LIVE"):
            self._live.follow(follows, self._stop)
        threading.Thread(target=self._watch_engines, daemon=True).start()
        Endings(LOG / "ending").watch(self._stop)
        Jobs(LOG / "jobs").work(self._carry_out, self._stop)
        self._ready = True

    def _open(self, wanted: Wanted) -> Desk:
        """The desk of a bundle, warm, watched for drift. Raises BundleError where it is not whole, or another
        one than wanted."""
        bundle, rival = open_bundle(wanted.folder), told("OSTINATO_RIVAL")
        if bundle.tag != wanted.tag:
            raise BundleError(f"{wanted.folder} holds bundle {bundle.tag}, not {wanted.tag}")
        engine = Engine(bundle)
        engine.warm_up()
        faiss_past = int(os.environ.get("OSTINATO_FAISS_PAST", "200000"))
        self._count_from_nothing(bundle.tag, bundle.lineage["licence"])
        closing = threading.Event()
        DriftWatch(
            self._log,
            bundle.profile,
            bundle.tag,
            every_s=float(os.environ.get("OSTINATO_DRIFT_EVERY_S", "60")),
            window_h=float(os.environ.get("OSTINATO_DRIFT_WINDOW_H", "24")),
            alpha=float(os.environ.get("OSTINATO_DRIFT_ALPHA", "0.01")),
            min_rows=int(os.environ.get("OSTINATO_DRIFT_MIN_ROWS", "50")),
        ).start(closing)
        return Desk(
            model=bundle.tag,
            version=wanted.version,
            bundle=bundle,
            engine=engine,
            rival=Engine(open_bundle(rival)) if rival else None,  # what /v1/pair sets against the champion
            finder=Finder(bundle, self._log, told("OSTINATO_CATALOGUE"), faiss_past),
            log=self._log,
            wins=self._wins,
            secret=self._log.secret(),
            closing=closing,
        )

    def _close(self, desk: Desk) -> None:
        """Take leave of a desk whose last request has ended."""
        desk.closing.set()
        if all(desk.model != other.model for other in self._live.desks):
            metrics.INFO.labels(desk.model, desk.bundle.lineage["licence"]).set(0)
        for engine in filter(None, (desk.engine, desk.rival)):
            engine.batcher.close()

    def _carry_out(self, path: str, body: dict[str, Any]) -> BaseModel:
        """A request that was kept as a job."""
        return self._answer(path, WORK[path][0].model_validate(body))

    def _answer(self, path: str, request: Any) -> Any:
        """Have music written, by the champion or a challenger that is tried."""
        answer, tried = WORK[path][1], path in TRIED
        with self._live.serving(tried) as desk:
            done = answer(desk, request)
        if tried:
            self._live.shadow(answer, request)
        return done

    def _count_from_nothing(self, model: str, licence: str) -> None:
        """Series that are at 0 from the start, so that an alert sees the first of each."""
        metrics.INFO.labels(model, licence).set(1)
        metrics.ENGINE_ALIVE.set(1)
        metrics.ROLLOUTS_ABORTED.inc(0)
        for valid in ("true", "false"):
            metrics.TAKES.labels(valid, model)
        for operation in NAMES:
            metrics.EDITS.labels(operation, "broken", model)
        for event in (*EVENTS, *COMPARED):
            metrics.FEEDBACK.labels(event, model)
        for part in PARTS:
            metrics.SPOKE.labels(part, model)

    def _watch_engines(self) -> None:
        """Look at the decoding threads and at memory, and end a worker whose master was killed: nobody else
        would."""
        master = os.getppid()
        for look in itertools.count():
            if self._stop.wait(LOOK_S):
                break
            self.__is_alive__()
            if look % LOOKS_TO_TRIM == 0:
                give_back()
            if os.getppid() != master:
                logger.error("the process that started this worker has ended: so does the worker")
                os.kill(os.getpid(), signal.SIGTERM)

    def __is_ready__(self) -> bool:
        return self._ready and self.__is_alive__()

    def __is_alive__(self) -> bool:
        """False where a decoding thread has ended: only a restart heals that."""
        desks = self._live.desks
        engines = [engine for desk in desks for engine in (desk.engine, desk.rival) if engine]
        alive = all(engine.batcher.alive for engine in engines)
        metrics.ENGINE_ALIVE.set(alive)
        return alive

    @bentoml.on_shutdown
    def stop(self) -> None:
        self._stop.set()
        for desk in self._live.desks:
            desk.closing.set()

    @bentoml.api(route="/v1/compose")
    def compose(self, request: compose.ComposeRequest, /, ctx: bentoml.Context) -> compose.ComposeAnswer:
        """Write music under controls."""
        return as_accepted(ctx.request.headers, request, lambda asked: self._answer("/v1/compose", asked))

    @bentoml.api(route="/v1/edit")
    def edit(self, request: edit.EditRequest, /, ctx: bentoml.Context) -> edit.EditAnswer:
        """Change a part of a score, and prove that nothing else changed."""
        return as_accepted(ctx.request.headers, request, lambda asked: self._answer("/v1/edit", asked))

    @bentoml.api(route="/v1/score")
    def score(self, request: score.ScoreRequest, /) -> score.ScoreAnswer:
        """Say how likely a score is, bar by bar, and describe it."""
        with self._live.serving() as desk:
            return score.score(desk, request)

    @bentoml.api(route="/v1/similar")
    def similar(self, request: find.SimilarRequest, /) -> find.SimilarAnswer:
        """Pieces of the catalogue that are like a score or an item, and why."""
        with self._live.serving() as desk:
            return find.similar(desk, request)

    @bentoml.api(route="/v1/recommend")
    def recommend(self, request: find.RecommendRequest, /) -> find.RecommendAnswer:
        """Pieces for a taste, which part of the recommender spoke, and (compose) pieces written for it."""
        with self._live.serving() as desk:
            return find.recommend(desk, request)

    @bentoml.api(route="/v1/feedback")
    def feedback(self, request: feedback.FeedbackRequest, /) -> feedback.FeedbackAnswer:
        """Store one event of a listener; it is on disk before this answers."""
        with self._live.serving() as desk:
            return feedback.feedback(desk, request)

    @bentoml.api(route="/v1/pair")
    def pair(self, request: pair.PairRequest, /) -> pair.PairAnswer:
        """Two takes of one prompt in a blind order; say with /v1/feedback which is better."""
        with self._live.serving() as desk:
            return pair.pair(desk, request)

    @bentoml.api(route="/v1/wins", input_spec=None)
    def wins(self) -> WinsAnswer:
        """Which model people preferred in pairs of two models."""
        with self._live.serving() as desk:
            return pair.wins(desk)

    @bentoml.api(route="/v1/model", input_spec=None)
    def model(self) -> about.ModelAnswer:
        """Which model answers, what it was trained on, what it may be used for."""
        with self._live.serving() as desk:
            return about.about(desk)


Ostinato.add_asgi_middleware(OneErrorShape)  # type: ignore[attr-defined]  # the decorator made it a Service
Ostinato.add_asgi_middleware(CountRequests, model=answering)  # type: ignore[attr-defined]
HOSTS = tuple(filter(None, os.environ.get("OSTINATO_HOSTS", "").lower().split(",")))
Ostinato.add_asgi_middleware(  # type: ignore[attr-defined]
    CheckRequests, model=answering, hosts=HOSTS, keys=KeyFile(KEYS) if KEYS else None, folder=LOG
)
Ostinato.add_asgi_middleware(ServeMetrics)  # type: ignore[attr-defined]
