"""Who reads a block's `.weight` itself instead of calling the block: seen in the source of the modules around it."""

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from fastkan.nn.replace.model import Model

INITIALISER = re.compile(r"_*(init|initiali[sz]e|reset)(_.*)?")  # names of methods
METADATA = ("dtype", "device", "is_cuda", "is_meta", "requires_grad")  # a KAN layer's weight has the same as the linear's


class Reading(NamedTuple):
    """An expression `<anything>.weight`, and the class whose source holds it."""

    expression: str
    source: type


def _looks_only(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that say something about a tensor without computing with it."""
    if isinstance(node, ast.Attribute) and node.attr in METADATA:
        yield node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
        yield node.args[0]
    elif isinstance(node, ast.Compare) and all(isinstance(operator, ast.Is | ast.IsNot) for operator in node.ops):
        yield node.left


@functools.cache
def _weights_read(cls: type) -> list[Reading]:
    """All readings of a weight in the code of a module's class and its parents, without those in initialisers."""
    read = []
    for part in cls.__mro__:
        if part in (nn.Module, object):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(part)))
        except (OSError, TypeError, SyntaxError):  # a class without source: built in, or typed at a prompt
            continue
        for statement in getattr(tree.body[0], "body", []):
            if INITIALISER.fullmatch(getattr(statement, "name", "")):
                continue
            nodes = list(ast.walk(statement))
            harmless = {id(inner) for node in nodes for inner in _looks_only(node)}
            read += [
                Reading(ast.unparse(node), part)
                for node in nodes
                if isinstance(node, ast.Attribute) and node.attr == "weight" and id(node) not in harmless
            ]
    return read


def readings(model: Model, name: str) -> Iterator[tuple[nn.Module, type]]:
    """(module, class whose source reads it) for all that read the `.weight` of the block `name` themselves.

    Such a module (nn.MultiheadAttention, for its out_proj) does not call the block's forward, so it would read KANLinear's weight
    [I, M, O] as a matrix. Any index in the source matches any index in the name.
    """
    path = name.split(".")
    for depth, (_, owner) in enumerate(model.ancestors(name)):
        inner = "".join(rf"(?:\.{re.escape(part)}|\[.*\])" for part in path[depth:])
        cls: type = type(owner)
        for expression, source in _weights_read(cls):
            if re.fullmatch(rf"self{inner}\.weight", expression):
                yield owner, source
