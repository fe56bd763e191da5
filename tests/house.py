"""The size of the house, counted: modules and lines, Protocols, circles, and what one link passes on its way.

`python -m tests.house` prints it; test_house.py holds it to its bounds.
"""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "rehost"
ASSETS = PACKAGE / "server" / "dashboard" / "assets"
SMALL_LINES = 60


def modules() -> list[Path]:
    """Return the modules of the package, without `__init__`."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def all_lines() -> int:
    """Return the lines of the package, `__init__` included."""
    return sum(map(lines, PACKAGE.rglob("*.py")))


def small_modules() -> list[Path]:
    return [path for path in modules() if lines(path) < SMALL_LINES]


def classes() -> Iterator[ast.ClassDef]:
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield from (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def methods(node: ast.ClassDef) -> set[str]:
    functions = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {each.name for each in functions if not each.name.startswith("_") or each.name == "__call__"}


def protocols() -> dict[str, list[str]]:
    """Return, for each Protocol of the package, the classes of the package that have all its methods."""
    known = list(classes())
    found = [node for node in known if any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)]
    return {
        node.name: [each.name for each in known if each not in found and methods(each) >= methods(node)]
        for node in found
    }


def asset_imports() -> dict[str, set[str]]:
    """Return which scripts of the page each script of the page imports, vendored libraries aside."""
    found = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["']\./([\w.-]+\.js)["']""")
    return {path.name: set(found.findall(path.read_text(encoding="utf-8"))) for path in sorted(ASSETS.glob("*.js"))}


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Remove, again and again, what imports nothing that is left; return the rest: circles and what leads there."""
    left = {name: wanted & set(imports) for name, wanted in imports.items()}
    while free := [name for name, wanted in left.items() if not wanted & set(left)]:
        for name in free:
            del left[name]
    return sorted(left)


def way() -> list[str]:
    """Return the modules that run when one link goes from the catalogue to its row, in the process that runs them.

    A run of one link in a process of its own, with a real origin, a real database and a decoder. A module counts if a
    function of it is called between the plan and the end of the run.
    """
    command = [sys.executable, "-m", "tests.house", "way"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.split()


async def _run_one_link(folder: Path) -> set[str]:
    from rehost.wiring.run import open_run  # noqa: PLC0415 - as above
    from tests.origin import Origin  # noqa: PLC0415 - only the process that runs needs it
    from tests.run.test_run import make_world  # noqa: PLC0415 - as above

    called: set[str] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith("rehost.") and frame.f_code.co_name != "<module>":
            called.add(name)

    with Origin() as origin:
        world = make_world(folder, origin, {})
        world.add(world.link("permissive"))
        threading.setprofile(note)  # threads of a pool that is started later have it too
        async with open_run(world.settings, source=None, listen=lambda _event: None) as run:
            called.clear()
            sys.setprofile(note)
            ended = await run.execute()
            sys.setprofile(None)
            passed = set(called)
        threading.setprofile(None)
        assert ended.held == 1
    return passed


def report() -> str:
    small = small_modules()
    passed = way()
    alone = {name: found for name, found in protocols().items() if len(found) < 2}
    return "\n".join(
        [
            f"modules                {len(modules())}, of which {len(small)} under {SMALL_LINES} lines",
            f"lines                  {all_lines()}",
            f"Protocols              {len(protocols())}, with fewer than two implementations: {alone or 'none'}",
            f"circles in the page    {circle(asset_imports()) or 'none'}",
            f"modules on a link's way {len(passed)}: {dict(Counter(name.split('.')[1] for name in passed))}",
        ]
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["way"]:
        with tempfile.TemporaryDirectory() as folder:
            print("\n".join(sorted(asyncio.run(_run_one_link(Path(folder))))))  # noqa: T201 - what it is for
    else:
        print(report())  # noqa: T201 - as above
