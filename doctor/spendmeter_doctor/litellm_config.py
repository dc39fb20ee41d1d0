"""A LiteLLM configuration as far as the doctor and `attach` need it, with the lines of its fields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from spendmeter.files.text import UnreadableFile, read_text_file
from spendmeter.files.yaml import MAX_MERGED_FIELDS

CALLBACK = "spendmeter_gateway.callback"
"""What a configuration names to attach us."""
FILE_CALLBACK = "spendmeter_callback.callback"
"""The same for LiteLLM before 1.94, which loads callbacks only from files beside the configuration."""
OLD_CALLBACK = "producers.litellm_callback.spendmeter"
OUR_CALLBACKS = (CALLBACK, FILE_CALLBACK, OLD_CALLBACK)
SETTINGS, ROUTER, GENERAL = "litellm_settings", "router_settings", "general_settings"
_MAX_DEPTH = 32
_MERGE = "tag:yaml.org,2002:merge"

FieldPath = tuple[str | int, ...]


class InvalidConfig(ValueError):
    """This is no LiteLLM configuration; the message says where, and what to correct."""


class ConfiguredModel(NamedTuple):
    """One item of `model_list`."""

    line: int
    name: str
    """As requests call it."""
    model: str
    """As LiteLLM calls it: `openai/gpt-4o`."""
    fields: Mapping[str, Any]
    """`litellm_params` and `model_info` together, where prices may stand."""


@dataclass(frozen=True, slots=True)
class LitellmConfig:
    """One file. Values are what YAML makes of them; `os.environ/NAME` stays a text."""

    path: Path
    text: str
    values: Mapping[str, Any]
    lines: Mapping[FieldPath, int]
    """Where each field begins, from 1."""

    def get(self, *path: str) -> Any:
        """The value there; None if there is none."""
        found: Any = self.values
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def where(self, *path: str | int) -> str:
        """`config.yaml:12`; of a field that is not there, the file."""
        line = self.lines.get(path)
        return f"{self.path.name}:{line}" if line else self.path.name

    def listed(self, *path: str) -> list[str]:
        """The texts there, whether they stand in a list or alone."""
        found = self.get(*path)
        return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, str)]

    def deployments(self) -> Iterator[ConfiguredModel]:
        """The items of `model_list` that name a model."""
        listed = self.get("model_list")
        for number, item in enumerate(listed if isinstance(listed, list) else []):
            params = _mapping(item, "litellm_params")
            if isinstance(params.get("model"), str):
                name = str(item.get("model_name", params["model"]))
                line = self.lines.get(("model_list", number), 1)
                yield ConfiguredModel(line, name, params["model"], {**_mapping(item, "model_info"), **params})


def read_config(path: Path) -> LitellmConfig:
    """Read the file. Raises InvalidConfig."""
    try:
        return parse_config(read_text_file(path), path)
    except UnreadableFile as error:
        raise InvalidConfig(str(error)) from None


def parse_config(text: str, path: Path) -> LitellmConfig:
    """A configuration that was read from `path`. Raises InvalidConfig."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        if _merged_fields(root, {}) > MAX_MERGED_FIELDS:
            raise InvalidConfig(f"{path}: its merges (<<) come to more than {MAX_MERGED_FIELDS:,} fields")
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InvalidConfig(
            f"{path}:{mark.line + 1 if mark else 1}: this is no YAML: {error.problem}"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidConfig(f"{path}: this is no YAML: {str(error).partition(chr(10))[0]}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise InvalidConfig(f"{path}: a LiteLLM configuration is a mapping, such as `model_list: …`")
    return LitellmConfig(path, text, values, dict(_lines(root, (), set())))


def _lines(node: yaml.Node | None, path: FieldPath, seen: set[int]) -> Iterator[tuple[FieldPath, int]]:
    # What an alias repeats stands at its anchor; a thousand aliases of aliases would otherwise never end.
    if node is None or id(node) in seen or len(path) > _MAX_DEPTH:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield (*path, key.value), key.start_mark.line + 1
                yield from _lines(value, (*path, key.value), seen)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield (*path, number), item.start_mark.line + 1
            yield from _lines(item, (*path, number), seen)


def _merged_fields(node: yaml.Node | None, known: dict[int, int]) -> int:
    """How many fields YAML's merges would write out: aliases of aliases may come to billions.

    `known`: what nodes come to, by id.
    """
    if node is None or isinstance(node, yaml.ScalarNode):
        return 0
    if id(node) not in known:
        # What merges itself has no end; YAML refuses it.
        known[id(node)] = 0
        if isinstance(node, yaml.SequenceNode):
            known[id(node)] = sum(_merged_fields(item, known) for item in node.value)
        else:
            merged = sum(_merged_fields(value, known) for key, value in node.value if key.tag == _MERGE)
            others = [_merged_fields(value, known) for key, value in node.value if key.tag != _MERGE]
            known[id(node)] = len(node.value) + merged + max(others, default=0)
    return known[id(node)]


def _mapping(item: Any, name: str) -> dict[str, Any]:
    found = item.get(name) if isinstance(item, dict) else None
    return found if isinstance(found, dict) else {}
