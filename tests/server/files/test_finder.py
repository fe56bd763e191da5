"""No path leads out of the store, however it is spelled."""

import asyncio
import os

import pytest
from tests.pictures import picture
from tests.server.conftest import KEY, PREFIX
from tests.server.wire import ask

pytestmark = pytest.mark.usefixtures("copy")

UP = [
    "..",
    "%2e%2e",
    "%2E.",
    ".%2e",
    "%252e%252e",
    "..%00",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}",
    "%ef%bc%8e%ef%bc%8e",
]
SLASH = ["/", "%2f", "%5c", "\\", "%255c", "%252f", "%c0%af", "//", "/./"]


@pytest.fixture(autouse=True)
def secret(tmp_path, root):
    """Pictures that must not be served: beside the store, and in its hidden folders."""
    for path in (
        tmp_path / "secret.png",
        root / ".rehost/quarantine/decoy.png",
        root / ".rehost/work/x/spool/1",
        root / "1/.hidden.png",
        root / ".hidden/x.png",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(9))


@pytest.mark.parametrize("slash", SLASH)
async def test_paths_upwards_are_not_served(port, slash):
    for up in UP:
        for way in ("{up}{slash}", "297041{slash}{up}{slash}{up}{slash}", "{slash}{up}{slash}"):
            target = way.format(up=up, slash=slash) + "secret.png"
            reply = await ask(port, f"{PREFIX}/{target.encode().decode('latin-1')}")

            assert reply.status in {400, 404}, target


@pytest.mark.parametrize(
    "target",
    [
        ".rehost/quarantine/decoy.png",
        "%2erehost/quarantine/decoy.png",
        "%252erehost/quarantine/decoy.png",
        "297041/../.rehost/quarantine/decoy.png",
        ".rehost/work/x/spool/1",
        ".REHOST/quarantine/decoy.png",
        "1/.hidden.png",
        ".hidden/x.png",
        "1/%2ehidden.png",
        f"{KEY}/",
        f"/{KEY}",
        f"{KEY}/.",
        f"{KEY}/x",
        f"./{KEY}",
        f"{KEY}%00",
        f"{KEY}%00.jpg",
        f"{KEY}%20",
        f"{KEY}%0a",
        f"{KEY};x",
        KEY.replace("/", "%5c"),
        KEY.replace("/", "//"),
        "297041",
        "297041/",
        "",
        "%",
        "%zz",
        "%ff%fe",
        "a" * 300,
        "/".join(["a"] * 3000),
    ],
)
async def test_nothing_but_keys_is_served(port, target):
    reply = await ask(port, f"{PREFIX}/{target}")

    assert reply.status in {400, 404, 414, 431}


async def test_absolute_path_is_not_served(port, tmp_path):
    for target in (f"{PREFIX}/{tmp_path}/secret.png", f"{PREFIX}/%2f{tmp_path}/secret.png", f"{tmp_path}/secret.png"):
        reply = await ask(port, target)

        assert reply.status == 404


async def test_symbolic_links_are_followed_within_the_store_only(port, root, tmp_path, content):
    links = {
        "inside.png": root / KEY,
        "outside.png": tmp_path / "secret.png",
        "hidden.png": root / ".rehost/quarantine/decoy.png",
        "up": tmp_path,
        "dead.png": root / "nothing",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    (root / "circle.png").symlink_to(root / "circle.png")

    statuses = {
        name: (await ask(port, f"{PREFIX}/{name}")).status
        for name in (*links, "up/secret.png", "up/images/.rehost/quarantine/decoy.png", "circle.png")
    }

    assert statuses == {name: 200 if name == "inside.png" else 404 for name in statuses}


async def test_symbolic_link_that_is_later_pointed_outside_is_refused(port, root, tmp_path):
    (root / "x.png").symlink_to(root / KEY)
    before = await ask(port, f"{PREFIX}/x.png")
    (root / "x.png").unlink()
    (root / "x.png").symlink_to(tmp_path / "secret.png")

    after = await ask(port, f"{PREFIX}/x.png")

    assert (before.status, after.status) == (200, 404)


async def test_named_pipe_does_not_block_the_server(port, root):
    os.mkfifo(root / "pipe.png")

    reply = await ask(port, f"{PREFIX}/pipe.png")

    assert reply.status == 404


@pytest.mark.parametrize("later", ["nothing", "a pipe", "a folder", "a link to another file", "a file for its folder"])
async def test_copy_that_was_served_is_not_once_something_else_has_its_name(port, copy, root, tmp_path, later):
    assert (await ask(port, f"{PREFIX}/{KEY}")).status == 200
    copy.unlink()
    if later == "a pipe":
        os.mkfifo(copy)
    elif later == "a folder":
        copy.mkdir()
    elif later == "a link to another file":
        (tmp_path / "secret.png").write_bytes(b"secret")
        copy.symlink_to(tmp_path / "secret.png")
    elif later == "a file for its folder":
        copy.parent.rmdir()
        copy.parent.write_bytes(b"")

    assert (await asyncio.wait_for(ask(port, f"{PREFIX}/{KEY}"), 30)).status == 404
