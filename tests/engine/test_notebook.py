"""Workbench in a real Jupyter kernel."""

import re

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

pytestmark = pytest.mark.engine

CELLS = [
    """
import psutil
from workbench import Workbench
async with Workbench(data_dir={data_dir!r}) as wb:
    answer = [event async for event in wb.chat("adder", "20 + 22")][-1].text
    workers = psutil.Process().children()
print(answer, len(workers), psutil.wait_procs(workers, timeout=3)[1])
""",
    """
wb = Workbench(data_dir={data_dir!r}, port=0)
await wb.start()
print([model.name for model in wb.models][:3])
""",
    """
from workbench.values import Token
answer = ""
async for event in wb.chat("adder", "38 + 47"):
    if isinstance(event, Token):
        answer += event.text
print(answer)
""",
    """
frame = wb.show()
assert wb.show().src == frame.src
frame
""",
    """
import asyncio, urllib.request
await wb._server.wait_started()
page = await asyncio.to_thread(lambda: urllib.request.urlopen(frame.src).read().decode())
print("Workbench" in page)
""",
]


@pytest.mark.timeout(180)
def test_chat_and_page_in_cells_and_no_worker_outlives_its_context_or_the_kernel(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell.replace("{data_dir!r}", repr(str(tmp_path)))) for cell in CELLS]
    )
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}})
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        texts = [str(cell.outputs) for cell in notebook.cells]
        assert re.search(r"20 \+ 22 = 42 [1-4] \[\]", texts[0]), "no worker outlives the context"
        assert "'adder'" in texts[1]
        assert "38 + 47 = 85" in texts[2]
        assert re.search(r"iframe.*127\.0\.0\.1", texts[3], re.DOTALL)
        assert "True" in texts[4]
        kernel = psutil.Process(client.km.provisioner.process.pid)
        workers = [child for child in kernel.children() if "worker_main" in " ".join(child.cmdline())]
        assert workers
    _, alive = psutil.wait_procs(workers, timeout=3)
    assert not alive
