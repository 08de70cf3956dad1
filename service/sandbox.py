"""A sandbox for chat templates that cannot compute for ever, or anything large.

What it is for: a template comes with a model, which may have been made by anyone. jinja2's immutable sandbox keeps it
from Python's objects; `BoundedSandbox` also bounds what it costs. What may not enter: what templates are given.

The idea: jinja2 has no hook for time, but a template is finite, so it takes long only by loops, by calls of its own
macros and by operations with a large result. Each loop body and macro body gets a call in front that looks at the
clock; operators, filters and methods that can make something large look at their operands first.
"""

from __future__ import annotations

import contextvars
import re
import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from jinja2 import Template, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

_TIME_LIMIT_S = 2.0  # CPU time: a busy machine is nobody's fault
_MOST_TEXT = 16_000_000  # characters; of the whole rendering, and of any value on the way
_MOST_ITEMS = 1_000_000  # of a list, bits of a number, or columns to fill
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_COUNTED = frozenset({"batch", "center", "indent", "slice", "truncate", "wordwrap"})  # filters
# Widths that are absurd, come from arguments, or from a nested field.
_WIDE = re.compile(r"\d{5,}|%[^a-zA-Z%]*\*|\{[^}]*\{")

# When the rendering that runs in this context must be over. Renderings run in several threads at once.
_END: contextvars.ContextVar[float] = contextvars.ContextVar("end")


class TemplateLimit(Exception):
    """A template that took too long or would have made something too large."""


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """An environment whose templates end; see the module."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.extend(tick=_tick, joined=_joined)
        self.filters.update({name: _counted(self.filters[name]) for name in _COUNTED})
        self.filters.update(join=_join(self.filters["join"]), replace=_replace(self.filters["replace"]))
        self.filters["format"] = _format(self.filters["format"])
        del self.globals["lipsum"]  # text without end, which no chat needs

    def rendered(self, template: Template, values: Mapping[str, Any]) -> str:
        """The text. Raises TemplateLimit, or what the template raises."""
        token = _END.set(time.thread_time() + _TIME_LIMIT_S)
        try:
            out: list[str] = []
            size = 0
            for part in template.generate(**values):
                size += len(part)
                out.append(part)
                _tick()
                _check(text=size)
            return "".join(out)
        except MemoryError:
            raise TemplateLimit("became too large") from None
        finally:
            _END.reset(token)

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        """Puts the clock into every body that can run more than once, and a look at the size before `~`."""
        source = _Watched().visit(source)
        source.set_environment(self)
        return super()._generate(source, name, filename, defer_init)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuses operations whose result could be huge; `%` on text is formatting, which takes a width."""
        _BINARY[operator](left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, /, *arguments: Any, **named: Any) -> Any:
        """Looks at what text's own methods would make."""
        name, owner = getattr(obj, "__name__", ""), getattr(obj, "__self__", None)
        if isinstance(owner, str):
            if name in _PADDING:
                _check(items=max((each for each in arguments if isinstance(each, int)), default=0))
            elif name == "replace" and len(arguments) > 1:
                _check(text=len(owner) * (1 + _length(arguments[1])))
            elif name == "join" and arguments:
                _check(text=len(owner) * _length(arguments[0]))
        return super().call(context, obj, *arguments, **named)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Text's `format`: jinja2's own guard, and no absurd widths."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:  # it is asked of every attribute
            _check_widths(value.__self__)
        return wrapped


class _Watched(NodeTransformer):
    """The template with calls of the environment's `tick` and `joined` in it."""

    def generic_visit(self, node: nodes.Node, *arguments: Any, **named: Any) -> nodes.Node:
        visited = super().generic_visit(node, *arguments, **named)
        if isinstance(visited, nodes.For | nodes.Macro | nodes.CallBlock):
            visited.body.insert(0, nodes.ExprStmt(_call("tick", [])).set_lineno(visited.lineno))
        return visited

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  (jinja2's name)
        return _call("joined", [self.visit(each) for each in node.nodes]).set_lineno(node.lineno)


def _call(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)


def _tick() -> str:
    if time.thread_time() > _END.get():
        raise TemplateLimit("took too long")
    return ""


def _joined(*values: Any) -> str:
    """`~`: text of any values."""
    texts = [str(value) for value in values]
    _check(text=sum(map(len, texts)))
    return "".join(texts)


def _check(text: int = 0, items: int = 0) -> None:
    if text > _MOST_TEXT or items > _MOST_ITEMS:
        raise TemplateLimit("would make something too large")


def _check_widths(form: Any) -> None:
    if isinstance(form, str) and _WIDE.search(form):
        raise TemplateLimit("asks for text of an absurd width")


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple) else 0


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _check_plus(left: Any, right: Any) -> None:
    size = _length(left) + _length(right)
    _check(text=size) if isinstance(left, str) else _check(items=size)


def _check_times(left: Any, right: Any) -> None:
    for value, count in ((left, right), (right, left)):
        size = _length(value) * count if isinstance(count, int) else 0
        _check(text=size) if isinstance(value, str) else _check(items=size)
    _check(items=_bits(left) + _bits(right))


def _check_power(left: Any, right: Any) -> None:
    _check(items=_bits(left) * right if isinstance(right, int) else 0)


def _check_modulo(left: Any, _right: Any) -> None:
    _check_widths(left)


_BINARY = {"+": _check_plus, "*": _check_times, "**": _check_power, "%": _check_modulo}


def _counted(filter_: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter_)  # which keeps what jinja2 noted about its first argument
    def counted(*arguments: Any, **named: Any) -> Any:
        numbers = [each for each in (*arguments, *named.values()) if isinstance(each, int)]
        _check(items=max(numbers, default=0))
        return filter_(*arguments, **named)

    return counted


def _join(filter_: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter_)
    def join(first: Any, value: Any, d: str = "", attribute: Any = None) -> Any:
        items = list(value)
        _check(text=len(items) * _length(d))
        return filter_(first, items, d, attribute)

    return join


def _replace(filter_: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter_)
    def replace(first: Any, s: Any, old: str, new: str, count: int | None = None) -> Any:
        _check(text=(1 + len(str(s))) * (1 + _length(new)) if _length(new) > len(old) else 0)
        return filter_(first, s, old, new, count)

    return replace


def _format(filter_: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter_)
    def form(value: Any, *arguments: Any, **named: Any) -> Any:
        _check_widths(str(value))
        return filter_(value, *arguments, **named)

    return form
