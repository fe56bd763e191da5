"""Serve copies over HTTP: requests per second of `rehost serve`, nginx, and Starlette's StaticFiles.

Every side is one process (nginx: one worker), and is checked to send the right bytes. The client is wrk with 16
connections, which requests all pictures in turn.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from harness import catalogue, install, options, report, workload
from harness.measuring import cpu_seconds, memory, plain, tree
from harness.origin import await_port, free_ports

WORKLOADS = {"400 KB": (200, 400_000), "20 KB": (1000, 20_000)}
WANTED = {"400 KB": 0.6, "20 KB": 0.3}  # requests per second, as a share of nginx's
PREFIX = "/static/images"
SECONDS = 12.0  # of each side in a round, at full scale
CONNECTIONS = 16
HARNESS = Path(__file__).parent / "harness"
NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; user root;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; client_body_temp_path {folder}/body;
    types {{ image/jpeg jpg; image/png png; image/gif gif; image/webp webp; }}
    server {{ listen 127.0.0.1:{port}; location {prefix}/ {{ alias {root}/; }} }}
}}
"""


@dataclass
class Server:
    """A running server."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    port: int
    trouble: str | None = None
    pid: int = 0
    peak: int = 0  # bytes, of its largest process
    rates: list[tuple[float, float, float]] = field(default_factory=list)  # requests per second, per CPU second; MB/s

    @contextmanager
    def running(self, log: Path) -> Iterator[None]:
        """Run the server until the end of the block."""
        with log.open("wb") as words:
            process = subprocess.Popen(
                self.command, env={**plain(os.environ), **self.environment}, stdout=words, stderr=words
            )
        self.pid = process.pid
        try:
            await_port(self.port)
            yield
        finally:
            process.terminate()
            process.wait(20)


def main() -> None:
    """Run the benchmark."""
    arguments = options.parser(__doc__ or "").parse_args()
    if trouble := install.missing("wrk"):
        sys.exit(f"wrk makes the requests. It is {trouble}")
    seconds = max(1, round(SECONDS * arguments.scale))  # wrk takes whole seconds
    head = "| server | requests/s | MB/s | requests per CPU s | peak MB | rehost / this: requests/s | per CPU s |"
    parts, goals = [], []
    for size, (count, mean) in WORKLOADS.items():
        with options.work_folder(arguments.folder, 3 * count * mean) as folder:
            paths = workload.make(folder / "images", count, mean)
            servers = sides(folder)
            measure(servers, paths, folder, seconds, arguments.rounds)
            parts.append(f"## Pictures of {size}\n\n" + report.rows(head, [line(each, servers[0]) for each in servers]))
            goals.append(
                report.Goal(f"{size}, requests/s, rehost / nginx", WANTED[size], share(*servers[:2]), is_least=True)
            )
    title = f"serve: {CONNECTIONS} connections, {seconds} s, medians of {arguments.rounds}"
    report.publish(arguments.results, "serve", title, *parts, report.goals(goals))


def sides(folder: Path) -> list[Server]:
    """Return all sides; none of them runs yet."""
    root, python = str(folder / "images"), sys.executable
    ports = [port for _ in range(3) for port in free_ports()]
    ours = {"DATABASE_URL": f"sqlite:///{folder}/none.db", "IMAGE_STORAGE_DIR": root}
    theirs = {"ROOT": root, "PYTHONPATH": str(HARNESS)}
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, root=root, port=ports[1], prefix=PREFIX))
    nginx = [install.program("nginx") or "nginx", "-c", str(configuration), "-p", str(folder)]
    granian = [python, "-m", "granian", "--interface", "asgi", "--no-ws", "--workers", "1", "--port"]
    uvicorn = [python, "-m", "uvicorn", "--log-level", "warning", "--port", str(ports[3]), "static_files:app"]
    return [
        Server("rehost serve", [catalogue.REHOST, "serve", "--api-port", str(ports[0])], ours, ports[0]),
        Server("nginx", [*nginx, "-e", str(folder / "error.log")], {}, ports[1], install.missing("nginx")),
        Server("floor: bytes in memory, on granian", [*granian, str(ports[4]), "memory_files:app"], theirs, ports[4]),
        Server("StaticFiles on granian", [*granian, str(ports[2]), "static_files:app"], theirs, ports[2]),
        Server("StaticFiles on uvicorn", uvicorn, theirs, ports[3]),
    ]


def measure(servers: Sequence[Server], paths: Sequence[Path], folder: Path, seconds: int, rounds: int) -> None:
    """Start every side that is installed, check it, and measure in turns."""
    root = folder / "images"
    listing = folder / "paths"
    listing.write_text("".join(f"{PREFIX}/{path.relative_to(root)}\n" for path in paths))
    size = sum(path.stat().st_size for path in paths) / len(paths)
    with ExitStack() as stack:
        for each in servers:
            if not each.trouble:
                stack.enter_context(each.running(folder / f"{each.name}.log"))
                each.trouble = check(each, paths, root)
        for number in range(rounds + 1):
            for each in [each for each in servers if not each.trouble]:
                rates = load(each, listing, seconds if number else 1, size)  # the first round is a warm-up
                sys.stderr.write(f"round {number} {each.name}: {rates[0]:.0f} requests/s\n")
                if number:
                    each.rates.append(rates)
        for each in servers:
            if each.pid:
                each.peak = max(memory(pid)[0] for pid in tree(each.pid))
                each.trouble = each.trouble or check(each, paths, root)


def check(server: Server, paths: Sequence[Path], root: Path) -> str | None:
    """Return an error if the server does not send the bytes of every picture."""
    opener = build_opener(ProxyHandler({}))
    for path in paths:
        url = f"http://127.0.0.1:{server.port}{PREFIX}/{path.relative_to(root)}"
        with opener.open(url, timeout=10) as answer:
            if answer.read() != path.read_bytes():
                return f"sends other bytes for {path.name}"
    return None


def load(server: Server, listing: Path, seconds: int, size: float) -> tuple[float, float, float]:
    """Send requests for a while; return requests per second, per CPU second of the server, and MB per second."""
    used = sum(cpu_seconds(pid) for pid in tree(server.pid))
    command = [
        install.program("wrk") or "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "-s",
        HARNESS / "paths.lua",
    ]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}"],
        env={**os.environ, "PATHS": str(listing)},
        capture_output=True,
        text=True,
        check=True,
    )
    cpu = sum(cpu_seconds(pid) for pid in tree(server.pid)) - used
    result = next(line for line in done.stdout.splitlines() if line.startswith("result "))
    requests, microseconds, received, errors = map(int, result.split()[1:])
    if errors or received < 0.9 * size * requests:
        server.trouble = f"{errors} of {requests} requests failed, {received} bytes came"
    time.sleep(0.2)
    return requests / microseconds * 1e6, requests / cpu, received / microseconds


def share(ours: Server, nginx: Server) -> float | None:
    """Return our requests per second, divided by nginx's."""
    return None if ours.trouble or nginx.trouble else medians(ours)[0] / medians(nginx)[0]


def line(server: Server, ours: Server) -> str:
    """Return one line of the table."""
    if server.trouble:
        return f"| {server.name} | {server.trouble} | | | | | |"
    by_second, by_cpu, megabytes = medians(server)
    ratios = ["-", "-"] if ours.trouble else [f"{medians(ours)[0] / by_second:.2f}", f"{medians(ours)[1] / by_cpu:.2f}"]
    cells = [f"{by_second:.0f}", f"{megabytes:.0f}", f"{by_cpu:.0f}", f"{server.peak / 1e6:.0f}", *ratios]
    return f"| {server.name} | {' | '.join(cells)} |"


def medians(server: Server) -> list[float]:
    """Return the medians of the server's rates."""
    return [statistics.median(rates) for rates in zip(*server.rates, strict=True)]


if __name__ == "__main__":
    main()
