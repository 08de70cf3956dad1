"""The OpenAPI document against a real server: whatever it allows is answered, and as it says.

Bodies are made from the document by schemathesis. A 5xx, a status or a media type that the document does not name, or a
reply that its model does not describe is a failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.service.processes import Running, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore")]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def small() -> Iterator[Running]:
    """A server whose outputs are short."""
    with running("--max-model-len", "160", "--max-n", "2", "--body-limit-bytes", "100000") as started:
        yield started


def operations(server: Running) -> Iterator[Any]:
    """Every operation of the document."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    for found in schema.get_all_operations():
        yield found.ok()


def test_what_the_document_allows_is_answered_as_it_says(small: Running) -> None:
    wrong: dict[str, str] = {}
    for operation in operations(small):

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(operation.as_strategy())
        def holds(case: Any) -> None:
            case.call_and_validate(checks=CHECKS, timeout=120)

        try:
            holds()
        except (Exception, BaseExceptionGroup) as error:  # several failures come as a group
            wrong[operation.label] = str(error)
    assert not wrong, "\n\n".join(f"{label}: {error}" for label, error in wrong.items())
