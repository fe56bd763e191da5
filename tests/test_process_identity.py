import multiprocessing
import os
import platform
from pathlib import Path

import pytest

from rehost import process_identity as identity


def test_each_name_is_new():
    assert identity.name() != identity.name()


def test_running_process_is_not_gone():
    assert not identity.is_gone(identity.name())


def test_ended_process_is_gone():
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        name = pool.apply(identity.name)
        is_gone_while_it_runs = identity.is_gone(name)
        pool.close()
        pool.join()

    assert not is_gone_while_it_runs
    assert identity.is_gone(name)


def test_process_that_has_ended_and_that_its_parent_has_not_noticed_is_gone():
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, identity.name().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        name = pipe.read()
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)

        assert identity.is_gone(name)
    finally:
        os.waitpid(child, 0)


def test_worker_of_another_machine_is_never_gone():
    assert not identity.is_gone("elsewhere/4026531836:1:1:00000000")


@pytest.mark.parametrize("kernel", ["", "/", "/00000000-0000-4000-8000-000000000000"])
def test_worker_of_another_machine_with_our_host_name_is_never_gone(kernel):
    """The first namespace has one number on every Linux machine."""
    namespace = Path("/proc/self/ns/pid").stat().st_ino

    assert not identity.is_gone(f"{platform.node()}{kernel}/{namespace}:1:1:00000000")


def test_process_that_reuses_the_number_of_an_ended_one_is_another():
    machine, pid, _, _ = identity.name().rsplit(":", 3)

    assert identity.is_gone(f"{machine}:{pid}:1:00000000")
