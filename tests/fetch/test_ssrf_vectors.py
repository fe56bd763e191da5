"""Vectors of server-side request forgery, collected from other projects: no packet reaches a forbidden address."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fetch.isolated import network

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("isolated.py")
PUBLIC = {"93.184.216.34", "1.2.3.4", "104.26.14.6", "104.26.14.7"}
"""The addresses of public names in isolated.py, and those that vectors give as public first answers."""
FOLLOWED = {"redirect", "dns-rebind"}
"""Categories in which a public address is rightly contacted first, and the next one refused."""


def isolation():
    """Return the command that runs a program in a network of its own; skip if this user may not."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare (util-linux) and ip (iproute2)")
    for flags in ("-n", "-rn"):
        command = ["unshare", flags]
        probe = [*command, "ip", "link", "set", "lo", "up"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("this user may not make a network namespace")


def run(isolation, vectors):
    """Run the program over the vectors, and pass it the name of the network that it must not run in."""
    return subprocess.run(
        [*isolation, sys.executable, str(PROGRAM), str(vectors), network()],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )


@pytest.fixture(scope="module")
def vectors(shared):
    return shared / "vectors" / "ssrf.csv"


@pytest.fixture(scope="module")
def results(vectors):
    done = run(isolation(), vectors)
    assert done.returncode == 0, done.stderr
    said = {row["id"]: row for row in map(json.loads, done.stdout.splitlines())}
    with vectors.open(newline="", encoding="utf-8") as file:
        return [(vector, said[vector["id"]]) for vector in csv.DictReader(file)]


def expected(results, *verdicts):
    return [(vector, said) for vector, said in results if vector["expected"] in verdicts]


def test_every_vector_was_tried(results):
    assert len(results) == 1356


def test_denied_url_is_never_fetched(results):
    fetched = [vector["url"] for vector, said in expected(results, "deny") if said["ended"][-1] == "fetched"]

    assert fetched == []


def test_denied_address_is_never_contacted(results):
    allowed = {True: PUBLIC, False: set()}

    reached = [
        (vector["url"], said["contacted"])
        for vector, said in expected(results, "deny")
        if not set(said["contacted"]) <= allowed[vector["category"] in FOLLOWED]
    ]

    assert reached == []


def test_connector_alone_refuses_every_denied_address(results):
    reached = [(vector["url"], said) for vector, said in expected(results, "deny") if said["contacted_by_connector"]]
    refused = [said for _, said in expected(results, "deny") if said["connector"] == "AddressRefused"]

    assert reached == []
    assert len(refused) > 500


def test_public_address_is_contacted(results):
    untouched = [(vector["url"], said["ended"]) for vector, said in expected(results, "allow") if not said["contacted"]]

    assert untouched == []


def test_allowed_literal_address_is_the_one_contacted(results):
    others = [
        (vector["url"], said["contacted"])
        for vector, said in expected(results, "allow")
        if vector["canonical_ip"] and vector["canonical_ip"] not in said["contacted"]
    ]

    assert others == []


def test_only_the_public_one_of_mixed_answers_is_contacted(results):
    [said] = [said for vector, said in results if vector["setup"] == "A example.com = 127.0.0.1, 5.6.7.8"]

    assert said["contacted"] == ["5.6.7.8"]


def test_optional_vector_contacts_at_most_its_own_address(results):
    stray = [
        (vector["url"], said["contacted"])
        for vector, said in expected(results, "either")
        if len(set(said["contacted"]) - PUBLIC) > 1
    ]

    assert stray == []


def test_credentials_of_an_origin_never_reach_another_one(results):
    [said] = [said for vector, said in results if vector["category"] == "redirect-headers"]

    assert said["ended"] == ["fetched"]
    assert said["contacted"] == ["104.26.14.6", "104.26.14.7"]
    assert said["leaked"] == []


def test_program_refuses_to_run_in_our_own_network(vectors):
    done = run([], vectors)

    assert "nothing was tried" in done.stderr
    assert done.stdout == ""
    assert done.returncode == 1
