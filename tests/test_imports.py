"""Imports point down only, and importing the package is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path("workbench")

# What each part may import of the others. "" stands for errors, settings and the like, open to all.
ALLOWED = {
    "errors": set(),
    "settings": set(),
    "engine": set(),
    "pool": {"engine"},
    "catalog": set(),
    "telemetry": set(),
    "access": {"catalog"},
    "kv_caches": {"engine"},
    "views": {"pool", "telemetry"},
    "requests": {"catalog", "pool"},
    "chat": {"catalog", "engine", "measurements", "pool", "requests", "views"},
    "gateway": {"catalog", "engine", "library", "measurements", "pool", "requests", "telemetry", "views"},
    "library": {"catalog", "engine", "pool", "views"},
    "measurements": {"catalog", "pool", "telemetry", "views"},
    "pool_admin": {"library", "pool", "profiles", "telemetry"},
    "profiles": {"engine", "pool"},
    "prefetcher": {"engine", "pool"},
    "service": {
        "access",
        "chat",
        "catalog",
        "engine",
        "gateway",
        "kv_caches",
        "library",
        "measurements",
        "pool",
        "pool_admin",
        "prefetcher",
        "telemetry",
        "views",
    },
    "values": {
        "access",
        "engine",
        "gateway",
        "requests",
        "kv_caches",
        "measurements",
        "pool",
        "pool_admin",
        "telemetry",
        "views",
    },
    "api": {"pool", "service", "telemetry", "values"},
    "ui": {"api", "engine", "service", "values"},
    "server": {"api", "service", "ui"},
    "notebook": {"server", "service"},
    "keys_cli": {"access", "catalog"},
    "cli": {"keys_cli", "server", "service", "telemetry"},
    "__init__": {"notebook"},
}
OPEN_TO_ALL = {"errors", "settings"}
ONLY = {"vllm": "engine", "torch": "engine", "gradio": "ui", "sqlmodel": "catalog", "sqlalchemy": "catalog"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported_names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=str)
def test_arrows_point_down(path):
    part = part_of(path)
    for name in imported_names(path):
        if name.startswith("workbench."):
            target = name.split(".")[1]
            if target in ALLOWED and target != part:
                assert target in ALLOWED[part] | OPEN_TO_ALL, f"{path} imports {name}"
        library = name.split(".")[0]
        if library in ONLY:
            assert part == ONLY[library], f"{path} imports {name}"


def test_ui_sees_the_pool_through_the_service_only():
    for path in (PACKAGE / "ui").rglob("*.py"):
        assert not any(name.startswith("workbench.pool") for name in imported_names(path)), path


def test_importing_the_package_loads_nothing_heavy():
    assert heavy_modules_after("import workbench, workbench.settings") == "[]"


def test_the_service_loads_neither_engine_nor_page():
    assert heavy_modules_after("import workbench.service") == "[]"


def heavy_modules_after(statement: str) -> str:
    code = f"{statement}; import sys; print([m for m in ('torch', 'vllm', 'gradio') if m in sys.modules])"
    return subprocess.check_output([sys.executable, "-c", code], text=True).strip()
