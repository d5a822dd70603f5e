"""Configurations are frozen dataclasses; this file reads and writes them as JSON, with clear refusals.

Every verb has one in its config.py, checked by its own __post_init__. Command line, JSON file and HTTP give the same.
"""

import dataclasses
import difflib
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from s3d.errors import ConfigError

ConfigType = TypeVar("ConfigType")

_WANTED = {int: "a whole number", float: "a number", str: "a text", Path: "a text", bool: "true or false"}


def read_values(kind: type, path: Path) -> dict[str, Any]:
    """The values a JSON file gives to some fields of kind, converted. Raises ConfigError naming file and key."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}). Give the path of a JSON file.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON ({error}). Mend the file.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}, not an object with the options by name.")
    return _convert_fields(kind, values, str(path))


def from_dict(kind: type[ConfigType], values: dict[str, Any], source: str = "The configuration") -> ConfigType:
    """Build kind from plain JSON values; nested dataclasses, paths, tuples and enums of strings are understood."""
    return _build(kind, _convert_fields(kind, values, source), source)


def is_mapping(hint: Any) -> bool:
    """Whether a field's type is dict[...], or that or None."""
    return dict in {typing.get_origin(choice) for choice in (hint, *typing.get_args(hint))}


def _convert_fields(kind: type, values: dict[str, Any], source: str, joint: str = ": ") -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            meant = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(names))}."
            raise ConfigError(f"{source}: unknown key {key!r}. {meant}")
    return {key: _convert(hints[key], value, f"{source}{joint}{key}") for key, value in values.items()}


def _build(kind: type[ConfigType], values: dict[str, Any], source: str) -> ConfigType:
    required = {
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    missing = sorted(required - set(values))
    if missing:
        raise ConfigError(f"{source}: {', '.join(missing)} must be given.")
    return kind(**values)


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON values of a configuration; from_dict undoes it."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    """value as the type hint wants it; raises ConfigError at where."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where} is {value!r}; choose one of {', '.join(map(repr, arguments))}.")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is {value!r}; an object is needed.")
        return {
            _convert_key(arguments[0], key, where): _convert(arguments[1], item, f"{where}.{key}")
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        kind = typing.cast(type, hint)
        return _build(kind, _convert_fields(kind, value, where, joint="."), where)
    return _convert_plain(hint, value, where)


def _convert_union(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    problems = []
    for choice in choices:
        if choice is type(None):
            continue
        try:
            return _convert(choice, value, where)
        except ConfigError as error:
            problems.append(error)
    raise problems[0]


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where} is {value!r}; a list is needed.")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(arguments[0], item, where) for item in value)
    if len(value) != len(arguments):
        raise ConfigError(f"{where} is {value!r}; {len(arguments)} values are needed.")
    return tuple(_convert(hint, item, where) for hint, item in zip(arguments, value, strict=True))


def _convert_key(hint: Any, key: str, where: str) -> Any:
    try:
        return int(key) if hint is int else key
    except ValueError as error:
        raise ConfigError(f"{where} has the key {key!r}; {_WANTED[int]} is needed.") from error


def _convert_plain(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where} is {value!r}; {_WANTED.get(hint, 'an object')} is needed.")
