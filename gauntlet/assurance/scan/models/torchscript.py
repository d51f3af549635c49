"""TorchScript: a language with Python's syntax that can call only PyTorch's operations.

Operations that only compute are listed (`torch_ops.txt`). The code is read by Python's parser, so only text that both
parsers read identically is accepted: plain ASCII, no declaration of another encoding, no unusual line ends.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from gauntlet.assurance.scan.models.rules import Look
from gauntlet.assurance.scan.models.torchfiles import allowed, rule_of

_PLAIN = re.compile(rb"[ -~\n]*")
_LANGUAGE = {
    "abs", "all", "annotate", "any", "bin", "bool", "chr", "complex", "dict", "divmod", "enumerate", "float", "getattr",
    "hasattr", "hex", "int", "isinstance", "len", "list", "max", "min", "oct", "ord", "range", "round", "sorted", "str",
    "sum", "tuple", "unchecked_cast", "uninitialized", "zip",
}  # fmt: skip
"""What may be called by a bare name. Left out: `print`, `fork`, `awaitable`, `rpc_*`."""
_PRIMITIVES = {
    "data", "device", "dtype", "grad", "is_cuda", "is_mps", "is_quantized", "is_sparse", "layout", "max", "min", "name",
    "NumToTensor", "RaiseException", "requires_grad", "shape", "TupleIndex", "type", "unchecked_cast",
    "unchecked_unwrap_optional", "Uninitialized",
}  # fmt: skip
"""Operations of the language itself. Left out: calls of other machines (`rpc_*`), Python's, and printing."""
_ROOTS = ("torch", "ops", "__torch__", "CONSTANTS")
_OWN, _BOUND = "__torch__.", "__torch__.torch.classes."
"""Classes of the archive, and those that libraries bring, which are written in C++."""


def scan_code(sources: dict[str, bytes], file: str, look: Look) -> None:
    """Note operations that are not known to do nothing but compute; `sources` are all of an archive's, by name."""
    trees = {}
    for where, text in sources.items():
        try:
            if not _PLAIN.fullmatch(text) or b"\\\n" in text:
                raise ValueError("characters that parsers differ about")
            trees[where] = ast.parse(text.decode("ascii"))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            look.error(file, f"{where} is not TorchScript that can be read: {type(error).__name__}")
    own = Own.of(list(trees.values()))
    for where, tree in trees.items():
        for rule, what in dict.fromkeys(_odd(tree, own)):
            look.hit(rule, file, f"{where}: {what}")


@dataclass(frozen=True)
class Own:
    """What the archive defines itself: names of functions, and of attributes that hold modules."""

    functions: frozenset[str]
    modules: frozenset[str]

    @classmethod
    def of(cls, trees: list[ast.Module]) -> Own:
        """An attribute holds modules where every class that declares it says so."""
        nodes = [node for tree in trees for node in ast.walk(tree)]
        types = [pair for node in nodes if isinstance(node, ast.ClassDef) for pair in _declared(node)]
        others = {name for name, kind in types if not _is_own(kind)}
        functions = frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef))
        return cls(functions, frozenset(name for name, _ in types) - others)


def _declared(owner: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """Attributes of a class and their types: `name : type`, and `__annotations__["name"] = type`."""
    for node in owner.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.annotation
        elif isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Subscript):
            yield _text(target.slice), node.value


def _is_own(kind: ast.expr | None) -> bool:
    """Whether a type is a class of the archive."""
    name = _dotted(kind) if kind is not None else ""
    return name.startswith(_OWN) and not name.startswith(_BOUND)


def _odd(tree: ast.Module, own: Own) -> Iterator[tuple[str, str]]:
    """Rule and description of whatever is not on a list."""
    nodes = list(ast.walk(tree))
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            yield from _operation(_dotted(node))
        elif isinstance(node, ast.Name) and node.id in _ROOTS and id(node) not in inner:
            yield "GM018", f"{node.id} under another name"
    for function in [node for node in nodes if isinstance(node, ast.FunctionDef)]:
        yield from _methods(function, own)


def _operation(name: str) -> Iterator[tuple[str, str]]:
    """An operation by its full name."""
    root, _, rest = name.partition(".")
    if root == "torch" and rest.partition(".")[0] not in allowed():
        yield rule_of(rest), name
    elif (root == "ops" and not _is_known(rest)) or name.startswith(_BOUND):
        yield "GM018", name


def _is_known(rest: str) -> bool:
    """Whether it is an operation of the language or of PyTorch's own that computes."""
    space, _, operation = rest.partition(".")
    name = operation.partition(".")[0]
    return (space == "prim" and name in _PRIMITIVES) or (space == "aten" and name in allowed())


def _methods(function: ast.FunctionDef, own: Own) -> Iterator[tuple[str, str]]:
    """Whatever is called: of the archive's modules its own methods, of everything else operations."""
    given = _bound(function)
    modules = _holding(function, given, own)
    functions = {name for name, values in given.items() if all(_is_own(value) for value in values)}
    for call in [node for node in ast.walk(function) if isinstance(node, ast.Call)]:
        if isinstance(call.func, ast.Attribute):
            known = own.functions if _is_module(call.func.value, modules, own) else allowed()
            if not _dotted(call.func).startswith(_SPACES) and call.func.attr not in known:
                yield rule_of(call.func.attr), f".{call.func.attr}()"
        elif not isinstance(call.func, ast.Name):
            yield "GM018", "what is called has no name"
        elif call.func.id == "getattr" and not (len(call.args) == 2 and _is_module(call.args[0], modules, own)):
            yield "GM018", f"getattr {_text(call.args[1]) if len(call.args) > 1 else ''}"
        elif call.func.id not in _LANGUAGE | functions:
            yield "GM018", f"{call.func.id}()"


_SPACES = ("torch.", "ops.", "__torch__.")
Bound = dict[str, list[ast.expr | None]]
"""What the variables of a function are bound to, by name, in the order of lines; None for all but `name = ...`."""


def _bound(function: ast.FunctionDef) -> Bound:
    nodes = list(ast.walk(function))
    plain = {id(node.targets[0]): node.value for node in nodes if isinstance(node, ast.Assign)}
    names = [node for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    given: Bound = {}
    for name in sorted(names, key=lambda name: (name.lineno, name.col_offset)):
        given.setdefault(name.id, []).append(plain.get(id(name)))
    return given


def _holding(function: ast.FunctionDef, given: Bound, own: Own) -> set[str]:
    """Variables that hold modules and nothing else."""
    modules = {argument.arg for argument in function.args.args if _is_own(argument.annotation)}
    for variable, values in given.items():
        if all(value is not None and _is_module(value, modules, own) for value in values):
            modules.add(variable)
        else:
            modules.discard(variable)
    return modules


def _is_module(node: ast.expr, modules: set[str], own: Own) -> bool:
    """Whether an expression is one of the archive's own modules, as far as declarations tell."""
    if isinstance(node, ast.Name):
        return node.id in modules
    if isinstance(node, ast.Attribute):
        return node.attr in own.modules and _is_module(node.value, modules, own)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
        if node.func.id == "getattr":
            return _text(node.args[1]) in own.modules and _is_module(node.args[0], modules, own)
        return node.func.id == "unchecked_cast" and _is_own(node.args[0])
    return False


def _dotted(node: ast.AST) -> str:
    """`torch.nn.f` of an attribute of an attribute of a name; else nothing."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *parts[::-1]]) if isinstance(node, ast.Name) else ""


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
