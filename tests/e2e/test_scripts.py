"""What the README tells scripts to do, as it is printed there."""

import json
import shlex
import subprocess

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.e2e


def admin_examples():
    lines = (ROOT / "README.md").read_text().splitlines()
    return [line for line in lines if line.startswith("curl ") and "/admin/" in line]


def test_the_readmes_admin_examples_work(application):
    examples = admin_examples()
    assert len(examples) >= 2
    for line in examples:
        command = [part.replace("http://127.0.0.1:7860", application.url) for part in shlex.split(line)]
        done = subprocess.run([*command, "-sS", "--fail"], capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr + done.stdout
        assert json.loads(done.stdout)
