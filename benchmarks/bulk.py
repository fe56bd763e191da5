"""The first operator's workload, as fast as it goes: against what else holds pictures in bulk."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.postgres import Postgres, running_postgres

import arena
import origin
import peers
import workload

WORKLOADS = {"400KB": (6141, 400_000), "10KB": (20_000, 10_000)}
INPUTS = ("-urls", "-urls.txt", "-curl.conf", "-spider.py")
BIN = Path(sys.executable).parent


def main() -> None:
    """Run the benchmark that the command line asks for."""
    parser = arena.options(__doc__ or "")
    parser.add_argument("--workload", choices=WORKLOADS, default="400KB")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--verify", choices=("structure", "decode"), default="structure")
    parser.add_argument("--only", nargs="*", help="sides to run, by the beginning of their names")
    arguments = parser.parse_args()
    count, mean = WORKLOADS[arguments.workload]
    count = round(count * arguments.scale)
    ground = Path(tempfile.mkdtemp(prefix="rehost-bench-", dir=arguments.folder))
    arena.need(ground, 3 * count * mean)
    try:
        paths = workload.make(ground / "origin", count, mean)
        with origin.serving(ground / "origin") as server, running_postgres() as postgres:
            postgres.run("ALTER SYSTEM SET fsync = on; ")
            urls = [server.url(str(path.relative_to(ground / "origin")), tls=arguments.tls) for path in paths]
            job = peers.Job(urls, arguments.concurrency, server.authority if arguments.tls else None)
            sides = make_sides(job, postgres, paths, decode=arguments.verify == "decode")
            if arguments.only:
                sides = [side for side in sides if any(side.name.startswith(word) for word in arguments.only)]
            arena.compete(sides, ground, arguments.rounds)
        size = sum(path.stat().st_size for path in paths)
        kind = f"{arguments.workload}-{'tls' if arguments.tls else 'plain'}-{arguments.concurrency}-{arguments.verify}"
        title = f"bulk: {count} pictures, {size / 1e6:.0f} MB, {kind}"
        arena.publish(f"bulk-{kind}", title, arena.table(sides, pictures=count, size=size))
    finally:
        shutil.rmtree(ground, ignore_errors=True)


def make_sides(job: peers.Job, postgres: Postgres, paths: Sequence[Path], *, decode: bool) -> list[arena.Side]:
    """Return who takes part; against the decoding mode only those who decode."""
    digests = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    same = partial(same_bytes, digests)
    trust = {"SSL_CERT_FILE": str(job.authority), "REQUESTS_CA_BUNDLE": str(job.authority)} if job.authority else {}
    sides = [
        arena.Side(f"rehost, {workers} process{'es' * (workers > 1)}", ours(job, postgres, workers), same,
                   {**trust, **settings(job, postgres, decode=decode)})
        for workers in (1, 2)
    ]  # fmt: skip
    if decode:
        counted = partial(as_many, len(paths))
        sides.append(arena.Side("Scrapy ImagesPipeline", partial(peers.scrapy, job, decode=True), counted, trust))
        sides.append(arena.Side("img2dataset", partial(peers.img2dataset, job, decode=True), counted, trust))
        return sides
    sides.append(arena.Side("plain script", plain(job, postgres), same, trust))
    for name in ("curl", "wget2", "aria2c"):
        side = arena.Side(name, partial(getattr(peers, name), job), same)
        side.trouble = peers.missing(name)
        sides.append(side)
    sides.append(
        arena.Side("img2dataset, files as they are", partial(peers.img2dataset, job, decode=False), same, trust)
    )
    sides.append(arena.Side("Scrapy FilesPipeline", partial(peers.scrapy, job, decode=False), same, trust))
    return sides


def settings(job: peers.Job, postgres: Postgres, *, decode: bool) -> dict[str, str]:
    """Return what rehost is told."""
    return {
        "DATABASE_URL": postgres.url("bench"),
        "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
        "IMAGE_DOWNLOAD_CONCURRENCY": str(job.concurrency),
        "IMAGE_VERIFY": "decode" if decode else "structure",
        "IMAGE_MIN_FREE_BYTES": "0",
    }


def table(job: peers.Job, postgres: Postgres) -> None:
    """Make the database anew, with a row per address."""
    postgres.drop_database("bench")
    postgres.create_database("bench")
    postgres.run(
        "CREATE TABLE ad_cases (id BIGSERIAL PRIMARY KEY, case_id INTEGER UNIQUE NOT NULL, source_url TEXT NOT NULL,"
        " title VARCHAR(500) NOT NULL, main_image TEXT, main_image_local TEXT)",
        "bench",
    )
    rows = "".join(f"{number}\thttps://example.com/\tcase\t{url}\n" for number, url in enumerate(job.urls, 1))
    copy = "COPY ad_cases (case_id, source_url, title, main_image) FROM STDIN"
    command = [postgres.psql, "-X", "-q", "-d", "bench", "-c", copy]
    subprocess.run(command, input=rows.encode(), env={**os.environ, **postgres.environment}, check=True)
    postgres.run("ANALYZE ad_cases", "bench")
    postgres.run("CHECKPOINT")


def ours(job: peers.Job, postgres: Postgres, workers: int) -> Callable[[Path], Sequence[str]]:
    """Return how a round of rehost is prepared."""

    def prepare(folder: Path) -> Sequence[str]:
        folder.mkdir()
        table(job, postgres)
        return [str(BIN / "rehost"), "run", "--quiet", f"--workers={workers}", "--storage-dir", str(folder)]

    return prepare


def plain(job: peers.Job, postgres: Postgres) -> Callable[[Path], Sequence[str]]:
    """Return how a round of the plain script is prepared."""

    def prepare(folder: Path) -> Sequence[str]:
        folder.mkdir()
        table(job, postgres)
        script = str(Path(__file__).with_name("plain_script.py"))
        command = [sys.executable, script, postgres.url("bench"), str(folder), f"--concurrency={job.concurrency}"]
        return [*command, f"--ca={job.authority}"] if job.authority else command

    return prepare


def pictures(folder: Path) -> list[Path]:
    """Return the pictures below a folder."""
    kinds = {f".{kind}" for kind, _ in workload.SHARES} | {".jpeg"}
    return [path for path in folder.rglob("*") if path.suffix in kinds and path.is_file()]


def same_bytes(digests: Counter[str], folder: Path) -> str | None:
    """Return what is wrong where the files are not, byte for byte, the origin's."""
    found = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in pictures(folder))
    wrong = sum((digests - found).values())
    return f"{wrong} of {digests.total()} pictures are not there" if wrong else None


def as_many(count: int, folder: Path) -> str | None:
    """Return what is wrong where there are not as many pictures as links (they are encoded anew by those sides)."""
    found = len(pictures(folder))
    return None if found >= count else f"{found} of {count} pictures"


if __name__ == "__main__":
    main()
