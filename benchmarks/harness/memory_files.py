"""All pictures below ROOT in memory, as an ASGI application: what the server itself takes that rehost runs on."""

import os
from pathlib import Path

ROOT = Path(os.environ["ROOT"])
KINDS = {".jpg": b"image/jpeg", ".png": b"image/png", ".gif": b"image/gif", ".webp": b"image/webp"}
FILES = {
    f"/static/images/{path.relative_to(ROOT)}": (path.read_bytes(), KINDS[path.suffix])
    for path in ROOT.rglob("*")
    if path.is_file()
}


async def app(scope, receive, send):
    """Answer one request, or the events of the lifespan protocol."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body, kind = FILES[scope["path"]]
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
