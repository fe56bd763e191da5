"""Copies the main_image of every case to this machine: `python scripts/download_all_images.py`, see also `--help`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import checkout

checkout.enter()

import rehost

if __name__ == "__main__":  # decoder processes import this file too
    arguments = ["run", "--base", str(checkout.BACKEND), "--log-file", "download_images.log", *sys.argv[1:]]
    sys.exit(rehost.main(arguments, called=f"python {sys.argv[0]}"))
