"""All settings as one table in Markdown: `python -m service.table > docs/settings.md`.

What it is for: the documentation, which a test compares with the code. What may not enter: reading settings.
"""

from __future__ import annotations

import sys

from service.aliases import ALIASES, IDLE, REFUSED, Alias
from service.settings import PREFIX, Settings

_HEAD = f"""# Settings

Made by `python -m service.table` from `service/settings.py` and `service/aliases.py`; a test holds it to them.

Each setting is a flag of `formwork serve` (`--max-n 4`), a variable (`{PREFIX}MAX_N=4`), and a line of a TOML file
(`max_n = 4`; `--config FILE` or `{PREFIX}CONFIG`). The flag wins over the variable, the variable over the file. A wrong
value or an unknown name stops the start. Other names are those that users of TGI and vLLM look for.

| setting | default | what | other names |
|:--|:--|:--|:--|
"""
_IDLE = """
Accepted, so that a command line can be taken over, and changing nothing:

| flag | because |
|:--|:--|
"""


_REFUSED = """
Refused by name, since what they ask for would not happen:

| flag | instead |
|:--|:--|
"""


def table() -> str:
    """The whole document."""
    rows = [_row(name) for name in Settings.model_fields]
    idle = [f"| `--{name}` | {reason} |" for name, reason in IDLE.items()]
    json_output = "`--json-output` is `--log-format json`; `--sharded true` asks for `--num-shard`.\n"
    refused = [f"| `--{name}` | {reason} |" for name, reason in REFUSED.items()]
    parts = (_HEAD, "\n".join(rows), "\n\n", json_output, _IDLE, "\n".join(idle), "\n", _REFUSED, "\n".join(refused))
    return "".join(parts) + "\n"


def _row(name: str) -> str:
    field, alias = Settings.model_fields[name], ALIASES.get(name, Alias())
    others = [*(f"`--{flag}`" for flag in alias.flags), *(f"`{variable}`" for variable in alias.variables)]
    default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    return f"| `{name}` | {f'`{default}`' if default else ''} | {field.description} | {', '.join(others)} |"


if __name__ == "__main__":
    sys.stdout.write(table())
