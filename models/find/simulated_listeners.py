"""Simulated listeners: the interactions a fresh checkout learns from until there are real ones. Named as
simulated wherever a figure of them appears.

Each listener likes one or two tastes (a style, a dance, a mode, and a leaning in three descriptors), follows
a scene that says nothing about the notes (what friends play), hears popular pieces more often, and errs. What
is liked is decided by none of our vectors, so the content part has to earn its place; scenes are what only
the collaborative part can learn.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import numpy as np

from models.find.catalogue import Catalogue
from models.find.interactions import Interaction
from music.analysis.descriptors import NAMES

SCENES, BEGIN = 12, datetime(2026, 1, 1, tzinfo=timezone.utc)
TASTE, SCENE, FAME, NOISE = 1.0, 0.8, 0.5, 0.6  # weights of what makes a listener choose


def simulate(catalogue: Catalogue, listeners: int, seed: int, mean_events: int = 30) -> list[Interaction]:
    """Events of `listeners` users (ids sim-0001, ...), some 5 to 4 * mean_events each, in order of time for
    each."""
    random = np.random.default_rng(seed)
    count = len(catalogue)
    fame = -np.log(random.permutation(count) + 1.0)  # Zipf's law
    fame = (fame - fame.mean()) / max(fame.std(), 1e-9)
    scenes = random.normal(size=(SCENES, count))
    appeal = _tastes(catalogue, random, listeners)
    events: list[Interaction] = []
    for user in range(listeners):
        wanted = TASTE * appeal[user] + SCENE * scenes[random.integers(SCENES)] + FAME * fame
        heard = wanted + random.gumbel(size=count) * (
            NOISE + 1.0
        )  # what comes to a listener's ears is a looser choice than what is liked
        number = int(np.clip(random.lognormal(np.log(mean_events), 0.6), 5, 4 * mean_events))
        chosen = random.permutation(np.argsort(-heard)[:number])
        threshold = np.quantile(wanted, 0.9)
        time = BEGIN + timedelta(minutes=int(random.integers(60 * 24 * 200)))
        for row in chosen.tolist():
            felt = wanted[row] - threshold + NOISE * random.normal()
            event = "like" if felt > 0.6 else "play" if felt > 0 else "skip" if felt > -1 else "dislike"
            time += timedelta(minutes=int(random.integers(2, 60)))
            events.append(
                Interaction(
                    f"sim-{user + 1:04d}",
                    catalogue.items[row].id,
                    event,
                    0.0,
                    time.isoformat(timespec="milliseconds"),
                )
            )
    return events


def _tastes(catalogue: Catalogue, random: np.random.Generator, listeners: int) -> np.ndarray:
    """How much each listener's taste likes each item, standardised, (listeners, N)."""
    numbers = np.array([[item.descriptors[name] for name in NAMES] for item in catalogue.items])
    numbers = (numbers - numbers.mean(axis=0)) / np.maximum(numbers.std(axis=0), 1e-9)
    labels = {
        kind: np.array([getattr(item, kind) for item in catalogue.items])
        for kind in ("style", "rhythm", "mode")
    }
    out = np.zeros((listeners, len(catalogue)))
    for user in range(listeners):
        best = np.full(len(catalogue), -np.inf)
        for _ in range(int(random.integers(1, 3))):
            model = int(random.integers(len(catalogue)))  # a piece that shows the taste
            same: Sequence[np.ndarray] = [
                (values == values[model]).astype(float) for values in labels.values()
            ]
            leaning = np.zeros(len(NAMES))
            leaning[random.choice(len(NAMES), 3, replace=False)] = random.normal(size=3)
            best = np.maximum(best, 1.2 * same[0] + 1.2 * same[1] + 0.5 * same[2] + 0.5 * numbers @ leaning)
        out[user] = (best - best.mean()) / max(best.std(), 1e-9)
    return out
