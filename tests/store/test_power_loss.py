"""The order on which a loss of power depends, as the kernel sees it: file, name, folder, and only then the row."""

import re

import pytest

CALLS = "fsync,fdatasync,syncfs,linkat,rename,write"


def steps(trace, root):
    """Return what was done to the store, in order, as (what, path below the root)."""
    found = []
    for line in trace.read_text().splitlines():
        call = re.match(r"\d+\s+(\w+)\((.*)", line)
        paths = [path.removeprefix(str(root)) for path in re.findall(rf"{re.escape(str(root))}[^\">]*", line)]
        if call and call[1] == "write" and "committed" in call[2]:
            found.append(("commit", ""))
        elif call and call[1] != "write" and paths:
            found.append((call[1], paths[-1]))
    return found


@pytest.fixture
def recorded(one_group, strace, root):
    def run(count):
        ended = one_group(count, "picture", under=strace(calls=CALLS))
        assert ended.returncode == 0, ended.stderr
        return steps(strace.trace, root)

    return run


def test_small_group_is_synced_file_by_file_before_rename_and_folder_by_folder_after(recorded):
    done = recorded(3)

    commit = done.index(("commit", ""))
    renames = [index for index, (what, _) in enumerate(done) if what == "rename"]
    file_syncs = [index for index, (what, path) in enumerate(done) if what == "fdatasync" and "/spool/" in path]
    assert len(file_syncs) == len(renames) == 3
    assert max(file_syncs) < min(renames) < max(renames) < commit
    for folder in ("/0", "/1", "/2", ""):
        assert max(renames) < done.index(("fsync", folder), max(renames)) < commit


def test_large_group_is_synced_whole_before_rename_and_again_after(recorded):
    done = recorded(40)
    if not any(what == "syncfs" for what, _ in done):
        pytest.skip("the temporary folder lies on a file system whose syncfs is not relied on")

    order = [what for what, _ in done if what in {"syncfs", "rename", "commit"}]

    assert order == ["syncfs", *["rename"] * 40, "syncfs", "commit"]


def test_second_name_of_a_replaced_file_comes_before_its_rename(one_group, recorded):
    one_group(1, "old")

    done = recorded(1)

    names = [what for what, _ in done if what in {"linkat", "rename", "commit"}]
    assert names == ["linkat", "rename", "commit"]
