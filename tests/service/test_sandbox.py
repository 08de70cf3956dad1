"""Chat templates from anyone: honest ones render, others end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols

from service.sandbox import BoundedSandbox, TemplateLimit
from tests.service.houses import saying, served

OPTIONS: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "extensions": [loopcontrols]}
VALUES: dict[str, Any] = {"messages": [{"role": "user", "content": f"number {i}"} for i in range(4)], "name": "x"}


def rendered(source: str) -> str:
    sandbox = BoundedSandbox(**OPTIONS)
    return sandbox.rendered(sandbox.from_string(source), VALUES)


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages if m.role %}{{ loop.index }}{{ m.role ~ ': ' ~ m['content'] }}\n{% endfor %}",
        "{% for m in [] %}x{% else %}{{ 7 % 4 * 2 ** 3 + 1 }}{% endfor %}",
        "{% macro turn(m) %}<{{ m.role }}>{{ caller() }}{% endmacro %}"
        "{% for m in messages %}{% call turn(m) %}{{ m.content }}{% endcall %}{% endfor %}",
        "{{ '%s-%03d' % ('a', 7) }} {{ 'x{}y{:>4}'.format(2, 3) }} {{ '%s'|format('q') }}",
        "{{ messages|map(attribute='content')|join(', ') }} {{ 'aXa'|replace('X', 'yy') }}{{ 'ab'.replace('b', 'z') }}",
        "{{ '12345678 {} %*'.split(' ')|last ~ '9999999'.strip() }}",
        "{{ 'ab'|center(8) }}{{ 'a\nb'|indent(4) }}{{ 'ab'.ljust(5) }}{{ ', '.join(['a', 'b']) }}",
        "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t ~ m.content %}"
        "{% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}{{ ns.t }}{{ ['a'] + ['b'] }}{{ 'c' * 3 }}",
    ],
)
def test_an_honest_template_renders_as_in_jinja2(source: str) -> None:
    assert rendered(source) == Environment(**OPTIONS).from_string(source).render(VALUES)


def test_the_bundled_template_renders_as_in_jinja2() -> None:
    source = Path("models/formwork-mini/chat_template.jinja").read_text("utf-8")
    values = {**VALUES, "tools": None, "response_format": {"type": "text"}, "add_generation_prompt": True}
    values |= {"bos_token": "", "eos_token": ""}
    plain = Environment(**OPTIONS)
    plain.filters["tojson"] = str
    sandbox = BoundedSandbox(**OPTIONS)
    sandbox.filters["tojson"] = str
    assert sandbox.rendered(sandbox.from_string(source), values) == plain.from_string(source).render(values)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% for i in range(9) if n %}{{ m(n - 1) }}{% endfor %}{% endmacro %}{{ m(30) }}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ [1] * 10 ** 8 }}",
        "{{ 9 ** (10 ** 8) }}",
        "{% set n = namespace(v=3) %}{% for i in range(90) %}{% set n.v = n.v * n.v %}{% endfor %}",
        "{% set n = namespace(t='a') %}{% for i in range(90) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
        "{% set n = namespace(t='a') %}{% for i in range(90) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "{{ 'a'|center(10 ** 9) }}",
        "{{ 'a'.zfill(10 ** 9) }}",
        "{{ 'a'|indent(10 ** 9, true) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (10 ** 9, 1) }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{w}}'.format(1, w=10 ** 9) }}",
        "{{ range(99999)|list|join('x' * 99999) }}",
        "{{ ('x' * 99999).join(range(99999)|map('string')|list) }}",
        "{{ ('1' * 99999)|replace('1', 'x' * 99999) }}",
        "{{ ('1' * 99999).replace('1', 'x' * 99999) }}",
        "{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
    ],
)
def test_what_would_take_long_or_grow_large_ends(source: str) -> None:
    began = time.thread_time()
    with pytest.raises(TemplateLimit):
        rendered(source)
    assert time.thread_time() - began < 5


def test_pythons_objects_are_out_of_reach() -> None:
    for source in ("{{ ''.__class__.__mro__ }}", "{{ cycler.__init__.__globals__ }}", "{{ messages.append(1) }}"):
        with pytest.raises(SecurityError):
            rendered(source)


@pytest.mark.anyio
async def test_a_template_that_does_not_end_is_a_400_of_that_request(tmp_path: Path) -> None:
    endless = "{% if messages[0].content == 'x' %}{{ 'a' * 10 ** 10 }}{% endif %}{{ messages[0].content }}"
    async with served(tmp_path, saying("Hi"), template=endless) as (client, _):
        bad, good = [
            await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": text}]})
            for text in ("x", "y")
        ]
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "template_error")
    assert good.status_code == 200
