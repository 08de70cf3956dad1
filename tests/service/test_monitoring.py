"""service/monitoring: what `docker compose --profile monitoring` gives Prometheus and Grafana to read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import service
from tests.service.houses import served

pytestmark = pytest.mark.anyio

MONITORING = Path(service.__file__).parent / "monitoring"
COMPOSE = MONITORING.parents[1] / "docker-compose.yml"
METRIC = re.compile(r"\b(?:formwork|tgi)_\w+")


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    return found


async def test_every_metric_of_the_dashboard_is_one_that_the_service_tells(tmp_path: Path) -> None:
    """A panel over a name that does not exist would be silently empty."""
    async with served(tmp_path, []) as (client, _):
        text = (await client.get("/metrics")).text
    told = set(METRIC.findall(text))
    asked = {name for panel in panels() for target in panel["targets"] for name in METRIC.findall(target["expr"])}
    assert asked
    assert asked <= told


def test_panels_do_not_overlap() -> None:
    """Grafana would draw one over another."""
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(0 <= x < 24 for x, _ in cells)


def test_prometheus_and_grafana_find_each_other_and_the_service() -> None:
    """Host names are the services' names in the compose file, ports those that they listen on."""
    compose = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    prometheus = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    (target,) = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert compose["services"][host]["environment"]["FORMWORK_METRICS_PORT"] == port
    (source,) = yaml.safe_load((MONITORING / "grafana-datasource.yml").read_text(encoding="utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}


def test_every_file_mounted_is_there() -> None:
    """Docker would make an empty folder of a missing file."""
    compose = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    mounted = [v.split(":")[0] for name in ("prometheus", "grafana") for v in compose["services"][name]["volumes"]]
    files = [path for path in mounted if path.startswith("./")]
    assert len(files) == 4
    assert all((COMPOSE.parent / path).is_file() for path in files)
