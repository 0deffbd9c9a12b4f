"""Every key of a configuration with its default and comment, as YAML, read off the dataclasses that declare it."""

import ast
import dataclasses
import inspect
import textwrap
import typing

import yaml


def documented(schema: type, depth: int = 0) -> str:
    """A tree of dataclasses as YAML text that loads to its defaults, with the comments of its source."""
    text = textwrap.dedent(inspect.getsource(schema))
    lines, kinds = text.splitlines(), typing.get_type_hints(schema)
    body = ast.parse(text).body[0].body
    fields = {node.lineno: node for node in body if isinstance(node, ast.AnnAssign)}
    indent, found, number = "  " * depth, [], min(fields)
    while lines[number - 2].lstrip().startswith("#"):  # of the first field
        number -= 1
    while number <= len(lines):
        node, line = fields.get(number), lines[number - 1].strip()
        if node is None:
            if line.startswith("#"):
                found.append(indent + line)
            number += 1
            continue
        name, kind = node.target.id, kinds[node.target.id]
        comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip()
        if dataclasses.is_dataclass(kind):
            found += [f"{indent}{name}:{'  ' if comment else ''}{comment}", documented(kind, depth + 1)]
        else:
            found.append(f"{indent}{name}: {_default(schema, name)}{'  ' if comment else ''}{comment}")
        number = node.end_lineno + 1
    return "\n".join(found)


def _default(schema: type, name: str) -> str:
    """A field's default in YAML, on one line."""
    [field] = (field for field in dataclasses.fields(schema) if field.name == name)
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf")).strip()[1:-1]
