"""Imports a catalogue of cases, CSV or JSON, into the table ad_cases: `python scripts/import_cases.py FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import checkout

checkout.enter()

import importing.command

sys.exit(importing.command.main())
