import pytest

from rehost.demo.cases import cases
from rehost.demo.posters import Posters
from rehost.demo.world import World


@pytest.fixture(scope="session")
def all_cases():
    return cases()


@pytest.fixture(scope="session")
def posters(tmp_path_factory, all_cases):
    posters = Posters(tmp_path_factory.mktemp("posters"))
    posters.make(all_cases)
    return posters


@pytest.fixture
def world(all_cases, posters):
    return World(all_cases, posters)
