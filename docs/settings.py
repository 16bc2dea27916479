"""Writes docs/settings.md from the settings themselves: `make docs`. A test holds the file against them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray_cxr.job import Job

HEAD = """# Settings

Every setting of a job file, with its default. Made by `make docs` from the settings' own sentences. A job file is
YAML; on the command line a setting is overridden as `train.epochs=3`; unknown names are refused.
`ray-cxr config show JOB` prints what a job has in effect.
"""


def render() -> str:
    """The whole page."""
    schema = Job.model_json_schema()
    return HEAD + "".join(_sections(schema["properties"], schema["$defs"]))


def _sections(properties: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    plain = {k: v for k, v in properties.items() if not list(_references(v))}
    yield "\n## Top level\n\n" + _table("", plain)
    for name, setting in properties.items():
        for reference in _references(setting):
            definition = definitions[reference]
            kind = definition["properties"].get("kind", {}).get("const")
            title = f"`{name}` of kind `{kind}`" if kind and name == "source" else f"`{name}`"
            yield f"\n## {title}\n\n{definition.get('description', '')}\n\n"
            yield _table(f"{name}.", dict(_flat(definition["properties"], definitions)))


def _flat(properties: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, setting), with the settings inside a group of settings under dotted names."""
    for name, setting in properties.items():
        if "$ref" in setting:
            inside = definitions[setting["$ref"].rpartition("/")[2]]["properties"]
            yield from ((f"{name}.{below}", s) for below, s in _flat(inside, definitions))
        else:
            yield name, setting


def _references(setting: Any) -> Iterator[str]:
    if isinstance(setting, dict):
        for key, value in setting.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            elif key not in ("discriminator", "default"):
                yield from _references(value)
    elif isinstance(setting, list):
        for value in setting:
            yield from _references(value)


def _table(prefix: str, properties: dict[str, Any]) -> str:
    lines = ["| setting | default | allowed | what it is |", "|---|---|---|---|"]
    for name, setting in properties.items():
        what = setting.get("description", "").replace("\n", " ").replace("|", "\\|")
        default = f"`{json.dumps(setting['default']).strip(chr(34))}`" if "default" in setting else "required"
        lines.append(f"| `{prefix}{name}` | {default} | {_allowed(setting)} | {what} |")
    return "\n".join(lines) + "\n"


def _allowed(setting: dict[str, Any]) -> str:
    if "anyOf" in setting:
        return " or ".join(dict.fromkeys(_allowed(s) for s in setting["anyOf"]))
    if "const" in setting:
        return f"`{setting['const']}`"
    if "enum" in setting:
        return ", ".join(f"`{v}`" for v in setting["enum"])
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = ", ".join(f"{sign} {setting[key]}" for key, sign in bounds.items() if key in setting)
    kind = {"array": "list", "boolean": "true, false", "null": "null"}.get(
        setting.get("type", ""), setting.get("type", "")
    )
    return f"{kind} {limits}".strip()


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(render(), encoding="utf-8")
