import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from monitoring.drift import find_drift, psi, threshold
from tests.conftest import ROOT


@pytest.mark.parametrize(("n", "m"), [(200, 60), (1000, 100), (400, 400)])
def test_the_threshold_has_the_stated_false_alarm_rate(n: int, m: int) -> None:
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(1500):
        value, bins = psi(random.normal(size=n), random.normal(size=m))
        alarms += value > threshold(n, m, bins, 0.05)
    assert 0.02 < alarms / 1500 < 0.09


def test_what_moved_is_named_and_what_did_not_is_not() -> None:
    random = np.random.default_rng(1)
    names = ("note_density", "polyphony", "key_clarity")
    profile = {
        part: {name: random.normal(size=300).tolist() for name in names} for part in ("data", "samples")
    }
    rows = {
        "output": {name: (random.normal(size=150) + (name == "polyphony")).tolist() for name in names},
        "input": {name: [1.0] * 5 for name in names},
    }
    found = find_drift(profile, rows, alpha=0.01, min_rows=50)
    assert {(d.descriptor, d.side) for d in found} == {(name, "output") for name in names}
    assert {d.descriptor for d in found if d.status == "detected"} == {"polyphony"}


def test_a_descriptor_that_is_constant_in_the_reference_is_compared_too() -> None:
    profile = {part: {"polyphony": [1.0] * 200} for part in ("data", "samples")}
    assert find_drift(profile, {"output": {"polyphony": [1.0] * 100}}, 0.01, 50)[0].status == "none"
    assert find_drift(profile, {"output": {"polyphony": [2.0] * 100}}, 0.01, 50)[0].status == "detected"


def test_metric_labels_come_from_closed_sets_and_gauges_state_their_mode() -> None:
    from prometheus_client import Gauge

    from monitoring import metrics

    allowed = {
        "endpoint",
        "status",
        "model",
        "valid",
        "side",
        "descriptor",
        "licence",
        "operation",
        "contract",
        "event",
        "part",
        "mode",
        "outcome",
    }
    for name, value in vars(metrics).items():
        if hasattr(value, "_labelnames"):
            assert set(value._labelnames) <= allowed, name
            assert value._name.startswith("ostinato_")
            if isinstance(value, Gauge):
                assert value._multiprocess_mode in ("livesum", "livemin", "mostrecent", "max"), name


def test_the_dashboard_uses_the_provisioned_datasource_and_has_no_inputs() -> None:
    board = json.loads((ROOT / "monitoring/grafana/dashboards/ostinato.json").read_text())
    provisioned = yaml.safe_load(
        (ROOT / "monitoring/grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"][0]["uid"]
    assert "__inputs" not in board
    for panel in board["panels"]:
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {provisioned}
        assert panel["description"]


def test_every_image_of_the_compose_file_is_pinned_and_checked() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert {
        "postgres",
        "mlflow",
        "store",
        "ostinato",
        "prometheus",
        "alertmanager",
        "grafana",
    } <= services.keys()
    for name, service in services.items():
        assert ":" in service["image"], name
        assert not service["image"].endswith(":latest"), name
        assert "healthcheck" in service or name == "bucket", name
    mounted = [
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert len(mounted) == 4
    assert all(Path(ROOT / path).exists() for path in mounted)
