"""The script that most people would write: aiohttp, bodies in memory, a file and an UPDATE for each row. A peer."""

import argparse
import asyncio
import hashlib
import pathlib
import ssl
import sys

import aiohttp
import asyncpg

parser = argparse.ArgumentParser()
parser.add_argument("database")
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--concurrency", type=int, default=10)
parser.add_argument("--ca")
arguments = parser.parse_args()


async def download(session, pool, semaphore, case_id, url):
    async with semaphore:
        for _ in range(3):
            try:
                async with session.get(url, timeout=aiohttp.ClientTimeout(total=30)) as response:
                    if response.status != 200:
                        continue
                    body = await response.read()
            except (aiohttp.ClientError, TimeoutError):
                continue
            hashlib.sha256(body).hexdigest()
            path = arguments.folder / str(case_id) / f"main_image.{url.rsplit('.', 1)[1]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            local = f"/static/images/{case_id}/{path.name}"
            await pool.execute("UPDATE ad_cases SET main_image_local = $1 WHERE case_id = $2", local, case_id)
            return True
    return False


async def main():
    pool = await asyncpg.create_pool(arguments.database, max_size=10)
    rows = await pool.fetch("SELECT case_id, main_image FROM ad_cases WHERE main_image_local IS NULL")
    semaphore = asyncio.Semaphore(arguments.concurrency)
    context = ssl.create_default_context(cafile=arguments.ca)
    connector = aiohttp.TCPConnector(limit=arguments.concurrency, ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        done = await asyncio.gather(*(download(session, pool, semaphore, *row) for row in rows))
    await pool.close()
    return 0 if all(done) else 1


sys.exit(asyncio.run(main()))
