"""Stage `recommend`: from what listeners did to factors of items and a learned blend. Without real listeners,
simulated ones, and every report says so."""

from pathlib import Path

from models.find.catalogue import Catalogue
from models.find.interactions import by_user
from models.find.recommender import BUCKETS, PARTS
from models.find.recommender_training import fit_recommender
from models.find.simulated_listeners import simulate
from pipelines.running.feedback import read_interactions
from pipelines.running.files import run_stage, write_json
from pipelines.running.params import load_params

EMBEDDED, OUT = Path("data/embed"), Path("data/recommend")


def main() -> None:
    knobs = load_params().recommend
    catalogue = Catalogue.load(EMBEDDED / "catalogue.safetensors")
    events, origin = read_interactions(), "listeners"
    real = len(events)
    if real < knobs.fewest_events:
        events, origin = simulate(catalogue, knobs.simulated_listeners, knobs.seed), "simulated"
        print(
            (
                f"{real} events of listeners are fewer than recommend.fewest_events "
                f"({knobs.fewest_events}): learning from {knobs.simulated_listeners} SIMULATED listeners"
            ),
            flush=True,
        )
    model = fit_recommender(
        catalogue,
        events,
        factors=knobs.factors,
        regularisation=knobs.regularisation,
        iterations=knobs.iterations,
        seed=knobs.seed,
        origin=origin,
    )
    OUT.mkdir(parents=True, exist_ok=True)
    model.save(OUT / "recommender.safetensors")
    known = {item.id for item in catalogue.items}
    report = {
        "origin": origin,
        "events": len(events),
        "real_events": real,
        "users": len(by_user(events)),
        "items": len(model.ids),
        "items_outside_the_catalogue": len(set(model.ids) - known),
        "weights": {
            f"{likes}+ likes": {name: round(float(value), 4) for name, value in zip(PARTS, row, strict=True)}
            for likes, row in zip(BUCKETS, model.weights, strict=True)
        },
    }
    write_json(Path("reports/recommend_report.json"), report)


if __name__ == "__main__":
    run_stage(main)
