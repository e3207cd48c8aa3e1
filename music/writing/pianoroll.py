"""Piano-roll pictures: time across, pitch up, one colour a track, a line at every bar."""

from pathlib import Path

import numpy as np
from symusic import Score

from music.score.form import bar_table, note_array
from music.score.instruments import DRUMS, name_of

COLOURS = ("#3b6ea5", "#c8553d", "#5b8c5a", "#8e6c8a", "#b8860b", "#4f4f4f", "#2a9d8f", "#d17a9b")


def save_piano_roll(score: Score, path: Path, title: str, region: np.ndarray | None = None) -> None:
    """Write a PNG of the score in normal form; an empty score gives an empty roll. `region`, bool (bars,
    tracks): filled cells are hatched."""
    import matplotlib as mpl  # only jobs that draw pay for it

    mpl.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    bars = bar_table(score)
    figure, axis = pyplot.subplots(figsize=(min(4 + 0.9 * len(bars), 24), 3.2), dpi=90)
    for index, track in enumerate(score.tracks):
        notes = note_array(track)
        colour = COLOURS[index % len(COLOURS)]
        bar = np.searchsorted(bars[:, 0], notes[:, 0], side="right") - 1
        new = region[bar, index] if region is not None else np.zeros(len(notes), dtype=bool)
        label = name_of(DRUMS if track.is_drum else track.program)
        for mine, hatch in ((notes[~new], None), (notes[new], "////")):
            if len(mine):
                axis.barh(
                    mine[:, 2],
                    mine[:, 1] * 0.94,
                    left=mine[:, 0],
                    height=0.85,
                    color=colour,
                    label=f"{label}, filled" if hatch else label,
                    hatch=hatch,
                    edgecolor="white",
                    linewidth=0,
                )
    for start, _, _, _ in bars:
        axis.axvline(start, color="#bbbbbb", linewidth=0.6, zorder=0)
    if region is not None:
        for b in np.flatnonzero(region.any(axis=1)):
            axis.axvspan(bars[b, 0], bars[b, 0] + bars[b, 1], color="#fff3c4", zorder=-1)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xticks(bars[:, 0], [str(i + 1) for i in range(len(bars))])
    axis.set(title=title, xlabel="bar", ylabel="MIDI pitch")
    if score.tracks:
        axis.legend(loc="upper right", fontsize=7, ncols=4)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
