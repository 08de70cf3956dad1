"""Rows 45 and 46 on a real Ray cluster: several nodes on this machine, killed and replaced under load.

What is compared is text: every stream of a disturbed run with that of an undisturbed one, greedy, drawn, penalised,
under a schema and a pattern, watermarked, float32 on the CPU.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.service.cluster import use_ray
from tests.service.cluster.environment import python_with_ray
from tests.service.processes import MODEL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def played(python: Path, scenario: str) -> str:
    """What the scenario says; it must end well."""
    command = [str(python), use_ray.__file__, scenario, str(MODEL)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1400)
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    return done.stdout


def test_46_replica_node_and_server_may_be_killed(pytestconfig: pytest.Config) -> None:
    told = played(python_with_ray(pytestconfig.cache), "deaths")
    assert told.count("every stream is that of the undisturbed run") == 2
    assert "the next one uses the same replicas" in told


def test_45_every_replica_may_be_replaced_and_their_number_follows_the_load(pytestconfig: pytest.Config) -> None:
    told = played(python_with_ray(pytestconfig.cache), "changes")
    assert "no request failed, no stream changed" in told
    assert "a third replica came with the load" in told


def test_a_server_outside_of_the_cluster_has_replicas_there(pytestconfig: pytest.Config) -> None:
    told = played(python_with_ray(pytestconfig.cache), "client")
    assert "a replica was killed: every stream is that of the undisturbed run" in told
    assert "with the server its replicas end" in told


def test_the_service_runs_from_a_configuration_file_of_serve(pytestconfig: pytest.Config) -> None:
    assert "a stream came through Serve" in played(python_with_ray(pytestconfig.cache), "file")
