"""A real kernel runs the notebook of examples/notebooks."""

import os
import sys

import pytest
from conftest import ROOT

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")


def test_the_notebook_draws_its_loss_curve(tmp_path):
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    notebook = nbformat.read(ROOT / "examples/notebooks/xor.ipynb", as_version=4)
    manager = AsyncKernelManager()
    manager._kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        env={"BACKPROPD": os.environ["BACKPROPD"]}, language="python", display_name="test")
    updates = []

    class Client(nbclient.NotebookClient):
        def process_message(self, message, cell, index):
            if message["msg_type"] == "update_display_data":
                updates.append(message["content"]["data"]["text/html"])
            return super().process_message(message, cell, index)

    Client(notebook, km=manager, timeout=240).execute(cwd=str(tmp_path))
    curves = [output["data"]["text/html"] for cell in notebook.cells if cell.cell_type == "code"
              for output in cell.outputs if "backprop-loss" in str(output.get("data", ""))]
    assert len(curves) == 1 and "completed after" in curves[0]
    assert curves[0].count(",") > 20  # a curve has points
    assert len(updates) >= 2  # and was drawn while the run was under way
    assert len({update.count(",") for update in updates}) >= 2
    text = "".join(output.get("text", "") for cell in notebook.cells if cell.cell_type == "code"
                   for output in cell.outputs)
    assert "[1 0 0 1]" in text
