"""Finding pieces: like another one, or for a taste, with the reasons."""

import base64
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from symusic import Score

from models.find.answers import Finding, Found, Query, Suggestion, Unanswerable
from models.find.catalogue import Catalogue, Filters, Item
from models.find.embedding import embed_score, piece_vector
from models.find.interactions import Interaction, Taste, taste_of
from models.find.listeners import Listeners, Log
from models.find.queries import embedded, stored_score
from models.find.reasons import Why, explain
from models.find.recommender import PARTS, diverse
from models.tokens.tokenizer import NotRepresentable
from music.score.errors import UnreadableScore
from music.score.form import to_midi

REMOVED = "removed.txt"  # ids that are no longer offered, a line each
MOST_REMEMBERED = 2_000  # vectors of answers that listeners liked, kept in memory


class Finder:
    """The catalogue of a bundle and of its owner, and the recommender over it."""

    def __init__(self, model: Finding, log: Log, folder: Path | None, faiss_past: int) -> None:
        self.model, self._log, self._folder, self._faiss_past = model, log, folder, faiss_past
        self.listeners = Listeners(log)
        self._lock, self._stamp = threading.Lock(), (-1, -1)
        self._answers: dict[str, np.ndarray] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the owner's own items again where they changed."""
        with self._lock:
            stamp = tuple(
                path.stat().st_mtime_ns if path and path.is_file() else 0
                for path in (self._own, self._removed)
            )
            if stamp == self._stamp:
                return
            catalogue = self.model.catalogue
            if stamp[0] and self._own:
                catalogue = catalogue.with_items(Catalogue.load(self._own))
            if stamp[1] and self._removed:
                catalogue = catalogue.without(self._removed.read_text().split("\n"))
            self.catalogue = catalogue.indexed(self._faiss_past)
            self.rows, self._stamp = self.model.recommender.rows(self.catalogue), stamp  # type: ignore[assignment]

    @property
    def _own(self) -> Path | None:
        return self._folder / f"{self.model.tag}.safetensors" if self._folder else None

    @property
    def _removed(self) -> Path | None:
        return self._folder / REMOVED if self._folder else None

    def similar(
        self,
        *,
        score: "Score | None" = None,
        item: str = "",
        bars: tuple[int, int] | None = None,
        k: int,
        filters: Filters,
    ) -> tuple[list[Found], int]:
        """Items like a score as it was read, an item or an answer of the log, or bars [first, last) of it;
        and how many passed the filters. Raises Unanswerable."""
        self.refresh()
        query = embedded(self.model, score, bars) if score else self._query(item, bars)
        allowed = self._allowed(filters, [item] if item else [])
        hits = self.catalogue.similar(query.vectors, query.bars, k, allowed, query.words)
        return [Found(hit, self._why(query, hit.row)) for hit in hits], int(allowed.sum())

    def recommend(
        self,
        *,
        user: str = "",
        likes: Sequence[str] = (),
        dislikes: Sequence[str] = (),
        k: int,
        filters: Filters,
        diversity: float,
        exploration: float,
        repeat: bool,
        seed: int,
    ) -> tuple[list[Suggestion], Taste, list[str]]:
        """Items for a taste, the taste, and what the client should know. Raises Unanswerable."""
        self.refresh()
        taste, warnings = self._taste(user, likes, dislikes)
        model, catalogue, count = self.model.recommender, self.catalogue, len(taste.liked)
        parts = model.parts(catalogue, self.rows, taste, *self._outside(taste))
        score = model.score(parts, count)
        allowed = self._allowed(filters, taste.disliked if repeat else list(taste.weights))
        chosen = diverse(
            score,
            catalogue.vectors,
            allowed,
            k,
            diversity,
            exploration,
            seed,
            unheard=parts[:, PARTS.index("unheard")] > 0,
        )
        if len(chosen) < k:
            warnings.append(f"only {len(chosen)} items passed the filters and were not met before")
        liked = [catalogue.row_of[item] for item in taste.liked if item in catalogue.row_of]
        found = []
        for row in chosen:
            near = liked[int((catalogue.vectors[liked] @ catalogue.vectors[row]).argmax())] if liked else -1
            why = self._why(self._query_of(near), row) if near >= 0 else None
            found.append(
                Suggestion(
                    row,
                    round(float(score[row]), 4),
                    model.spoke(parts, row, count),
                    catalogue.items[near].id if near >= 0 else "",
                    why,
                )
            )
        return found, taste, warnings

    def worth(self, taste: Taste, scores: Sequence[Score]) -> list[float]:
        """The recommender's score of pieces that are not in the catalogue, by what they are like alone; -inf
        for one too short to compare."""
        extra, weights = self._outside(taste)
        known = [
            (self.catalogue.vectors[self.catalogue.row_of[item]], weight)
            for item, weight in taste.weights.items()
            if item in self.catalogue.row_of
        ]
        vectors = np.concatenate(
            [
                np.array([v for v, _ in known], dtype=np.float32).reshape(
                    -1, self.catalogue.vectors.shape[1]
                ),
                extra,
            ]
        )
        found = []
        for score in scores:
            try:
                mine = piece_vector(
                    embed_score(self.model.encoder, self.model.reader, self.model.tokenizer, score)[1]
                )
            except (UnreadableScore, NotRepresentable):
                found.append(float("-inf"))
                continue
            found.append(
                self.model.recommender.worth(
                    mine,
                    vectors,
                    np.array([w for _, w in known] + weights, dtype=np.float32),
                    len(taste.liked),
                )
            )
        return found

    def wanted(self, taste: Taste) -> dict[str, Any]:
        """What to ask the model for, for a taste: labels that most of the liked items have, and their mean
        controls. Raises Unanswerable for a taste without liked items."""
        liked = [
            self.catalogue.items[self.catalogue.row_of[item]]
            for item in taste.liked
            if item in self.catalogue.row_of
        ]
        if not liked:
            raise Unanswerable(
                (
                    "to write for a taste, at least one liked item of the catalogue is needed: "
                    "send likes, or feedback of the user first"
                ),
                "compose",
            )
        t = self.model.tokenizer
        known = {"style": t.styles, "rhythm": t.rhythms, "metre": [f"{n}/{d}" for n, d in t.metres]}
        style = _most([item.style for item in liked if item.style in known["style"]])
        of_style = [item for item in liked if not style or item.style == style]
        asked: dict[str, Any] = {
            "style": style,
            **{
                name: _most([getattr(item, name) for item in of_style if getattr(item, name) in values])
                for name, values in known.items()
                if name != "style"
            },
        }
        asked["key"] = _most([item.key for item in of_style if item.key])
        asked["controls"] = (
            {"density": float(np.mean([item.descriptors["note_density"] for item in of_style]))}
            if style != "chorale"
            else {}
        )
        return {name: value for name, value in asked.items() if value}

    def unknown(self, ids: Iterable[str]) -> list[str]:
        """Those of the ids that are neither an item nor an answer of the log."""
        return [i for i in ids if i not in self.catalogue.row_of and self._answer(i) is None]

    def _taste(self, user: str, likes: Sequence[str], dislikes: Sequence[str]) -> tuple[Taste, list[str]]:
        warnings = list[str]()
        events = list[Interaction]()
        if user:
            listener = self.listeners.of(user)
            if listener is None:
                warnings.append(f"user {user} is new: nothing of theirs is in the log")
            else:
                events = list(listener.events)
        both = set(likes) & set(dislikes)
        if both:
            raise Unanswerable(
                f"{', '.join(sorted(both)[:5])} is both liked and disliked: leave it in one of the lists",
                "likes",
            )
        unknown = self.unknown([*likes, *dislikes])
        if unknown:
            raise Unanswerable(
                (
                    f"no item or answer {', '.join(map(repr, unknown[:5]))}"
                    f"{' and others' if len(unknown) > 5 else ''}: it was never there, was removed, or its "
                    "music is not kept. POST /v1/similar with a score finds ids"
                ),
                "likes",
            )
        events += [
            Interaction("", item, event, 0.0, f"~{n:06d}")
            for event, ids in (("like", likes), ("dislike", dislikes))
            for n, item in enumerate(ids)
        ]
        taste = taste_of(events)
        gone = self.unknown(taste.weights)
        if gone:
            warnings.append(
                f"{len(gone)} items of this user's history are no longer there and were passed over"
            )
        if taste.contradicted:
            warnings.append(
                f"{len(taste.contradicted)} items were both liked and disliked: the last word counts"
            )
        if not taste.liked:
            warnings.append(
                "nothing liked yet: this is what most listeners like"
                if not taste.disliked
                else "nothing liked yet: this is what most listeners like, away from what was disliked"
            )
        return taste, warnings

    def _outside(self, taste: Taste) -> tuple[np.ndarray, list[float]]:
        """Vectors and weights of answers of the log in a taste."""
        found = [
            (vector, weight)
            for item, weight in taste.weights.items()
            if item not in self.catalogue.row_of and (vector := self._answer(item)) is not None
        ]
        return np.array([v for v, _ in found], dtype=np.float32).reshape(
            -1, self.catalogue.vectors.shape[1]
        ), [w for _, w in found]

    def _answer(self, answer_id: str) -> np.ndarray | None:
        """Vector of an answer in the log, None where there is none that can be compared."""
        if answer_id not in self._answers:
            row = self._log.answer(answer_id)
            if row is None or "midi" not in row.body:
                return None
            try:
                vector = piece_vector(embedded(self.model, stored_score(str(row.body["midi"]))).vectors)
            except Unanswerable:
                return None
            if len(self._answers) >= MOST_REMEMBERED:
                self._answers.pop(next(iter(self._answers)))
            self._answers[answer_id] = vector
        return self._answers[answer_id]

    def _query(self, item: str, bars: tuple[int, int] | None) -> Query:
        if item in self.catalogue.row_of:
            row = self.catalogue.row_of[item]
            return (
                self._query_of(row)
                if bars is None
                else embedded(self.model, stored_score(self.midi(row)), bars)
            )
        stored = self._log.answer(item)
        if stored is None or "midi" not in stored.body:
            raise Unanswerable(
                f"no item or answer {item!r}: it was never there, was removed, or its music is not kept", "id"
            )
        return embedded(self.model, stored_score(str(stored.body["midi"])), bars)

    def _query_of(self, row: int) -> Query:
        item = self.catalogue.items[row]
        vectors, bars = self.catalogue.parts(row)
        return Query(vectors, bars, item.descriptors, _labels(item), self.catalogue.words[row])

    def _why(self, query: Query, row: int) -> Why:
        item = self.catalogue.items[row]
        return explain(
            query.descriptors, query.labels, item.descriptors, _labels(item), self.catalogue.spread
        )

    def _allowed(self, filters: Filters, without: Sequence[str]) -> np.ndarray:
        try:
            return self.catalogue.allowed(filters, without)
        except ValueError as error:
            raise Unanswerable(str(error), "filters") from error

    def midi(self, row: int) -> str:
        """The score of an item, base64 MIDI."""
        return base64.b64encode(to_midi(self.model.tokenizer.decode_ids(self.catalogue.tokens[row]))).decode()


def _labels(item: Item) -> dict[str, str]:
    return {name: getattr(item, name) for name in ("metre", "mode", "rhythm", "style", "composer")}


def _most(values: Sequence[str]) -> str:
    return Counter(values).most_common(1)[0][0] if values else ""
