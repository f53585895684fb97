"""Values of parameters as text: on a command line, in a batch file, in a report."""

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from personagap.errors import UserError

#: Parts of JSON that the values of a batch may have.
MOST = 1_000_000
WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}


class Yaml(yaml.SafeLoader):
    """Reads 1e-4 as a number, as JSON and YAML 1.2 do, where YAML 1.1 wants 1.0e-4; and a name that
    stands twice in a mapping is an error, where the last would count.
    """

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if (name := str(key.value)) in seen:
                raise yaml.MarkedYAMLError(None, None, f"{name} stands twice", key.start_mark)
            seen.add(name)
        return node


_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z")
Yaml.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def parse_value(text: str) -> Any:
    """The value of ``-p NAME VALUE``: a number, true/false/null, a YAML or JSON list, or else text.

    Examples
    --------
    >>> [parse_value(text) for text in ("3", "1e-3", "true", "none", '["mmlu", 1e-3]')]
    [3, 0.001, True, 'none', ['mmlu', 0.001]]
    """
    if text in WORDS:
        return WORDS[text]
    for number in (int, float):
        try:
            if math.isfinite(value := number(text)):
                return value
        except (ValueError, OverflowError):
            # It is no number, or one beyond all floats.
            continue
    if text[:1] not in ("[", "{", '"', "'"):
        return text
    try:
        return acyclic(yaml.load(text, Yaml))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f'cannot read the value {text}: write a list as \'["a", "b"]\'') from None


def acyclic(value: Any) -> Any:
    """A value of YAML; ValueError if an anchor holds itself, or anchors of anchors are more than
    any batch needs.
    """
    pieces = json.JSONEncoder(default=str).iterencode(value)
    if next(itertools.islice(pieces, MOST, None), None) is not None:
        raise ValueError("anchors of anchors without end")
    return value


def format_value(value: Any) -> str:
    """The text that `parse_value` reads as ``value``."""
    # A text that would be read as a number or as a list needs quotes.
    plain = isinstance(value, str) and value[:1] not in ("[", "{", '"', "'")
    if plain and parse_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def told_apart(changed: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each of several runs ``changed``, the rarest first: who shows it cuts off its end.

    Examples
    --------
    >>> told_apart([{"runs": 1, "seed": 0}, {"runs": 1, "seed": 1}])
    ['seed=0 runs=1', 'seed=1 runs=1']
    """
    texts = [[f"{name}={format_value(value)}" for name, value in each.items()] for each in changed]
    shared = Counter(itertools.chain(*texts))
    return [" ".join(sorted(each, key=shared.__getitem__)) for each in texts]
