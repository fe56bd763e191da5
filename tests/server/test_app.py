import pytest
from tests.server.conftest import KEY, by_uvicorn, media_type
from tests.server.wire import ask

from rehost.server.app import Site
from rehost.server.files.copies import CopyFiles
from rehost.server.files.finder import FileFinder

pytestmark = pytest.mark.usefixtures("copy")


async def rest(scope, receive, send):
    """Answer with the requested path; answer lifespan events as any application does."""
    if scope["type"] == "lifespan":
        while (event := (await receive())["type"]) != "lifespan.shutdown":
            await send({"type": f"{event}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"rest {scope['path']}".encode()})


async def test_copies_are_served_where_their_urls_say(root, content):
    async with by_uvicorn(Site(CopyFiles(FileFinder(root, media_type)), "/static/images")) as port:
        reply = await ask(port, f"/static/images/{KEY}")

    assert (reply.status, reply.body) == (200, content)


@pytest.mark.parametrize("target", ["/", "/health", "/static/images", "/static/imagesx/1", "/api/v1"])
async def test_other_paths_go_to_the_rest(root, target):
    async with by_uvicorn(Site(CopyFiles(FileFinder(root, media_type)), "/static/images", rest)) as port:
        reply = await ask(port, target)

    assert reply.body.decode() == f"rest {target}"


async def test_other_paths_are_404_without_a_rest(root):
    async with by_uvicorn(Site(CopyFiles(FileFinder(root, media_type)), "/static/images")) as port:
        reply = await ask(port, "/health")

    assert reply.status == 404
    assert reply["cache-control"] == "no-store"
