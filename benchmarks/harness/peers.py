"""The peers: the command of each for the same work."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}  # img2dataset's libraries call home otherwise
PROCESSES = os.cpu_count() or 1

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
    """The work, as a list of URLs."""

    urls: Sequence[str]
    concurrency: int
    authority: Path | None  # the CA to trust, over TLS


def curl(job: Job, folder: Path) -> list[str]:
    """Return curl's command: no hash, no check, one flat folder."""
    lines = ["parallel", f"parallel-max = {job.concurrency}", "silent", "show-error", "fail"]
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


def img2dataset(programs: Path, job: Job, folder: Path, *, decode: bool) -> list[str]:
    """Return img2dataset's command for all cores, with its defaults or without changing the pictures."""
    threads = -(-job.concurrency // PROCESSES)
    shard = -(-len(job.urls) // (2 * PROCESSES))  # two for each process, so that all finish at about the same time
    command = [str(programs / "img2dataset"), f"--url_list={_write(folder, 'urls.txt', job.urls)}"]
    command += [f"--output_folder={folder}", "--output_format=files", "--compute_hash=sha256"]
    command += [f"--processes_count={PROCESSES}", f"--thread_count={threads}", f"--number_sample_per_shard={shard}"]
    command += ["--enable_wandb=False"]
    return command if decode else [*command, "--disable_all_reencoding=True"]


def scrapy(programs: Path, job: Job, folder: Path, *, decode: bool) -> list[str]:
    """Return Scrapy's command with FilesPipeline, or with ImagesPipeline, which decodes and encodes again."""
    kind, field = ("Images", "image_urls") if decode else ("Files", "file_urls")
    listing = _write(folder, "urls", job.urls)
    spider = _write(folder, "spider.py", [SPIDER.format(list=str(listing), field=field)])
    settings = {
        "ITEM_PIPELINES": json.dumps({f"scrapy.pipelines.{kind.lower()}.{kind}Pipeline": 1}),
        f"{kind.upper()}_STORE": str(folder),
        "CONCURRENT_REQUESTS": str(job.concurrency),
        "CONCURRENT_REQUESTS_PER_DOMAIN": str(job.concurrency),
        "DOWNLOAD_DELAY": "0",
        "ROBOTSTXT_OBEY": "False",
        "LOG_LEVEL": "WARNING",
        "TELNETCONSOLE_ENABLED": "False",
        "MEDIA_ALLOW_REDIRECTS": "True",
        "DOWNLOAD_WARNSIZE": "0",
    }
    options = [word for name, value in settings.items() for word in ("-s", f"{name}={value}")]
    return [str(programs / "scrapy"), "runspider", *options, str(spider)]


def plain_script(job: Job, database: str, folder: Path) -> list[str]:
    """Return the command of the plain script."""
    script = str(Path(__file__).with_name("plain_script.py"))
    command = [sys.executable, script, database, str(folder), f"--concurrency={job.concurrency}"]
    return [*command, f"--ca={job.authority}"] if job.authority else command


def fetch_alone(job: Job, folder: Path, *, processes: int) -> list[str]:
    """Return the command of rehost's fetcher alone: of a run, what cannot be left out."""
    command = [sys.executable, str(Path(__file__).with_name("fetch_alone.py")), str(_write(folder, "urls", job.urls))]
    return [*command, str(folder), f"--concurrency={job.concurrency}", f"--processes={processes}"]


def _write(folder: Path, name: str, lines: Sequence[str]) -> Path:
    """Write a peer's input next to its folder; this is not timed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{folder.name}-{name}")
    path.write_text("\n".join(lines) + "\n")
    return path
