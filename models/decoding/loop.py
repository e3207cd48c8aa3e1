"""Decoding: continuous batches of sequences under the grammar. Requests join and leave between tokens; each
has a seed of its own."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from models.decoding.grammar import Grammar
from models.decoding.locks import LockError
from models.decoding.nucleus import choose
from models.decoding.script import Script
from models.tokens.place import Told
from models.tokens.place_scan import PlaceScan

# settled tokens past which reading them in a pass of their own is faster than one by one
LONG_RUN = 8


class Decoder(Protocol):
    """A back end: next-token scores (log probabilities up to a constant) of up to `slots` sequences, each of
    at most `context` tokens. Tokens come with their places, int32 (.., WIDTH) (models/tokens/place.py)."""

    context: int
    slots: int

    def prefill(self, slot: int, placed: np.ndarray) -> np.ndarray:
        """Forget what the slot held, read tokens (n, WIDTH), give the scores (V,) of the next."""
        ...

    def extend(self, slot: int, placed: np.ndarray) -> np.ndarray:
        """Read more tokens (n, WIDTH) in one pass, give the scores (V,) of the next."""
        ...

    def step(self, slots: np.ndarray, placed: np.ndarray) -> np.ndarray:
        """Read one token (n, WIDTH) in each of `slots` (n,), give the scores (n, V)."""
        ...


@dataclass(frozen=True)
class Prompt:
    """What the network reads before the next token, and what is told of it beside its tokens."""

    ids: list[int]
    told: Told


@dataclass(eq=False)  # a job is itself: it holds arrays, which do not compare
class Job:
    """One sequence to write. `prompt(written)` is what the network reads before the next token, given what is
    written so far.

    temperature scales the scores; top_p keeps the smallest set of tokens with that probability (Holtzman et
    al. 2020). With `free_prompt`, the same without controls, scores are free + guidance * (asked - free):
    classifier-free guidance (Ho & Salimans 2022). steered: scores are moved towards what is asked
    (models/decoding/steering.py).
    """

    script: Script
    prompt: Callable[[Sequence[int]], Prompt]
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    guidance: float = 1.0
    free_prompt: Callable[[Sequence[int]], Prompt] | None = None
    deadline: float = float("inf")  # on time.monotonic()
    steered: bool = False
    # told what is written so far whenever a bar has ended; quick, as all others wait
    heard: Callable[[Sequence[int]], None] | None = None
    group: str = ""  # who asks: jobs of one group share what there is with other groups
    first_note_at: float = 0.0  # on time.monotonic(), set when it is written
    cancelled: bool = False

    @property
    def slots(self) -> int:
        return 2 if self.free_prompt is not None and self.guidance != 1.0 else 1


@dataclass
class _Row:
    """A job at work in some slots of the decoder."""

    job: Job
    slots: list[int]
    random: np.random.Generator
    written: list[int]
    lengths: int = 0  # tokens in the slots
    scores: np.ndarray | None = None  # (slots, V) of the next token
    unread: list[int] = field(default_factory=list)  # written, but not yet read by the decoder
    scans: list[PlaceScan] = field(default_factory=list)  # of each slot: where its last token stands

    def mixed_scores(self) -> np.ndarray:
        """Scores (V,) to choose from, with guidance where it is asked."""
        assert self.scores is not None
        return (
            self.scores[0]
            if len(self.slots) == 1
            else self.scores[1] + self.job.guidance * (self.scores[0] - self.scores[1])
        )


class Batch:
    """Jobs at work together. `admit` while `room_for`; `step` moves each by one choice and gives those that
    are done."""

    def __init__(self, decoder: Decoder, grammar: Grammar) -> None:
        self._decoder, self._grammar = decoder, grammar
        self._free = list(range(decoder.slots))
        self._rows: dict[int, _Row] = {}  # by first slot

    def __len__(self) -> int:
        return len(self._rows)

    def due(self) -> list[int]:
        """Rows of the grammar at which a choice is due."""
        return [key for key, row in self._rows.items() if not row.unread]

    def written(self) -> list[list[int]]:
        """What each job at work has so far."""
        return [row.written for row in self._rows.values()]

    def mask(self) -> np.ndarray:
        """Legal next tokens of every job at which a choice is due, bool (jobs, V)."""
        return self._grammar.mask(np.array(self.due()))

    def room_for(self, job: Job) -> bool:
        return len(self._free) >= job.slots

    def admit(self, job: Job) -> None:
        """Read the prompt of a job and let it take part. Raises ValueError where the decoder has fewer slots
        than it needs."""
        if job.slots > self._decoder.slots:
            raise ValueError(f"guidance needs {job.slots} slots; the decoder has {self._decoder.slots}")
        slots = [self._free.pop(0) for _ in range(job.slots)]
        row = _Row(job, slots, np.random.default_rng(job.seed), [])
        self._grammar.join(slots[0], job.script)
        self._rows[slots[0]] = row
        try:
            row.written += self._settle(slots[0])
            self._refill(row)
        except Exception:
            self._leave(slots[0])
            raise

    def _settle(self, key: int) -> list[int]:
        """Move the grammar over the tokens that are settled."""
        tokens = self._grammar.settled(key)
        for token in tokens:
            self._grammar.advance(key, token)
        return tokens

    def _refill(self, row: _Row) -> None:
        """Read the prompt anew, trimmed to what matters now. It ends with the last token written."""
        prompts = [row.job.prompt(row.written)]
        if len(row.slots) == 2 and row.job.free_prompt is not None:
            prompts.append(row.job.free_prompt(row.written))
        row.scans = [PlaceScan(self._grammar.kinds, prompt.told) for prompt in prompts]
        row.scores = np.stack(
            [
                self._decoder.prefill(slot, scan.follow(prompt.ids))
                for slot, scan, prompt in zip(row.slots, row.scans, prompts, strict=True)
            ]
        )
        row.lengths = max(len(prompt.ids) for prompt in prompts)

    def step(self) -> list[tuple[Job, list[int] | Exception]]:
        """One choice for every job; the tokens (or the error) of those that are done, which leave."""
        done: list[tuple[Job, list[int] | Exception]] = []
        now = time.monotonic()
        for key, row in list(self._rows.items()):
            if row.job.cancelled or now > row.job.deadline:
                done.append(
                    (
                        row.job,
                        InterruptedError("cancelled")
                        if row.job.cancelled
                        else TimeoutError("not written in time"),
                    )
                )
                self._leave(key)
        if not self._rows:
            return done
        choosing = self.due()
        try:
            done += self._choose(choosing)
        except LockError:  # find whose
            return done + self._drop_dead_ends(choosing)
        self._read([row for row in self._rows.values() if row.unread])
        return done

    def _choose(self, keys: list[int]) -> list[tuple[Job, list[int] | Exception]]:
        """One choice for each of these rows, and the settled tokens that follow it. Raises LockError where
        one of them has none."""
        if not keys:
            return []
        rows = [self._rows[key] for key in keys]
        legal = self._grammar.mask(np.array(keys))
        scores = np.stack([row.mixed_scores() for row in rows])
        draws = np.array([row.random.random() for row in rows])
        temperature = np.array([row.job.temperature for row in rows])
        for i, row in enumerate(rows):
            if row.job.steered:
                self._steer(row.scans[0], scores[i], temperature[i : i + 1])
        top_p = np.array([row.job.top_p for row in rows])
        tokens = choose(scores, legal, draws, temperature, top_p)
        done: list[tuple[Job, list[int] | Exception]] = []
        for key, row, token in zip(keys, rows, tokens.tolist(), strict=True):
            self._grammar.advance(key, token)
            if not row.job.first_note_at and self._grammar.is_pitch(token):
                row.job.first_note_at = time.monotonic()
            more = [token, *self._settle(key)]
            row.written += more
            ended = self._grammar.finished(key)
            if row.job.heard is not None and (ended or any(map(self._grammar.is_bar, more))):
                row.job.heard(row.written)
            if ended:
                done.append((row.job, row.written))
                self._leave(key)
            elif row.lengths + len(more) > self._decoder.context:
                self._refill(row)
            elif len(more) > LONG_RUN:
                row.scores = np.stack(
                    [
                        self._decoder.extend(slot, scan.follow(more))
                        for slot, scan in zip(row.slots, row.scans, strict=True)
                    ]
                )
                row.lengths += len(more)
            else:
                row.unread = more
        return done

    def _steer(self, scan: PlaceScan, scores: np.ndarray, temperature: np.ndarray) -> None:
        """Move the scores (V,) of the next token and its temperature (1,)."""
        standing = scan.standing
        lean = self._grammar.steering.lean(scan.told, standing)
        if lean is not None:
            scores += lean
        temperature *= self._grammar.steering.temperature(standing)

    def _read(self, rows: list[_Row]) -> None:
        """One token more for each of these rows, all in one pass."""
        if not rows:
            return
        slots = np.array([slot for row in rows for slot in row.slots])
        placed = [scan.read(row.unread[0]) for row in rows for scan in row.scans]
        found = self._decoder.step(slots, np.array(placed, dtype=np.int32))
        at = 0
        for row in rows:
            del row.unread[0]
            row.scores = found[at : at + len(row.slots)]
            row.lengths += 1
            at += len(row.slots)

    def _drop_dead_ends(self, keys: list[int]) -> list[tuple[Job, list[int] | Exception]]:
        dead: list[tuple[Job, list[int] | Exception]] = []
        for key in keys:
            row = self._rows[key]
            try:
                self._grammar.mask(np.array([key]))
            except LockError as error:
                dead.append((row.job, error))
                self._leave(key)
        return dead

    def _leave(self, key: int) -> None:
        self._free += self._rows.pop(key).slots
        self._free.sort()
        self._grammar.leave(key)


def generate(decoder: Decoder, grammar: Grammar, jobs: Iterable[Job]) -> list[list[int]]:
    """Tokens of every job, in order; as many at once as the decoder has slots. Raises the error of the first
    job that fails."""
    jobs = list(jobs)
    batch, waiting = Batch(decoder, grammar), deque(jobs)
    results: dict[int, list[int]] = {}
    while waiting or len(batch):
        while waiting and batch.room_for(waiting[0]):
            batch.admit(waiting.popleft())
        for job, outcome in batch.step():
            if isinstance(outcome, Exception):
                raise outcome
            results[id(job)] = outcome
    return [results[id(job)] for job in jobs]
