"""Imports go one way: down the way of the data. Read from the source, so that nothing need be imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ray_cxr"
STAGES = [
    "labels", "films", "splits", "shards", "stream", "model", "loss", "train", "crossval", "tune", "evaluate", "report",
]  # fmt: skip
LEAVES = [
    "axes",
    "bootstrap",
    "config",
    "console",
    "cores",
    "errors",
    "heap",
    "metrics",
    "parquet",
    "ray_session",
    "storage",
    "torch_compat",
    "urls",
]
TOP = ["job", "submit", "cli", "__main__"]
RAY_IS_THE_POINT = {
    "crossval.run_on_ray", "evaluate.parallel", "films.crew", "stream.ray_loader", "train.heartbeat", "train.ray_trainer",
    "train.rendezvous", "train.room", "train.watch",
    "tune.halving",
    "tune.ray_search", "ray_session", "submit.client",
}  # fmt: skip
"""Modules that use Ray; all others decide things, and can be tested without it."""


def _imports(source: str) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it: in functions and for type checking too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            # `from ray_cxr import report` imports a module too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _rank(part: str) -> int:
    """A module may import those of its own part and of lower ranks."""
    if part in LEAVES:
        return 0
    if part in STAGES:
        return 1 + STAGES.index(part)
    assert part in TOP, f"{part} has no place in the way of the data"
    return 100 + TOP.index(part)


def upward_imports(module: str, source: str) -> list[str]:
    """The imports of a module (`stream.plan`) that go up the way of the data, or from leaf to stage."""
    own = module.partition(".")[0]
    wrong = []
    for name in _imports(source):
        package, _, inside = name.partition(".")
        part = inside.partition(".")[0]
        if package != "ray_cxr" or part in {"", "__version__", own}:
            continue
        if _rank(part) > _rank(own):
            wrong.append(f"ray_cxr.{module} imports {name}")
    return wrong


def imports_ray(source: str) -> bool:
    return any(name.partition(".")[0] == "ray" for name in _imports(source))


def _modules() -> dict[str, str]:
    """Dotted name below the package → source."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path.read_text(encoding="utf-8")
    return found


MODULES = _modules()


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_the_way_of_the_data(module: str) -> None:
    assert upward_imports(module, MODULES[module]) == []


def test_every_part_of_the_package_has_a_place() -> None:
    parts = {name.partition(".")[0] for name in MODULES}
    assert parts <= {*STAGES, *LEAVES, *TOP}
    assert {"labels", "films", "splits", "shards", "stream", "model", "loss", "train"} <= parts


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("stream.plan", "from ray_cxr.model.build import build_model"),
        ("labels.nih", "import ray_cxr.films.read"),
        ("splits.leak", "from ray_cxr import shards"),
        ("loss.bce", "def f():\n    from ray_cxr.train.loop import train"),
        ("model.build", "if TYPE_CHECKING:\n    from ray_cxr.evaluate.predict import score"),
        ("train.fit", "from ray_cxr.job import Job"),
        ("train.loop", "from ray_cxr.cli.output import output"),
        ("storage", "from ray_cxr.shards.dataset import Dataset"),
        ("config.load", "from ray_cxr.train.settings import Recipe"),
        ("job", "from ray_cxr.cli.main import main"),
    ],
)
def test_an_upward_import_is_seen(module: str, source: str) -> None:
    assert len(upward_imports(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("stream.plan", "from ray_cxr.stream.layout import Layout\nfrom ray_cxr.errors import InputError"),
        ("train.loop", "import ray_cxr.loss.bce\nfrom ray_cxr import __version__"),
        ("report.html", "from ray_cxr.evaluate.evaluate import evaluate"),
        ("cli.main", "from ray_cxr.job import load_job\nfrom ray_cxr.report.write import write"),
        ("storage", "import fsspec\nfrom ray_cxr.errors import InputError"),
    ],
)
def test_a_downward_import_is_not(module: str, source: str) -> None:
    assert upward_imports(module, source) == []


@pytest.mark.parametrize("module", MODULES)
def test_ray_is_imported_only_where_ray_is_the_point(module: str) -> None:
    assert not imports_ray(MODULES[module]) or module in RAY_IS_THE_POINT


def test_an_import_of_ray_is_seen() -> None:
    assert imports_ray("import ray.data") and imports_ray("def f():\n    from ray import train")
    assert not imports_ray("import ray_cxr.storage\nfrom ray_cxr import errors\n'import ray'")


def test_list_of_modules_that_use_ray_is_not_longer_than_needed() -> None:
    assert {m for m in RAY_IS_THE_POINT if not imports_ray(MODULES[m])} == set()
