"""The other sides: how each peer is had, and what its command for the same work is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = Path(__file__).parent.parent / ".cache" / "bench-peers"

SPIDER = """
import scrapy
class Pictures(scrapy.Spider):
    name = "pictures"
    async def start(self):
        yield scrapy.Request("data:,x", self.parse)
    def parse(self, response):
        yield {{{field!r}: [line.strip() for line in open({list!r})]}}
"""


@dataclass(frozen=True)
class Job:
    """The work, as a list of addresses."""

    urls: Sequence[str]
    concurrency: int
    authority: Path | None  # the CA to trust, over TLS


def python_peers() -> Path:
    """Return the Python that has img2dataset and Scrapy, in an environment of their own; made where it is absent."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "img2dataset", "scrapy", "pillow"], check=True)
    return python


def missing(program: str) -> str | None:
    """Return what to say where a Debian program is not there."""
    return None if shutil.which(program) else f"missing: apt install {program.replace('aria2c', 'aria2')}"


def curl(job: Job, folder: Path) -> list[str]:
    """Return curl's command: no hash, no check, one flat folder."""
    lines = ["parallel", f"parallel-max = {job.concurrency}", "silent", "fail"]
    if job.authority:
        lines.append(f"cacert = {job.authority}")
    for url in job.urls:
        lines += [f'url = "{url}"', f'output = "{folder}/{url.rsplit("/", 1)[1]}"']
    return ["curl", "--config", str(_write(folder, "curl.conf", lines))]


def wget2(job: Job, folder: Path) -> list[str]:
    """Return wget2's command."""
    options = [f"--max-threads={job.concurrency}", "--no-verbose", f"--directory-prefix={folder}", "--no-robots"]
    if job.authority:
        options.append(f"--ca-certificate={job.authority}")
    return ["wget2", *options, f"--input-file={_write(folder, 'urls', job.urls)}"]


def aria2c(job: Job, folder: Path) -> list[str]:
    """Return aria2c's command."""
    options = [f"--max-concurrent-downloads={job.concurrency}", "--quiet", f"--dir={folder}", "--file-allocation=none"]
    options += ["--split=1", "--max-connection-per-server=1", "--no-conf"]
    if job.authority:
        options.append(f"--ca-certificate={job.authority}")
    return ["aria2c", *options, f"--input-file={_write(folder, 'urls', job.urls)}"]


def img2dataset(job: Job, folder: Path, *, decode: bool) -> list[str]:
    """Return img2dataset's command: as it comes, or without touching the pictures."""
    command = [str(python_peers().with_name("img2dataset")), f"--url_list={_write(folder, 'urls.txt', job.urls)}"]
    command += [f"--output_folder={folder}", "--output_format=files", "--compute_hash=sha256", "--processes_count=2"]
    command += [f"--thread_count={job.concurrency}", "--number_sample_per_shard=1000", "--enable_wandb=False"]
    return command if decode else [*command, "--disable_all_reencoding=True"]


def scrapy(job: Job, folder: Path, *, decode: bool) -> list[str]:
    """Return Scrapy's command: FilesPipeline, or ImagesPipeline, which decodes."""
    kind, field = ("Images", "image_urls") if decode else ("Files", "file_urls")
    listing = _write(folder, "urls", job.urls)
    spider = _write(folder, "spider.py", [SPIDER.format(list=str(listing), field=field)])
    settings = {
        "ITEM_PIPELINES": json.dumps({f"scrapy.pipelines.{kind.lower()}.{kind}Pipeline": 1}),
        f"{kind.upper()}_STORE": str(folder),
        "CONCURRENT_REQUESTS": str(job.concurrency),
        "CONCURRENT_REQUESTS_PER_DOMAIN": str(job.concurrency),
        "DOWNLOAD_DELAY": "0",
        "LOG_LEVEL": "WARNING",
        "TELNETCONSOLE_ENABLED": "False",
        "MEDIA_ALLOW_REDIRECTS": "True",
        "DOWNLOAD_WARNSIZE": "0",
    }
    options = [word for name, value in settings.items() for word in ("-s", f"{name}={value}")]
    return [str(python_peers().with_name("scrapy")), "runspider", *options, str(spider)]


def _write(folder: Path, name: str, lines: Sequence[str]) -> Path:
    """Write a peer's input beside its folder, untimed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{folder.name}-{name}")
    path.write_text("\n".join(lines) + "\n")
    return path
