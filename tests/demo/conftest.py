import pytest

from rehost.demo.cases import make_cases
from rehost.demo.origins import Origins
from rehost.demo.pictures import Pictures


@pytest.fixture(scope="session")
def all_cases():
    return make_cases()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory, all_cases):
    pictures = Pictures(tmp_path_factory.mktemp("pictures"))
    pictures.create(all_cases)
    return pictures


@pytest.fixture
def origins(all_cases, pictures):
    return Origins(all_cases, pictures)
