import pytest
from tests.demo.drawn import drawn_pictures

from rehost.demo.cases import make_cases
from rehost.demo.origins import Origins


@pytest.fixture(scope="session")
def all_cases():
    return make_cases()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    return drawn_pictures(tmp_path_factory.getbasetemp())


@pytest.fixture
def origins(all_cases, pictures):
    return Origins(all_cases, pictures)
