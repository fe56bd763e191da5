import multiprocessing
import platform
from pathlib import Path

import pytest

from rehost import process_identity as identity


def test_no_name_is_given_twice():
    assert identity.name() != identity.name()


def test_a_living_process_is_not_gone():
    assert not identity.is_gone(identity.name())


def test_a_process_that_has_ended_is_gone():
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        name = pool.apply(identity.name)
        is_gone_while_it_lives = identity.is_gone(name)
        pool.close()
        pool.join()

    assert not is_gone_while_it_lives
    assert identity.is_gone(name)


def test_another_machines_worker_is_never_taken_for_gone():
    assert not identity.is_gone("elsewhere/4026531836:1:1:00000000")


@pytest.mark.parametrize("kernel", ["", "/", "/00000000-0000-4000-8000-000000000000"])
def test_a_worker_of_another_machine_with_our_name_is_never_taken_for_gone(kernel):
    """The first namespace has one number on every Linux machine."""
    namespace = Path("/proc/self/ns/pid").stat().st_ino

    assert not identity.is_gone(f"{platform.node()}{kernel}/{namespace}:1:1:00000000")


def test_a_process_that_got_a_dead_ones_number_is_another():
    machine, pid, _, _ = identity.name().rsplit(":", 3)

    assert identity.is_gone(f"{machine}:{pid}:1:00000000")
