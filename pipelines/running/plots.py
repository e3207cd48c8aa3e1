"""Pictures of tables, as SVG: they open offline, and equal tables give equal files."""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.running.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "mark"  # id of what stands for a number: a bar, a point, a line


@contextmanager
def _axis(path: Path, title: str, height: float = 3.6) -> "Iterator[Any]":
    """An axis to draw on, written to `path` when the block ends."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "ostinato"  # ids that do not change from run to run
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7.2, height), layout="constrained")
    axis.set_title(title, fontsize=10, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    try:
        yield axis
        with whole_file(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
    finally:
        pyplot.close(figure)


def histogram(path: Path, values: Sequence[float], title: str, unit: str, bins: int = 40) -> None:
    with _axis(path, title) as axis:
        _, _, bars = axis.hist(values, bins=bins)
        _mark(bars)
        axis.set(xlabel=unit, ylabel="pieces")


def shares(path: Path, table: Mapping[str, float], title: str, unit: str) -> None:
    """One bar a name, the largest at the top."""
    rows = sorted(table.items(), key=lambda row: (row[1], row[0]))
    with _axis(path, title, height=1.2 + 0.25 * len(rows)) as axis:
        _mark(axis.barh([name for name, _ in rows], [value for _, value in rows]))
        axis.set_xlabel(unit)


def beside(path: Path, table: Mapping[str, Mapping[str, float]], title: str, unit: str) -> None:
    """A row a name and a point a kind: {"key": {"obeyed": 0.8, "chance": 0.3}}."""
    kinds = list(dict.fromkeys(kind for row in table.values() for kind in row))
    names = list(table)[::-1]
    with _axis(path, title, height=1.4 + 0.25 * len(names)) as axis:
        for kind, marker in zip(kinds, "osD^vPX", strict=False):
            mine = [(table[name][kind], name) for name in names if kind in table[name]]
            points = axis.scatter([x for x, _ in mine], [y for _, y in mine], label=kind, marker=marker, s=26)
            points.set_gid(f"{MARK}-{kind}")
        axis.set_xlabel(unit)
        axis.grid(axis="y", alpha=0.3)
        axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def curve(path: Path, rows: Sequence[Mapping[str, float]], watched: str) -> None:
    """A watched value by step; a run that trained nothing says so."""
    with _axis(path, watched.replace("_", " ")) as axis:
        if rows:
            (line,) = axis.plot([row["step"] for row in rows], [row[watched] for row in rows], marker="o")
            line.set_gid(f"{MARK}-{watched}")
        else:
            axis.text(0.5, 0.5, "nothing was trained", ha="center", transform=axis.transAxes)
        axis.set_xlabel("step")


def _mark(bars: Any) -> None:
    for n, bar in enumerate(bars):
        bar.set_gid(f"{MARK}-{n}")
