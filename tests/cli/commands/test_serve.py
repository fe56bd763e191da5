import os
import subprocess
import sys

import pytest

from rehost.cli.commands.serve import shown_host


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("images.example", "images.example"),
        ("0.0.0.0", "localhost"),
        ("", "localhost"),
        ("::", "localhost"),
        ("::1", "[::1]"),
    ],
)
def test_the_address_is_one_that_a_browser_can_open(host, shown):
    assert shown == shown_host(host)


def test_missing_packages_of_the_server_are_named_in_one_sentence(tmp_path):
    program = (
        "import sys; sys.modules['fastapi'] = None; from rehost.cli.main import main;"
        f"sys.exit(main(['serve', '--base', {str(tmp_path)!r}]))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": "sqlite:///cases.db"},
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "rehost: Serving needs fastapi: pip install 'rehost[server]'.\n"
