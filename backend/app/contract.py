"""The page that describes the API; its scripts and styles are those of the dashboard, on this same server."""

from __future__ import annotations

from fastapi.responses import HTMLResponse

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>API</title>
<link rel="icon" href="rehost/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="rehost/style.css">
<script type="module" src="rehost/docs.js"></script>
</head>
<body>
<header class="bar"><a class="brand" href="rehost/">rehost</a>
<div class="tools"><a href="openapi.json">openapi.json</a></div></header>
<main id="main" class="contract"><h1>API</h1></main>
</body>
</html>
"""

# The dashboard of the same origin keeps the operator's token, so no script from elsewhere may run here.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def contract_page() -> HTMLResponse:
    """Return the page."""
    return HTMLResponse(_PAGE, headers=_HEADERS)
