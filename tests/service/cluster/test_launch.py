"""What is deployed: the same for the same settings, whole on one machine, with no path of this one in it."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import zmq

from engine import EngineConfig
from engine.fleet.messages import KeyPair
from service.cluster import launch
from service.cluster.launch import Ray, deployed_version, fleet_keys, options_of, spec_of, starting
from service.settings import Settings, SettingsError

KEYS = KeyPair("public", "secret")


def ray_with(**resources: float) -> Ray:
    return Ray(SimpleNamespace(cluster_resources=lambda: resources), SimpleNamespace())


def settings(**values: Any) -> Settings:
    return Settings(**{"replicas": 2, **values})


def test_the_keys_of_a_fleet_follow_from_the_token_of_the_cluster(tmp_path: Path) -> None:
    one = fleet_keys({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t"})
    (tmp_path / "token").write_text("t\n")
    assert one == fleet_keys({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")})
    assert one != fleet_keys({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "u"})
    assert zmq.curve_public(one.secret.encode()).decode() == one.public


def test_without_a_token_the_keys_are_nobody_elses() -> None:
    assert fleet_keys({"RAY_AUTH_MODE": "disabled"}) != fleet_keys({"RAY_AUTH_MODE": "disabled"})


def test_watermark_keys_travel_as_content(tmp_path: Path) -> None:
    """The other machine has no such file, and a path made at each start would deploy anew at each start."""
    ring = tmp_path / "keys.toml"
    ring.write_text("[keys]")
    spec = spec_of(settings(), EngineConfig(model="m", watermark_key_file=str(ring)), KEYS)
    assert spec.key_ring == b"[keys]"
    assert spec.config.watermark_key_file is None
    assert str(tmp_path) not in msgspec.json.encode(spec).decode()


@pytest.mark.parametrize(("cpus", "threads", "expected"), [(0.5, 0, 1), (4.0, 0, 4), (4.0, 2, 2)])
def test_an_engine_computes_with_the_cores_that_are_set_aside(cpus: float, threads: int, expected: int) -> None:
    told = settings(replica_cpus=cpus, threads=threads)
    assert spec_of(told, EngineConfig(model="m", threads=threads or None), KEYS).config.threads == expected


def test_all_ranks_of_a_replica_are_on_one_machine() -> None:
    """One bundle cannot be spread; a rank for each of its devices."""
    options = options_of(ray_with(CPU=16, GPU=8), settings(tensor_parallel_size=4))
    assert options["placement_group_bundles"] == [{"CPU": 4.0, "GPU": 4.0}]
    assert options["placement_group_strategy"] == "STRICT_PACK"
    assert options["ray_actor_options"] == {"num_cpus": 4.0, "num_gpus": 4.0}


@pytest.mark.parametrize("resources", [{"CPU": 16}, {"CPU": 16, "GPU": 2}])
def test_no_card_is_set_aside_for_an_engine_on_the_cpu(resources: dict[str, float]) -> None:
    device = "cpu" if "GPU" in resources else "auto"
    assert options_of(ray_with(**resources), settings(device=device))["ray_actor_options"]["num_gpus"] == 0


def test_replicas_that_do_not_fit_are_refused_with_the_settings_to_change() -> None:
    with pytest.raises(SettingsError, match=r"3 of 1 CPU each do not fit .* 2; see replica_cpus"):
        options_of(ray_with(CPU=2), settings(replicas=3))


def test_a_drain_has_its_time_before_serve_ends_the_process() -> None:
    assert options_of(ray_with(CPU=2), settings(drain_s=100.0))["graceful_shutdown_timeout_s"] > 100


def test_a_number_of_replicas_is_kept() -> None:
    assert options_of(ray_with(CPU=2), settings())["num_replicas"] == 2


def test_bounds_bring_the_policy_with_the_numbers_that_were_set() -> None:
    scaled = options_of(ray_with(CPU=2), settings(max_replicas=9, scale_up_s=3.0))["autoscaling_config"]
    module, name = scaled["policy"]["policy_function"].split(":")
    policy = getattr(importlib.import_module(module), name)(**scaled["policy"]["policy_kwargs"])
    assert (scaled["min_replicas"], scaled["max_replicas"]) == (2, 9)
    assert (policy.rules.least, policy.rules.most, policy.rules.rise_s) == (2, 9, 3.0)


def test_nothing_is_deployed_where_there_is_nothing() -> None:
    there = SimpleNamespace(status=lambda: SimpleNamespace(applications={}))
    assert deployed_version(Ray(None, there), "formwork-m") is None


def test_without_the_extra_the_setting_is_refused_with_the_line_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "has_ray", lambda: False)
    with pytest.raises(SettingsError, match=r"pip install 'formwork\[ray\]'"):
        starting(settings())
