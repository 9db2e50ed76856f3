"""The notebooks: stored without outputs, importing what there is, and running from top to bottom."""

import ast
import importlib
import inspect
import json
import os

import pytest

from tests.runs import ROOT

NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


def code(path):
    """The source of each code cell, without IPython's commands."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    # Outputs would be pictures, which change with every run and hide the difference between two versions.
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    return ["".join(line for line in cell["source"] if not line.startswith("%")) for cell in cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_what_there_is_and_has_short_cells(path):
    cells = code(path)
    assert len(cells) >= 6
    assert max(len(cell.splitlines()) for cell in cells[1:]) <= 12
    nodes, modules = list(ast.walk(ast.parse("\n".join(cells)))), {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for alias in node.names:
                known = hasattr(module, alias.name)
                found = getattr(module, alias.name) if known else importlib.import_module(f"{node.module}.{alias.name}")
                modules |= {alias.asname or alias.name: found} if inspect.ismodule(found) else {}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), (node.value.id, node.attr)


@pytest.mark.slow  # the test above reads each cell
@pytest.mark.timeout(1500)  # under two minutes on two idle cores, and other tests may keep these busy
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    nbclient, nbformat = importlib.import_module("nbclient"), importlib.import_module("nbformat")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1400, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(pictures) >= 2
