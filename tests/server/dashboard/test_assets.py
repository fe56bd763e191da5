"""The dashboard's own scripts: which imports which."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from importlib.resources import files

import pytest

from rehost.ledger.findings import Fault, Mend
from rehost.model import Reason

SCRIPTS = files("rehost.server.dashboard") / "assets"


def test_scripts_form_no_import_circle():
    imports = {
        path.name: re.findall(r'^import .* from "\./(.*)";$', path.read_text(encoding="utf-8"), re.MULTILINE)
        for path in SCRIPTS.iterdir()
        if path.name.endswith(".js")
    }

    order = list(TopologicalSorter(imports).static_order())  # raises CycleError where there is one

    assert set(order) == set(imports)
    assert imports["app.js"]


@pytest.mark.parametrize("kind", [*Fault, *Mend, *Reason])
def test_page_has_words_for_every_kind(kind):
    words = (SCRIPTS / "words.js").read_text(encoding="utf-8")

    assert re.search(rf'^  "?{re.escape(kind)}"?: \[', words, re.MULTILINE)
