"""Parameter values as text: on the command line, in batch files and in reports."""

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from personagap.errors import UserError

#: The largest size of a batch's values, in pieces of JSON.
MAX_PIECES = 1_000_000
CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}


class StrictYaml(yaml.SafeLoader):
    """A YAML loader that reads 1e-4 as a number, as JSON and YAML 1.2 do (YAML 1.1 requires
    1.0e-4), and rejects duplicate names in a mapping, of which PyYAML would take the last, and
    numbers that only YAML 1.1 knows: 010 would be 8, and 1:30 would be 90.
    """

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if (name := str(key.value)) in seen:
                raise yaml.MarkedYAMLError(None, None, f"{name} stands twice", key.start_mark)
            seen.add(name)
        return node

    def construct_yaml_int(self, node):
        if re.fullmatch(r"[-+]?0[0-9_]+|.*:.*", node.value):
            problem = f"{node.value} is no decimal number: write one, or quote it"
            raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
        return super().construct_yaml_int(node)


StrictYaml.add_constructor("tag:yaml.org,2002:int", StrictYaml.construct_yaml_int)
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z")
StrictYaml.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def parse_value(text: str) -> Any:
    """Parse the value of ``-p NAME VALUE``: a number, true/false/null, a list (JSON, YAML) or text.

    Examples
    --------
    >>> [parse_value(text) for text in ("3", "1e-3", "true", "none", '["mmlu", 1e-3]')]
    [3, 0.001, True, 'none', ['mmlu', 0.001]]
    """
    if text in CONSTANTS:
        return CONSTANTS[text]
    for number in (int, float):
        try:
            if math.isfinite(value := number(text)):
                return value
        except (ValueError, OverflowError):
            # Not a number, or too large for a float.
            continue
    if text[:1] not in ("[", "{", '"', "'"):
        return text
    try:
        return limit_size(yaml.load(text, StrictYaml))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f'cannot read the value {text}: write a list as \'["a", "b"]\'') from None


def parse_values(given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Parse the pairs of ``-p NAME VALUE``; `UserError` if a name is given twice."""
    names = [name for name, _ in given]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"-p {name} is given twice: leave one")
    return {name: parse_value(value) for name, value in given}


def limit_size(value: Any) -> Any:
    """Return a value from YAML; raise ValueError if an anchor contains itself, or if nested anchors
    expand to more than any batch needs.
    """
    pieces = json.JSONEncoder(default=str).iterencode(value)
    if next(itertools.islice(pieces, MAX_PIECES, None), None) is not None:
        raise ValueError("anchors of anchors without end")
    return value


def format_value(value: Any) -> str:
    """Return the text that `parse_value` parses as ``value``."""
    # A text that would be parsed as a number or a list needs quotes.
    plain = isinstance(value, str) and value[:1] not in ("[", "{", '"', "'")
    if plain and parse_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def label_changes(changed: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the changed parameters of each run as text, the rarest first, so that runs can be
    distinguished even where the end is cut off.

    Examples
    --------
    >>> label_changes([{"runs": 1, "seed": 0}, {"runs": 1, "seed": 1}])
    ['seed=0 runs=1', 'seed=1 runs=1']
    """
    runs = [[f"{name}={format_value(value)}" for name, value in run.items()] for run in changed]
    count = Counter(itertools.chain(*runs))
    return [" ".join(sorted(settings, key=count.__getitem__)) for settings in runs]
