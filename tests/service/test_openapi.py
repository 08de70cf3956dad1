"""The OpenAPI document against a real server: whatever it allows is answered, and as it says.

Bodies are made from the document by schemathesis. A 5xx, a status or a media type that the document does not name, or a
reply that its model does not describe is a failure.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.service.processes import Running, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore")]
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


@pytest.fixture(scope="module")
def small() -> Iterator[Running]:
    """A server whose outputs are short; none without the checks."""
    checks()
    with running("--max-model-len", "160", "--max-n", "2", "--body-limit-bytes", "100000") as started:
        yield started


def checks() -> list[Any]:
    """schemathesis's checks of these names; it is in the extra `clients`."""
    pytest.importorskip("schemathesis")
    importlib.import_module("schemathesis.specs.openapi.checks")  # registers those of this kind
    known = importlib.import_module("schemathesis.checks").CHECKS
    return [check for check in known.get_all() if check.__name__ in CHECKS]


def operations(server: Running) -> Iterator[Any]:
    """Every operation of the document."""
    schema = importlib.import_module("schemathesis").openapi.from_url(f"{server.url}/openapi.json")
    for found in schema.get_all_operations():
        yield found.ok()


def test_what_the_document_allows_is_answered_as_it_says(small: Running) -> None:
    chosen, wrong = checks(), dict[str, str]()
    assert len(chosen) == len(CHECKS)
    for operation in operations(small):

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(operation.as_strategy())
        def holds(case: Any) -> None:
            response = case.call(timeout=120)
            if response.status_code == 504:  # right only as the answer to a deadline that the client set itself
                assert "deadline_s" in json.dumps(case.body), response.text
            else:
                case.validate_response(response, checks=chosen)

        try:
            holds()
        except (Exception, BaseExceptionGroup) as error:  # several failures come as a group
            wrong[operation.label] = str(error)
    assert not wrong, "\n\n".join(f"{label}: {error}" for label, error in wrong.items())
