"""Install the peers: Debian packages with apt-get if we are root, Python packages in environments of their own."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ENVIRONMENTS = Path(__file__).parents[2] / ".cache" / "bench-peers"
PACKAGES = {"aria2c": "aria2", "nginx": "nginx-light"}  # Debian's package, if its name differs from the program's
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@functools.cache
def program(name: str) -> str | None:
    """Return the path of a Debian program, which is installed if missing and permitted; None without one."""
    found = shutil.which(name, path=PLACES)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["update", "-qq"],
            ["install", "-qq", "-y", "--no-install-recommends", PACKAGES.get(name, name)],
        ):
            subprocess.run(["apt-get", *command], env=environment, stdout=sys.stderr, check=False)
        found = shutil.which(name, path=PLACES)
    return found


def missing(name: str) -> str | None:
    """Return the message for a missing Debian program."""
    return None if program(name) else f"missing: apt install {PACKAGES.get(name, name)}"


@functools.cache
def python_peer(package: str, *more: str) -> tuple[Path, str | None]:
    """Return the program folder of an environment with a package, or the message why there is none."""
    folder = ENVIRONMENTS / package
    programs = folder / "bin"
    if not ((programs / package).exists() or any(folder.glob(f"lib/*/site-packages/{package}"))):
        venv.create(folder, with_pip=True, clear=True)
        trust = {"PIP_CERT": str(CERTIFICATES)} if CERTIFICATES.exists() else {}
        install = [programs / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", package, *more]
        done = subprocess.run(install, env={**trust, **os.environ}, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(folder)
            why = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            return programs, f"missing: pip install {package} says: {why[:200]}"
    return programs, None
