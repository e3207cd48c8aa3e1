"""Training the recommender: factors of items from everybody's choices, then the blend from choices that were
held out."""

from collections.abc import Callable, Sequence

import numpy as np

from models.find.catalogue import Catalogue
from models.find.interactions import Interaction, Taste, by_user, taste_of
from models.find.recommender import BUCKETS, CONFIDENCE, PARTS, Recommender, bucket_of

NEGATIVES = 60  # items per held-out choice that the listener did not choose, half of them drawn by popularity
# share of items that no listener has met while the blend is learned, so that it knows what to do with new
# ones
COLD = 0.1
PRIOR = 0.05  # strength with which the weights of a bucket are drawn to those of all


def item_factors(
    tastes: Sequence[Taste],
    ids: Sequence[str],
    *,
    factors: int,
    regularisation: float,
    iterations: int,
    seed: int,
) -> np.ndarray:
    """Alternating least squares over likes and dislikes, float32 (ids, factors)."""
    from implicit.als import AlternatingLeastSquares  # training only
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    row_of = {name: row for row, name in enumerate(ids)}
    cells = [
        (user, row_of[item], CONFIDENCE * weight)
        for user, taste in enumerate(tastes)
        for item, weight in taste.weights.items()
        if weight and item in row_of
    ]
    if not cells:
        return np.zeros((len(ids), factors), dtype=np.float32)
    users, items, values = zip(*cells, strict=True)
    matrix = csr_matrix((np.array(values, dtype=np.float32), (users, items)), shape=(len(tastes), len(ids)))
    model = AlternatingLeastSquares(
        factors=factors,
        regularization=regularisation,
        iterations=iterations,
        alpha=1.0,
        random_state=seed,
        num_threads=0,
        use_gpu=False,
    )
    with threadpool_limits(1, user_api="blas"):  # its own threads are as many as there are cores
        model.fit(matrix, show_progress=False)
    return np.asarray(model.item_factors, dtype=np.float32)


def popularity(tastes: Sequence[Taste], ids: Sequence[str]) -> np.ndarray:
    """log(1 + listeners who liked an item), the most liked at 1."""
    row_of, counts = {name: row for row, name in enumerate(ids)}, np.zeros(len(ids))
    for taste in tastes:
        counts[[row_of[item] for item in taste.liked if item in row_of]] += 1
    return np.asarray(np.log1p(counts) / max(np.log1p(counts).max(initial=0.0), 1e-9), dtype=np.float32)


def fit_recommender(
    catalogue: Catalogue,
    events: Sequence[Interaction],
    *,
    factors: int,
    regularisation: float,
    iterations: int,
    seed: int,
    origin: str,
) -> Recommender:
    """Train on all events. With nothing to learn a blend from, the content speaks alone."""
    histories = list(by_user(events).values())
    tastes = [taste_of(history) for history in histories]
    ids = tuple(sorted({item for taste in tastes for item in taste.weights}))

    def collaborative(some: Sequence[Taste], known: tuple[str, ...], weights: np.ndarray) -> Recommender:
        found = item_factors(
            some, known, factors=factors, regularisation=regularisation, iterations=iterations, seed=seed
        )
        return Recommender(known, found, popularity(some, known), weights, regularisation, origin)

    weights = blend(catalogue, tastes, ids, collaborative, seed)
    return collaborative(tastes, ids, weights)


def blend(
    catalogue: Catalogue,
    tastes: Sequence[Taste],
    ids: tuple[str, ...],
    collaborative: Callable[[Sequence[Taste], tuple[str, ...], np.ndarray], Recommender],
    seed: int,
) -> np.ndarray:
    """Weights (BUCKETS, PARTS) by logistic regression on each listener's last liking against items that they
    did not choose.

    The collaborative part is trained without what was held out and without a share of the items. Every
    listener is also seen with all but a few likes taken away, so that every bucket has examples.
    """
    random = np.random.default_rng(seed)
    none = np.tile(np.array([1.0, 0.5, -0.5, 0.0, 0.0, 0.0], dtype=np.float32), (len(BUCKETS), 1))
    able = [taste for taste in tastes if len([i for i in taste.liked if i in catalogue.row_of]) >= 2]
    if len(able) < 10:
        return none
    cold = set(random.permutation(ids)[: int(COLD * len(ids))].tolist())
    known = tuple(name for name in ids if name not in cold)
    held = [[item for item in taste.liked if item in catalogue.row_of][-1] for taste in able]
    earlier = [
        Taste({item: weight for item, weight in taste.weights.items() if item != target})
        for taste, target in zip(able, held, strict=True)
    ]
    rest = [taste for taste in tastes if len([i for i in taste.liked if i in catalogue.row_of]) < 2]
    model = collaborative([*earlier, *rest], known, none)
    rows = model.rows(catalogue)
    chance = np.where(rows >= 0, model.popularity[np.maximum(rows, 0)], 0.0) + 1e-3
    chance = np.cumsum(chance / chance.sum())
    examples: list[list[np.ndarray]] = [[] for _ in BUCKETS]
    for taste, target in zip(earlier, held, strict=True):
        for likes in {len(taste.liked), *[int(n) for n in BUCKETS if n < len(taste.liked)]}:
            seen = _fewer(taste, likes)
            drawn = np.concatenate(
                [
                    random.integers(len(catalogue), size=NEGATIVES // 2),
                    np.searchsorted(chance, random.random(NEGATIVES // 2)).clip(0, len(catalogue) - 1),
                ]
            )
            others = [
                row
                for row in drawn.tolist()
                if catalogue.items[row].id not in taste.weights and catalogue.items[row].id != target
            ]
            parts = model.parts(catalogue, rows, seen, among=[catalogue.row_of[target], *others])
            examples[bucket_of(likes)].append(parts[1:] - parts[0])
    together = [
        np.concatenate(rows_of) if rows_of else np.zeros((0, len(PARTS)), dtype=np.float32)
        for rows_of in examples
    ]
    overall = _pairwise(np.concatenate(together), np.zeros(len(PARTS)))
    return np.stack([_pairwise(each, overall) if len(each) else overall for each in together]).astype(
        np.float32
    )


def _fewer(taste: Taste, likes: int) -> Taste:
    """The taste with only its newest likes; dislikes stay where there are any likes at all."""
    kept = set(taste.liked[-likes:]) if likes else set()
    return Taste(
        {item: weight for item, weight in taste.weights.items() if item in kept or (weight < 0 and likes)}
    )


def _pairwise(differences: np.ndarray, prior: np.ndarray, steps: int = 60) -> np.ndarray:
    """Weights that put the chosen item above the other: minimises mean log(1 + exp(difference @ w)) + PRIOR
    |w - prior|^2 by Newton's method (the Bradley-Terry form)."""
    x, w = differences.astype(np.float64), prior.astype(np.float64).copy()
    scale = np.maximum(x.std(axis=0), 1e-6)
    x = x / scale
    w, centre = w * scale, prior * scale
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ p / len(x) + 2 * PRIOR * (w - centre) * 0.1
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x) + 2 * PRIOR * 0.1 * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if np.abs(step).max() < 1e-6:
            break
    return np.asarray(w / scale)
