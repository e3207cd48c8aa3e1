"""compose.yaml: what the host and the containers must share."""

import yaml

from tests.conftest import ROOT

SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def test_the_log_and_the_catalogue_are_the_host_s() -> None:
    mounts = dict(
        volume.split(":")[0:2]
        for volume in (
            v.replace("${OSTINATO_HOME:-./.ostinato}", "HOME") for v in SERVICES["ostinato"]["volumes"]
        )
    )
    environment = SERVICES["ostinato"]["environment"]
    assert mounts["HOME/log"] == environment["OSTINATO_LOG"]
    assert mounts["HOME/catalogue"] == environment["OSTINATO_CATALOGUE"]


def test_mlflow_answers_to_every_name_that_reaches_it() -> None:
    command = " ".join(SERVICES["mlflow"]["command"])
    assert all(host in command for host in ("mlflow:5000", "localhost:5000", "127.0.0.1:5000"))


def test_no_image_is_unpinned_or_discontinued() -> None:
    for name, service in SERVICES.items():
        assert not service["image"].startswith("minio/"), "no longer published"
        assert ":" in service["image"] and not service["image"].endswith(":latest"), name
