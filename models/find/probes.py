"""What the vectors of the catalogue hold: linear probes for labels, and a map of the catalogue coloured by
style."""

from collections import Counter
from pathlib import Path

import numpy as np

from models.find.catalogue import Catalogue

PROBED = ("style", "rhythm", "metre", "mode")  # not the tonic: vectors do not depend on the key
MOST_DRAWN, FEWEST = 1500, 10  # items on the map; items that a label needs to be probed for


def probes(catalogue: Catalogue, splits: np.ndarray) -> dict[str, dict[str, float]]:
    """Accuracy on test items of a linear classifier on the vectors of train items, beside the most frequent
    label."""
    from sklearn.linear_model import LogisticRegression

    table = {}
    for kind in PROBED:
        labels = np.array([getattr(item, kind) for item in catalogue.items])
        common = [
            label
            for label, count in Counter(labels[splits == "train"].tolist()).items()
            if label and count >= FEWEST
        ]
        train, test = ((splits == split) & np.isin(labels, common) for split in ("train", "test"))
        if len(common) < 2 or not test.any():
            continue
        model = LogisticRegression(max_iter=300, C=10.0).fit(catalogue.vectors[train], labels[train])
        most = Counter(labels[train].tolist()).most_common(1)[0][0]
        table[kind] = {
            "accuracy": round(float(model.score(catalogue.vectors[test], labels[test])), 4),
            "most_frequent": round(float((labels[test] == most).mean()), 4),
            "items": int(test.sum()),
        }
    return table


def draw_map(catalogue: Catalogue, path: Path, seed: int) -> None:
    """t-SNE (van der Maaten & Hinton 2008) of the vectors, a colour for each style."""
    import matplotlib as mpl
    from sklearn.manifold import TSNE

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = np.sort(np.random.default_rng(seed).permutation(len(catalogue))[:MOST_DRAWN])
    places = TSNE(
        init="pca", perplexity=min(30, max((len(rows) - 1) // 3, 1)), max_iter=500, random_state=seed
    ).fit_transform(catalogue.vectors[rows])
    figure, axis = pyplot.subplots(figsize=(8, 7), dpi=100)
    styles = np.array([catalogue.items[row].style or "(none)" for row in rows])
    for style, _ in Counter(styles.tolist()).most_common():
        mine = styles == style
        axis.scatter(places[mine, 0], places[mine, 1], s=8, alpha=0.7, label=style)
    axis.legend(markerscale=2)
    axis.set(title=f"{len(rows)} pieces of the catalogue by what they are like", xticks=[], yticks=[])
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
