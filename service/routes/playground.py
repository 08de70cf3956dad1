"""`GET /playground`: one page to try constraints on, which speaks to the same API as anyone else.

What it is for: the page, and the policy under which a browser runs it: its own script by hash, nothing from elsewhere.
What may not enter: anything that other clients cannot do. It asks for no key; the requests that it makes do.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.desk import house_of
from service.errors import NotFound
from watermark.picture import STYLE

router = APIRouter(tags=["Formwork"])
PAGE = Path(__file__).parents[1] / "playground.html"


@router.get("/playground", response_class=HTMLResponse, include_in_schema=False)
async def playground(request: Request) -> Response:
    """The page; 404 where `playground` is off."""
    if not house_of(request).settings.playground:
        raise NotFound("the playground is off here; start with --playground")
    page, policy = _page()
    headers = {"content-security-policy": policy, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
    return HTMLResponse(page, headers=headers)


@cache
def _page() -> tuple[str, str]:
    """The page and its policy. The file is a part of the program: it does not change while that runs."""
    page = PAGE.read_text("utf-8").replace("</style>", f"{STYLE}</style>", 1)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'"
    return page, f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
