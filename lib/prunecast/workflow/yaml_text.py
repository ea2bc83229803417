"""YAML of study files and of parameters on the command line, read strictly: a key once, numbers as written."""

import re
from typing import Any

import yaml

from prunecast.errors import UserError

INTEGER = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
OWN = ("int", "float", "timestamp")  # types whose notation is another one than in PyYAML


class Loader(yaml.SafeLoader):
    """The safe loader of PyYAML, with three differences.

    A key that occurs twice in a mapping is an error. Numbers are written as in version 1.2 of YAML: `1e-3` is one, and
    `010` is ten. Dates remain text, since no parameter is one.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it so
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in OWN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Read a mapping, and refuse one with a key twice."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for place, key in enumerate(keys):
            if any(key.value == earlier.value for earlier in keys[:place]):
                raise yaml.MarkedYAMLError(problem=f"{key.value} occurs twice", problem_mark=key.start_mark)
        return node


Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"{INTEGER.pattern}$"), list("-+0123456789"))
Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"({FLOAT.pattern})$"), list("-+.0123456789"))
Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


def parse(text: str) -> Any:
    """Read YAML.

    Args:
        text: One document.

    Returns:
        Its content.

    Raises:
        UserError: The text is no YAML, or has a key twice in one mapping; the sentence begins with the line.
    """
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "a character that YAML does not allow"
        raise UserError(f"line {mark.line + 1 if mark else 1}: {problem}") from None
    except (ValueError, RecursionError):  # a tag such as !!int before a word; hundreds of nested brackets
        raise UserError(f"line 1: {text[:40]!r} cannot be read") from None
