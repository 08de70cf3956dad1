"""docker-compose.yml starts the service with a health check; there is no Docker engine here, so the model is read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.deployment.dockerfile import ROOT, instructions


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose model with anchors and merges resolved."""
    model: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return model


def test_the_default_service_needs_no_gpu_and_the_other_is_behind_a_profile(compose: dict[str, Any]) -> None:
    """`docker compose up` on a laptop must not ask for a device."""
    assert "deploy" not in compose["services"]["formwork"]
    assert compose["services"]["formwork-gpu"]["profiles"] == ["gpu"]


@pytest.mark.parametrize("name", ["formwork", "formwork-gpu"])
def test_every_service_has_the_dockerfiles_health_check(compose: dict[str, Any], name: str) -> None:
    """One health check, told twice because compose can override the image's."""
    check = next(instruction for instruction in instructions() if instruction.name == "HEALTHCHECK")
    assert compose["services"][name]["healthcheck"]["test"] == ["CMD", *check.exec_form]


@pytest.mark.parametrize("name", ["formwork", "formwork-gpu"])
def test_every_variable_is_one_that_the_service_reads(compose: dict[str, Any], name: str) -> None:
    """A misspelt variable would be silently without effect."""
    known = {f"FORMWORK_{field.upper()}" for field in Settings.model_fields}
    assert set(compose["services"][name]["environment"]) <= known


def test_ports_are_open_on_this_machine_only(compose: dict[str, Any]) -> None:
    """Serving the world is a decision that the operator takes, not a default."""
    for service in compose["services"].values():
        assert all(str(port).startswith("127.0.0.1:") for port in service["ports"])


def test_every_volume_named_is_declared(compose: dict[str, Any]) -> None:
    """Compose refuses an undeclared named volume."""
    named = {
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service["volumes"]
        if not volume.startswith((".", "/", "$"))
    }
    assert named <= set(compose["volumes"])


def test_the_dockerfile_copies_every_package_and_nothing_that_is_missing() -> None:
    """A package left out of the image would only show when the container starts."""
    copied = {word for i in instructions() if i.name == "COPY" for word in i.text.split()[:-1]}
    assert {"schemas", "grammar", "watermark", "engine", "service", "models", "benchmarks"} <= copied
    assert all((ROOT / name).exists() for name in copied)
