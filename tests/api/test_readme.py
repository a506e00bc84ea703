"""What the README shows of the API works as printed, but for the port."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.engine

BLOCK = re.compile(r"^ *```(bash|python)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
EXAMPLES = [
    (language, code)
    for language, code in BLOCK.findall((ROOT / "README.md").read_text("utf-8"))
    if "http://127.0.0.1:7860" in code
]


def test_there_are_examples():
    assert sum(language == "bash" for language, _ in EXAMPLES) >= 2
    assert any(language == "python" for language, _ in EXAMPLES)


@pytest.mark.parametrize(("language", "code"), EXAMPLES, ids=[f"{n}" for n in range(len(EXAMPLES))])
def test_an_example_of_the_readme(api_app, tmp_path, language, code):
    code = code.replace("http://127.0.0.1:7860", api_app.url)
    if language == "bash":
        command = ["bash", "-ec", re.sub(r"\bcurl\b", "curl --silent --show-error --fail-with-body", code)]
    else:
        script = tmp_path / "example.py"
        script.write_text(code)
        command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
