"""Prometheus metrics of the service. Labels come only from closed sets: endpoints, status classes,
descriptors, the bundle's digest."""

import os
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, Summary
from prometheus_client.multiprocess import mark_process_dead


def forget_the_dead() -> None:
    """Take out what workers that were killed left of gauges of the living: their requests in progress ended
    with them."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    for path in Path(folder).glob("gauge_live*_*.db") if folder else ():
        pid = int(path.stem.rpartition("_")[2])
        if not _runs(pid):
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False
    except PermissionError:
        return True


REQUESTS = Counter(
    "ostinato_requests_total",
    "Requests answered, by endpoint and status class (2xx, 4xx, 5xx).",
    ["endpoint", "status", "model"],
)
SECONDS = Histogram(
    "ostinato_request_seconds",
    "Seconds from request to answer.",
    ["endpoint", "model"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)
IN_PROGRESS = Gauge(
    "ostinato_requests_in_progress", "Requests being worked on.", ["endpoint"], multiprocess_mode="livesum"
)
TOKENS = Counter("ostinato_tokens_total", "Tokens written by the model.", ["model"])
NOTES = Counter("ostinato_notes_total", "Notes written by the model.", ["model"])
TOKENS_PER_SECOND = Histogram(
    "ostinato_tokens_per_second",
    "Tokens a second of each compose request, all takes together.",
    ["model"],
    buckets=(10.0, 30.0, 60.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0, 2000.0),
)
TAKES = Counter(
    "ostinato_takes_total",
    "Pieces written, by whether the strict decoder found them valid.",
    ["valid", "model"],
)
EDITS = Counter(
    "ostinato_edits_total",
    (
        "Edited scores by operation and by what became of the edit contract: kept, broken (must never "
        "happen), or cancelled."
    ),
    ["operation", "contract", "model"],
)
FEEDBACK = Counter(
    "ostinato_feedback_total",
    "Events of listeners, by kind; duplicate: its idempotency key was there already.",
    ["event", "model"],
)
SPOKE = Counter(
    "ostinato_recommend_spoke_total",
    "What lifted recommended items above the mean item, as shares summed over items.",
    ["part", "model"],
)
NATS = Histogram(
    "ostinato_nats_per_note",
    "Nats per note of scored (input) and written (output) music.",
    ["side", "model"],
    buckets=(0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 7.0, 10.0),
)
DESCRIPTOR = Summary(
    "ostinato_descriptor",
    "Descriptors of music sent in (input) and written (output): sum and count.",
    ["descriptor", "side", "model"],
)
DRIFT_PSI = Gauge(
    "ostinato_drift_psi_ratio",
    "PSI over its threshold; above 1 is drift.",
    ["descriptor", "side"],
    multiprocess_mode="mostrecent",
)
DRIFT_STATUS = Gauge(
    "ostinato_drift_status",
    "0 none, 1 potential, 2 detected.",
    ["descriptor", "side"],
    multiprocess_mode="mostrecent",
)
DRIFT_ROWS = Gauge(
    "ostinato_drift_rows", "Rows of the log in the drift window.", ["side"], multiprocess_mode="mostrecent"
)
ENGINE_ALIVE = Gauge(
    "ostinato_engine_alive",
    "1 while every decoding thread of every worker lives; 0: nothing is composed until a restart.",
    multiprocess_mode="livemin",
)
SERVES_PROMOTED = Gauge(
    "ostinato_serves_promoted",
    "1 while what answers is what was promoted last; 0: that could not be loaded, the one before goes on.",
    multiprocess_mode="livemin",
)
ROLLOUT = Gauge(
    "ostinato_rollout_share",
    "Share of users (canary) or requests (shadow) that a challenger gets; 0: ended.",
    ["mode", "model"],
    multiprocess_mode="max",
)
ROLLOUTS_ABORTED = Counter(
    "ostinato_rollouts_aborted_total", "Rollouts that ended by themselves, as the challenger was worse."
)
SHADOWS = Counter(
    "ostinato_shadow_requests_total",
    "Requests that a challenger was given in the shadow: answered, failed, or left out as it was busy.",
    ["outcome", "model"],
)
LOG_ERRORS = Counter("ostinato_log_errors_total", "Rows that could not be written to the log.")
INFO = Gauge(
    "ostinato_model_info",
    "Always 1; names the model in service.",
    ["model", "licence"],
    multiprocess_mode="max",
)
