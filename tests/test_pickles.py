"""Nothing from storage is unpickled, run as YAML's objects, or unpacked: read from the source, module by module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ray_cxr"
UNPICKLING = ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
OUR_OWN = {
    "films/crew.py": "what this process and its own workers send each other",
    "stream/ray_loader.py": "what this process has sent to its own readers",
    "tune/ray_search.py": "the error that Ray Tune has just written into the session's folder",
}
"""Modules that unpickle what is of a moment ago, and of this run."""


def dangers(source: str) -> Iterator[str]:
    """Calls that make bytes into code or objects, or an archive into files."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if {"tarfile", "zipfile", "shelve", "marshal", "dill"} & {*names, getattr(node, "module", "")}:
                yield f"imports {', '.join(names)}"
        if not isinstance(node, ast.Call):
            continue
        called, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        module, _, name = called.rpartition(".")
        if module in UNPICKLING and name in ("load", "loads", "Unpickler", "open"):
            yield called
        if called == "torch.load" and keywords.get("weights_only") != "True":
            yield "torch.load of objects"
        if called == "yaml.load" and [ast.unparse(a) for a in node.args[1:]] not in (
            ["yaml.SafeLoader"],
            ["_Yaml"],
        ):
            yield "yaml.load of objects"
        if called in ("yaml.unsafe_load", "yaml.full_load", "pd.read_pickle", "eval", "exec", "shutil.unpack_archive", "torch.jit.load", "torch.package.PackageImporter"):  # fmt: skip
            yield called
        if called == "np.load" and keywords.get("allow_pickle", "False") != "False":
            yield "np.load of objects"
        if name == "extractall":
            yield called


def test_only_what_is_our_own_of_a_moment_ago() -> None:
    found = {str(p.relative_to(PACKAGE)): list(dangers(p.read_text())) for p in sorted(PACKAGE.rglob("*.py"))}
    found = {name: what for name, what in found.items() if what}
    assert found.keys() == OUR_OWN.keys()
    assert {call for calls in found.values() for call in calls} == {"pickle.loads", "cloudpickle.load"}


def test_the_loader_of_job_files_is_a_safe_one() -> None:
    import yaml

    from ray_cxr.config.load import _Yaml

    assert issubclass(_Yaml, yaml.SafeLoader)
    with pytest.raises(yaml.YAMLError):
        yaml.load("!!python/object/apply:os.getcwd []", _Yaml)


@pytest.mark.parametrize("source", [
    "pickle.load(file)", "cloudpickle.loads(data)", "joblib.load(path)", "torch.load(path)", "torch.load(path, weights_only=False)",
    "yaml.load(text, yaml.Loader)", "yaml.load(text, Loader=yaml.FullLoader)", "np.load(path, allow_pickle=True)", "import tarfile",
    "from zipfile import ZipFile", "archive.extractall(folder)", "exec(text)", "pickle.Unpickler(file)",
])  # fmt: skip
def test_a_danger_is_seen(source: str) -> None:
    assert list(dangers(source))


@pytest.mark.parametrize("source", [
    "torch.load(path, weights_only=True)", "yaml.safe_load(text)", "yaml.load(text, yaml.SafeLoader)", "np.load(path)", "json.loads(text)",
    "pickle.dumps(part)",
])  # fmt: skip
def test_what_is_none_is_not(source: str) -> None:
    assert not list(dangers(source))
