"""All settings as one table in Markdown: `python -m service.table > docs/settings.md`.

What it is for: the documentation, which a test compares with the code. What may not enter: reading settings.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from service.aliases import ALIASES, IDLE, IDLE_VARIABLES, REFUSED, REFUSED_VARIABLES, Alias, variable_of
from service.settings import PREFIX, Settings

_HEAD = f"""# Settings

Made by `python -m service.table` from `service/settings.py` and `service/aliases.py`; a test holds it to them.

Each setting is a flag of `formwork serve` (`--max-n 4`), a variable (`{PREFIX}MAX_N=4`), and a line of a TOML file
(`max_n = 4`; `--config FILE` or `{PREFIX}CONFIG`). The flag wins over the variable, the variable over the file. A wrong
value or an unknown name stops the start. Other names are those that users of TGI and vLLM look for.

| setting | default | what | other names |
|:--|:--|:--|:--|
"""
_OTHERS = """

`--json-output` is `--log-format json` (`JSON_OUTPUT=true`), `--enforce-eager` is `--cuda-graphs 0`; `--sharded true`
(`SHARDED`) asks for `--num-shard`. TGI's `fp8_e4m3fn` is `fp8`. A flag that takes a comma-separated list may be given
several times.
"""
_IDLE = """
Accepted, so that a command line can be taken over, and changing nothing:

| flag or variable | because |
|:--|:--|
"""


_REFUSED = """
Refused by name, since what they ask for would not happen:

| flag or variable | instead |
|:--|:--|
"""


def table() -> str:
    """The whole document."""
    rows = [_row(name) for name in Settings.model_fields]
    idle = _reasons(IDLE, IDLE_VARIABLES)
    refused = _reasons(REFUSED, REFUSED_VARIABLES)
    return "".join((_HEAD, "\n".join(rows), _OTHERS, _IDLE, "\n".join(idle), "\n", _REFUSED, "\n".join(refused), "\n"))


def _reasons(flags: Mapping[str, str], variables: Mapping[str, str]) -> list[str]:
    """A row a flag, with its variable where that is read, then the variables that have no flag."""
    named = {variable_of(flag): f"`--{flag}`" for flag in flags}
    rows = [
        f"| {named[name]}{f', `{name}`' if name in variables else ''} | {flags[flag]} |"
        for flag, name in ((flag, variable_of(flag)) for flag in flags)
    ]
    return rows + [f"| `{name}` | {reason} |" for name, reason in variables.items() if name not in named]


def _row(name: str) -> str:
    field, alias = Settings.model_fields[name], ALIASES.get(name, Alias())
    others = [*(f"`--{flag}`" for flag in alias.flags), *(f"`{variable}`" for variable in alias.variables)]
    default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    return f"| `{name}` | {f'`{default}`' if default else ''} | {field.description} | {', '.join(others)} |"


if __name__ == "__main__":
    sys.stdout.write(table())
