"""The index, the catalogue, tastes and the recommender on small made-up catalogues."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.find.catalogue import Catalogue, Filters, Item
from models.find.index import ExactIndex, FaissIndex
from models.find.interactions import EVENTS, Interaction, Taste, taste_of
from models.find.reasons import explain
from models.find.recommender import BUCKETS, PARTS, Recommender, diverse, fold_in
from models.find.recommender_training import fit_recommender
from models.find.simulated_listeners import simulate
from models.find.words_index import WordsIndex, words_of
from music.analysis.descriptors import NAMES

KNOBS = {"factors": 8, "regularisation": 0.05, "iterations": 10, "seed": 1, "origin": "test"}


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)


def made_up(items: int = 60, clusters: int = 4, seed: int = 0) -> Catalogue:
    """Items in clusters of vectors and of words; the style tells the cluster."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, 16))
    cluster = np.arange(items) % clusters
    passages = unit(np.repeat(centres[cluster], 2, axis=0) + 0.3 * random.normal(size=(2 * items, 16)))
    made = [
        Item(
            f"p{i}",
            "c",
            "public-domain",
            f"s{cluster[i]}",
            "jig",
            "6/8",
            "D major",
            "",
            16,
            100,
            {name: float(cluster[i]) for name in NAMES},
        )
        for i in range(items)
    ]
    return Catalogue(
        made,
        passages,
        np.repeat(np.arange(items), 2),
        np.tile(np.array([[0, 8], [8, 16]]), (items, 1)),
        [np.array([i], dtype=np.uint16) for i in range(items)],
        [np.array([cluster[i], 100 + i], dtype=np.uint16) for i in range(items)],
    )


def test_faiss_finds_nearly_what_looking_at_all_finds() -> None:
    random = np.random.default_rng(0)
    vectors = unit(random.normal(size=(200, 32)).repeat(50, axis=0) + 0.5 * random.normal(size=(10_000, 32)))
    queries = vectors[:50]
    exact, faiss = ExactIndex(vectors).search(queries, 10), FaissIndex(vectors).search(queries, 10)
    assert (
        np.mean(
            [len(set(a) & set(b)) / 10 for a, b in zip(exact[1].tolist(), faiss[1].tolist(), strict=True)]
        )
        >= 0.95
    )
    assert (faiss[1][:, 0] == np.arange(50)).all()
    assert (np.diff(exact[0], axis=1) <= 0).all()


def test_a_catalogue_survives_its_file_and_items_come_and_go(tmp_path: Path) -> None:
    catalogue = made_up()
    catalogue.save(tmp_path / "catalogue")
    again = Catalogue.load(tmp_path / "catalogue")
    assert again.items == catalogue.items
    assert np.allclose(again.vectors, catalogue.vectors, atol=2e-3)
    assert [tokens.tolist() for tokens in again.tokens] == [tokens.tolist() for tokens in catalogue.tokens]
    fewer = catalogue.without(["p3", "p7"])
    assert len(fewer) == 58 and "p3" not in fewer.row_of
    back = fewer.with_items(catalogue._of([3, 7]))
    assert set(back.row_of) == set(catalogue.row_of)
    assert np.array_equal(back.vectors[back.row_of["p3"]], catalogue.vectors[3])


def test_similar_items_are_of_the_same_cluster_and_filters_hold() -> None:
    catalogue = made_up()
    vectors, bars = catalogue.parts(0)
    hits = catalogue.similar(vectors, bars, 8, catalogue.allowed(Filters(), ["p0"]), catalogue.words[0])
    assert {catalogue.items[hit.row].style for hit in hits} == {"s0"}
    assert all(a.likeness >= b.likeness for a, b in pairwise(hits))
    assert 0 not in {hit.row for hit in hits}
    other = catalogue.similar(
        vectors, bars, 8, catalogue.allowed(Filters({"style": ["s2"]})), catalogue.words[0]
    )
    assert {catalogue.items[hit.row].style for hit in other} == {"s2"}
    assert (
        catalogue.similar(
            vectors, bars, 8, catalogue.allowed(Filters(ranges={"note_density": (9, 10)})), catalogue.words[0]
        )
        == []
    )
    with pytest.raises(ValueError, match="no label 'mood'"):
        catalogue.allowed(Filters({"mood": ["sad"]}))
    with pytest.raises(ValueError, match="no item has style 'polka'"):
        catalogue.allowed(Filters({"style": ["polka"]}))


def test_the_reasons_name_what_is_the_same_and_what_differs() -> None:
    query = dict.fromkeys(NAMES, 1.0)
    item = {**query, "mean_note_length": 3.0, "note_density": 0.0}
    why = explain(
        query, {"metre": "6/8", "mode": "major"}, item, {"metre": "6/8", "mode": "minor"}, np.ones(len(NAMES))
    )
    assert why.same == ["metre (6/8)"]
    assert why.different == ["longer notes", "fewer notes"]
    assert "longer notes" in why.text and "same metre (6/8)" in why.text


@given(
    st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from(["a", "b"]), st.integers(1, 5)), max_size=30)
)
def test_the_last_explicit_word_on_an_item_counts_and_weights_are_bounded(
    events: list[tuple[str, str, int]],
) -> None:
    history = [
        Interaction("u", item, event, float(value) if event == "rating" else 0.0, f"{n:04d}")
        for n, (event, item, value) in enumerate(events)
    ]
    taste = taste_of(history)
    assert all(-1 <= weight <= 1 for weight in taste.weights.values())
    for item in ("a", "b"):
        said = [e for e in history if e.item == item and e.event in ("like", "dislike")]
        rated = [e for e in history if e.item == item and e.event == "rating"]
        if said and not rated:
            assert taste.weights[item] == (1.0 if said[-1].event == "like" else -1.0)


def test_folding_in_a_listener_is_what_implicit_gives_the_same_listener() -> None:
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    from models.find.recommender import CONFIDENCE

    random = np.random.default_rng(2)
    rows = [np.sort(random.choice(40, 6, replace=False)) for _ in range(50)]
    matrix = csr_matrix(
        (np.full(300, CONFIDENCE, dtype=np.float32), (np.repeat(np.arange(50), 6), np.concatenate(rows))),
        shape=(50, 40),
    )
    model = AlternatingLeastSquares(
        factors=8, regularization=0.05, iterations=10, alpha=1.0, random_state=1, use_gpu=False
    )
    model.fit(matrix, show_progress=False)
    theirs = model.recalculate_user(0, matrix[0])
    gram = model.item_factors.T @ model.item_factors + 0.05 * np.eye(8)
    # implicit's confidence is the value itself, ours 1 + CONFIDENCE: the same up to that one
    assert np.allclose(
        fold_in(gram, model.item_factors, rows[0], np.full(6, (CONFIDENCE - 1) / CONFIDENCE)),
        theirs,
        atol=1e-3,
    )


def test_a_listener_gets_their_cluster_and_never_what_they_disliked() -> None:
    catalogue = made_up(80)
    events = [
        Interaction(f"u{u}", f"p{4 * k + u % 4}", "like", 0.0, f"{k:04d}")
        for u in range(40)
        for k in np.random.default_rng(u).choice(20, 6, replace=False).tolist()
    ]
    model = fit_recommender(catalogue, events, **KNOBS)  # type: ignore[arg-type]
    rows = model.rows(catalogue)
    taste = Taste({"p1": 1.0, "p5": 1.0, "p9": -1.0})
    parts = model.parts(catalogue, rows, taste)
    allowed = catalogue.allowed(Filters(), taste.weights)
    chosen = diverse(model.score(parts, 2), catalogue.vectors, allowed, 8, 0.0, 0.0, 0)
    assert np.mean([catalogue.items[row].style == "s1" for row in chosen]) >= 0.75
    assert not {catalogue.items[row].id for row in chosen} & set(taste.weights)
    assert abs(sum(model.spoke(parts, chosen[0], 2).values()) - 1) < 0.01


def test_with_hardly_any_listener_the_content_speaks_alone() -> None:
    catalogue = made_up()
    model = fit_recommender(catalogue, [Interaction("u", "p1", "like", 0.0, "1")], **KNOBS)  # type: ignore[arg-type]
    assert model.weights.shape == (len(BUCKETS), len(PARTS))
    assert (model.weights[:, PARTS.index("content")] > 0).all() and (
        model.weights[:, PARTS.index("listeners")] == 0
    ).all()
    assert fit_recommender(catalogue, [], **KNOBS).ids == ()  # type: ignore[arg-type]


def test_a_recommender_survives_its_file(tmp_path: Path) -> None:
    catalogue = made_up()
    model = fit_recommender(catalogue, simulate(catalogue, 30, 3), **KNOBS)  # type: ignore[arg-type]
    model.save(tmp_path / "model")
    again = Recommender.load(tmp_path / "model")
    assert again.ids == model.ids and again.origin == "test"
    taste, rows = Taste({"p1": 1.0}), model.rows(catalogue)
    assert np.allclose(again.parts(catalogue, rows, taste), model.parts(catalogue, rows, taste))


def test_diversity_spreads_and_exploration_reaches_further_down() -> None:
    catalogue = made_up(200)
    score = catalogue.vectors @ catalogue.vectors[0]
    allowed = np.ones(200, dtype=bool)
    plain, spread = (diverse(score, catalogue.vectors, allowed, 10, d, 0.0, 0) for d in (0.0, 0.8))
    assert plain == np.argsort(-score, kind="stable")[:10].tolist()
    distance = [1 - (catalogue.vectors[rows] @ catalogue.vectors[rows].T).mean() for rows in (plain, spread)]
    assert distance[1] > distance[0]
    assert len(set(diverse(score, catalogue.vectors, allowed, 10, 0.0, 1.0, 1)) - set(plain)) > 2
    assert diverse(score, catalogue.vectors, np.zeros(200, dtype=bool), 10, 0.0, 0.0, 0) == []
    last = np.zeros(200, dtype=bool)
    last[np.argsort(-score)[-40:]] = True
    found = [
        sum(last[diverse(score, catalogue.vectors, allowed, 10, 0.0, 0.3, seed, pool=50, unheard=last)])
        for seed in range(30)
    ]
    assert 0.5 < np.mean(found) < 3, "what nobody has met gets about half of the places explored"


def test_simulated_listeners_are_the_same_for_the_same_seed() -> None:
    catalogue = made_up()
    assert simulate(catalogue, 10, 3) == simulate(catalogue, 10, 3)
    assert simulate(catalogue, 10, 3) != simulate(catalogue, 10, 4)


def test_rare_words_in_common_count_and_common_ones_do_not() -> None:
    items = [np.array(words, dtype=np.uint16) for words in ([1, 2, 3], [1, 9, 3], [1, 5, 6], [1])]
    likeness = WordsIndex(items).likeness(np.array([1, 2, 3], dtype=np.uint16))
    assert likeness[0] == pytest.approx(1.0) and likeness[0] > likeness[1] > likeness[2] >= likeness[3] == 0.0
    assert words_of([np.array([7, 7, 8])]).dtype == np.uint16
    assert len(words_of([])) == 0
