"""Drift: is what is asked and answered now still like the reference in the bundle? Distance, status and alert
are kept apart.

Distance: the population stability index (PSI) over ten bins of equal reference mass. Its usual thresholds 0.1
and 0.25 ignore sample size; without drift PSI is about (1/n + 1/m) times a chi-squared variable with bins - 1
degrees of freedom (Yurdakul & Naranjo 2020), which gives the threshold here, at a level shared by all
descriptors (Bonferroni).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri  # scipy.stats has it too, for 25 MB

from monitoring.rows import Row

BINS = 10
SIDES = {"input": "data", "output": "samples"}  # side of the log -> part of the profile it is compared with
STATUSES = ("none", "potential", "detected")


@dataclass(frozen=True)
class Drift:
    """One descriptor on one side. `threshold` is for status "detected"; half of the way there in probability
    is "potential"."""

    descriptor: str
    side: str
    rows: int
    psi: float
    threshold: float
    status: str
    reference_mean: float
    mean: float


def psi(reference: np.ndarray, current: np.ndarray, bins: int = BINS) -> tuple[float, int]:
    """PSI and the number of bins used (fewer where reference values repeat); half a row is added to each bin
    against empty ones."""
    values, counts = np.unique(reference, return_counts=True)
    heavy = values[
        counts * bins >= len(reference)
    ]  # a value with a bin's mass of its own gets a bin of its own
    quantiles = np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1])
    inner = np.unique(np.concatenate([quantiles, heavy, np.nextafter(heavy, np.inf)]))
    edges = np.concatenate([[-np.inf], inner, [np.inf]])
    p = np.histogram(reference, edges)[0] + 0.5
    q = np.histogram(current, edges)[0] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum()), len(edges) - 1


def threshold(n: int, m: int, bins: int, alpha: float) -> float:
    """PSI that is exceeded with probability `alpha` where nothing has drifted."""
    return float((1 / n + 1 / m) * chdtri(max(bins - 1, 1), alpha))


def descriptor_columns(rows: Iterable[Row], model: str) -> dict[str, dict[str, list[float]]]:
    """{side: {descriptor: values}} of the rows of one model that carry descriptors: what `find_drift`
    compares."""
    columns: dict[str, dict[str, list[float]]] = {side: {} for side in SIDES}
    for row in rows:
        if row.side in columns and row.model == model:
            for name, value in row.descriptors.items():
                columns[row.side].setdefault(name, []).append(value)
    return columns


def rows_on(columns: Mapping[str, Mapping[str, Sequence[float]]], side: str) -> int:
    """How many rows a side of `descriptor_columns` rests on."""
    return max((len(values) for values in columns.get(side, {}).values()), default=0)


def find_drift(
    profile: Mapping[str, Mapping[str, Sequence[float]]],
    rows: Mapping[str, Mapping[str, Sequence[float]]],
    alpha: float,
    min_rows: int,
) -> list[Drift]:
    """Every descriptor on both sides; `rows` is {side: {descriptor: values}}. Sides with fewer than
    `min_rows` rows are left out."""
    found: list[Drift] = []
    for side, part in SIDES.items():
        for name, reference in profile[part].items():
            current = np.asarray(rows.get(side, {}).get(name, ()), dtype=float)
            if len(current) < min_rows:
                continue
            past = np.asarray(reference, dtype=float)
            value, bins = psi(past, current)
            level = alpha / (len(profile[part]) * len(SIDES))
            limit = threshold(len(past), len(current), bins, level)
            status = STATUSES[
                2
                if value > limit
                else 1
                if value > threshold(len(past), len(current), bins, 10 * level)
                else 0
            ]
            found.append(
                Drift(
                    name,
                    side,
                    len(current),
                    round(value, 4),
                    round(limit, 4),
                    status,
                    float(past.mean()),
                    float(current.mean()),
                )
            )
    return found
