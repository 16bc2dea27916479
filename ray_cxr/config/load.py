"""Reads a job file and dotted overrides into settings, and turns what is wrong into sentences."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml.constructor import ConstructorError

from ray_cxr.errors import InputError, reason_of
from ray_cxr.urls import REFUSED_URL, holds_secret, secrets_in

S = TypeVar("S", bound=BaseModel)


def read_settings(cls: type[S], path: str | Path | None, overrides: Sequence[str] = ()) -> S:
    """The settings of the YAML file at `path` (None: the defaults) with `overrides` on top.

    Each override is `dotted.key=value`, the value read as YAML; a number steps into a list
    (`source.0.images=films`, also where the file has one mapping instead of a list). Raises InputError with one sentence per problem.
    """
    raw = _read_yaml(Path(path)) if path is not None else {}
    for override in overrides:
        _apply(raw, override)
    return validated(cls, raw)


def validated(cls: type[S], raw: Mapping[str, Any]) -> S:
    """Settings of what a YAML file could hold. Raises InputError with one sentence per problem."""
    named = list(dict.fromkeys(secrets_in(raw)))
    if named:
        raise InputError("\n".join(f"{name}: {REFUSED_URL}." for name in named))
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        raise InputError("\n".join(_sentences(cls, error))) from None


def dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names: `{"train": {"epochs": 3}}` → `{"train.epochs": 3}`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= dotted(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def overlaid(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings with some, given by dotted names, in place of theirs."""
    changed = copy.deepcopy(dict(settings))
    for name, value in changes.items():
        node = changed
        *above, last = name.split(".")
        for part in above:
            node = node.setdefault(part, {})
        node[last] = copy.deepcopy(value)
    return changed


def setting_names(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted name of every setting below `cls` that is no group of settings."""
    for name, field in cls.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            yield from setting_names(group, f"{prefix}{name}.")
        else:
            yield prefix + name


def to_yaml(settings: BaseModel) -> str:
    """The effective settings as YAML, in the order of their declaration."""
    text: str = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Yaml)  # noqa: S506  it is a SafeLoader
    except FileNotFoundError:
        raise InputError(
            f"job file {str(path)!r} does not exist; give the path of a YAML job file."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"job file {str(path)!r} cannot be read as UTF-8 text ({reason_of(error)})."
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise InputError(f"job file {str(path)!r} is not valid YAML{where}: {problem}.") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        kind = type(raw).__name__
        raise InputError(f"job file {str(path)!r} must hold settings as `key: value`, but holds a {kind}.")
    return raw


class _Yaml(yaml.SafeLoader):
    """Two things are otherwise than in PyYAML: there the last of two equal keys wins, so that a second `train:` would drop
    the first in silence, and 1e-3 is a text, where YAML 1.2 has a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if holds_secret(override):
        raise InputError(f"{key.strip() if '://' not in key else 'override'}: {REFUSED_URL}.")
    if not equals or not key.strip():
        raise InputError(f"override {override!r} must look like key=value, for example train.epochs=3.")
    try:
        value = yaml.load(text, _Yaml)  # noqa: S506  it is a SafeLoader
    except yaml.YAMLError:
        raise InputError(f"override {override!r}: the value is not valid YAML; quote it.") from None
    node: Any = raw
    parts = key.strip().split(".")
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, list):
            node = _into_list(node, part, override, last=last, value=value)
        elif isinstance(node, dict):
            if part == "0" and not last:
                continue  # one mapping stands for a list of one
            if part.isdigit() and not last:  # as the last it is a key, as an epoch of model.unfreeze
                above = ".".join(parts[:depth])
                raise InputError(
                    f"override {override!r}: {above} is one mapping here and no list; write {above}.KEY=VALUE."
                )
            if last:
                node[part] = value
            else:
                if node.get(part) is None:
                    node[part] = {}
                node = node[part]
        else:
            above = ".".join(parts[:depth])
            raise InputError(f"override {override!r}: {above} is a plain value, nothing lies below it.")


def _into_list(node: list[Any], part: str, override: str, *, last: bool, value: Any) -> Any:
    if not part.isdigit() or int(part) >= len(node):
        raise InputError(
            f"override {override!r}: {part!r} must be a position from 0 to {len(node) - 1} here."
        )
    if last:
        node[int(part)] = value
    return node[int(part)]


def _sentences(cls: type[BaseModel], error: ValidationError) -> list[str]:
    """One sentence per setting that is wrong; a setting of several types fails once for each."""
    found: dict[str, list[str]] = {}
    for problem in error.errors():
        name, sentence = _sentence(cls, problem)
        found.setdefault(name, []).append(sentence)
    return [
        parts[0] if len(parts) == 1 else f"{parts[0].rstrip('.')}, or{parts[1].partition(', but')[2]}"
        for parts in found.values()
    ]


def _sentence(cls: type[BaseModel], error: ErrorDetails) -> tuple[str, str]:
    """The dotted name of a setting, and what is wrong with it."""
    model, names = _model_at(cls, error["loc"])
    dotted = ".".join(names)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return dotted, _unknown(cls, model, names)
    if kind == "missing":
        doc = model.model_fields[names[-1]].description if names[-1] in model.model_fields else None
        return dotted, f"{dotted}: this setting is required" + (
            f" ({doc.strip().rstrip('.')})." if doc else "."
        )
    if kind == "union_tag_not_found":
        return dotted, f"{dotted}: the key `kind`, which says what this is, is missing."
    if kind == "union_tag_invalid":
        return dotted, f"{dotted}.kind: got {context['tag']!r}, but allowed are {context['expected_tags']}."
    # A validator of ours writes the whole sentence; pydantic would prefix it.
    message = error["msg"].removeprefix("Value error, ").rstrip(".")
    if kind == "value_error":
        return dotted, f"{dotted}: {message}." if dotted else f"{message}."
    if kind in ("model_type", "dict_type"):
        message = "This holds settings of its own, as key: value"
    if kind == "too_short":
        message = f"It must have {context['min_length']} or more"
    quoted = kind == "string_type" and isinstance(error["input"], bool)
    hint = "; YAML reads on, off, yes and no as that, so put quotes around the word" if quoted else ""
    got = "null" if error["input"] is None else repr(error["input"])
    return dotted, f"{dotted}: got {got}, but {message[0].lower()}{message[1:]}{hint}."


def _unknown(cls: type[BaseModel], model: type[BaseModel], names: list[str]) -> str:
    key, here = names[-1], list(model.model_fields)
    near = difflib.get_close_matches(key, here, n=1, cutoff=0.6)
    prefix = ".".join(names[:-1])
    if near:
        suggestion = f"{prefix}.{near[0]}" if prefix else near[0]
        return f"{'.'.join(names)}: unknown setting; did you mean {suggestion}?"
    leaves = dict(_dotted(cls))
    close = difflib.get_close_matches(key, list(leaves), n=1, cutoff=0.75)
    if close:
        return f"{'.'.join(names)}: unknown setting; did you mean {leaves[close[0]]}?"
    return f"{'.'.join(names)}: unknown setting; known here: {', '.join(here)}."


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every settings class that an annotation (Optional, list, union, Annotated) may hold."""
    if get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from _models_in(argument)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def _model_at(cls: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[type[BaseModel], list[str]]:
    """The settings class that the last part of an error's place lies in, and the place without union tags."""
    model, names, options = cls, list[str](), [cls]
    for depth, part in enumerate(loc):
        tags = {str(o.model_fields["kind"].default): o for o in options if "kind" in o.model_fields}
        if part in tags and len(options) > 1:
            model = tags[str(part)]
            options = [model]
        elif not options:
            continue  # a name of pydantic's own for one type of several that a plain value may have
        elif str(part).startswith("["):
            continue  # which of several types it was read as
        else:
            names.append(str(part))
            if part in model.model_fields:
                options = list(dict.fromkeys(_models_in(model.model_fields[str(part)].annotation)))
                if len(options) == 1 and depth < len(loc) - 1:
                    model = options[0]
    return model, names


def _dotted(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(last name, dotted name) of every setting below `cls`."""
    for name, field in cls.model_fields.items():
        yield name, prefix + name
        for model in _models_in(field.annotation):
            yield from _dotted(model, f"{prefix}{name}.")
