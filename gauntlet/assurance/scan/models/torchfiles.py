"""What PyTorch's archives hold beside pickles: the code of TorchScript, the programs of `torch.export`.

TorchScript is a language of its own, written like Python: it can call PyTorch's operations only, and those are on a
list. A program's description holds more than operations: texts that PyTorch evaluates when it loads one.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from gauntlet.assurance.scan.models.rules import Look

CODE = re.compile(r"[^/]+/code/[\w/.]+\.py")
"""TorchScript's members."""
PROGRAM = re.compile(r"[^/]+/models/[^/]+\.json")
"""Descriptions of exported programs."""
INERT = re.compile(
    r"[^/]+/(data/(weights|constants)/(weight|tensor|constant|custom_obj)_\d+|archive_(format|version)"
    r"|data/(weights|constants)/\w+_config\.json|(constants|traced_inputs)/\d+|\.data/version)"
)
"""Members of a `.pt2` that are bare numbers, or say where they are."""
_SYMBOL = re.compile(r"Symbol\('[su]\d+'(, (positive|integer|nonnegative|real)=(True|False))*\)")
_SIZE = re.compile(r"L\['\w+'\](\[\d+\])*\.(size|stride)\(\)\[\d+\]")
_WORD = re.compile(r"[A-Za-z_]\w*")
_FUNCTIONS = {
    "Add", "And", "CeilDiv", "CleanDiv", "Eq", "Equality", "False", "FloatTrueDiv", "FloorDiv", "Ge", "GreaterThan",
    "Gt", "Half", "IntTrueDiv", "Integer", "Le", "LessThan", "Lt", "Max", "Min", "Mod", "Mul", "Ne", "NegativeOne",
    "Not", "One", "Or", "Pow", "PythonMod", "Rational", "StrictGreaterThan", "StrictLessThan", "ToFloat", "True",
    "TruncToInt", "Unequality", "Zero", "ceiling", "floor", "int_oo", "oo",
}  # fmt: skip
"""Of SymPy's."""
_FLOAT = re.compile(r"Float\('[\d.e+-]+', precision=\d+\)")
_OPERATORS = {"add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "getitem", "eq", "ne", "lt", "le", "gt",
              "ge", "and_", "or_", "not_", "pos"}  # fmt: skip
_TREES = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
_PRIMITIVES = {
    "data", "device", "dtype", "grad", "is_cuda", "is_mps", "is_quantized", "is_sparse", "layout", "max", "min", "name",
    "NumToTensor", "RaiseException", "requires_grad", "shape", "TupleIndex", "type", "unchecked_cast",
    "unchecked_unwrap_optional", "Uninitialized",
}  # fmt: skip
"""Operations of the language itself. Left out: calls of other machines (`rpc_*`), Python's, and printing."""
_WRITING = {"save", "from_file", "_print", "warn", "manual_seed", "set_grad_enabled", "backward", "record_stream"}
"""A function of the archive's own that is called so does not make the operation harmless."""
_SPACES = ("torch.", "ops.", "__torch__.")


@lru_cache
def _allowed() -> frozenset[str]:
    """Operations that compute."""
    lines = Path(__file__).with_name("torch_ops.txt").read_text().splitlines()
    return frozenset(name for line in lines if not line.startswith("#") for name in line.split())


# --- TorchScript ----------------------------------------------------------------------------------------------


def scan_code(sources: dict[str, bytes], file: str, look: Look) -> None:
    """Note operations that are not known to do nothing but compute; `sources` are all of an archive's, by name."""
    trees = {}
    for where, text in sources.items():
        try:
            trees[where] = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            look.error(file, f"{where} is not TorchScript that can be read: {type(error).__name__}")
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef)} - _WRITING
    for where, tree in trees.items():
        _names(tree, own, file, where, look)


def _names(tree: ast.AST, own: set[str], file: str, where: str, look: Look) -> None:
    """Operations by their full names, and methods: those of a tensor are operations too."""
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    inner = {id(node.value) for node in attributes}
    for name in sorted({_dotted(node) for node in attributes if id(node) not in inner}):
        _operation(name, file, where, look)
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    methods = {
        node.attr for node in called if isinstance(node, ast.Attribute) and not _dotted(node).startswith(_SPACES)
    }
    for name in sorted(methods - own - _allowed()):
        look.hit(_rule(name), file, f"{where}: .{name}()")


def _dotted(node: ast.AST) -> str:
    """`torch.nn.f` of an attribute of an attribute of a name; else nothing."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *parts[::-1]]) if isinstance(node, ast.Name) else ""


def _operation(name: str, file: str, where: str, look: Look) -> None:
    root, _, rest = name.partition(".")
    if root == "torch" and rest.partition(".")[0] not in _allowed():
        look.hit(_rule(rest), file, f"{where}: {name}")
    elif root == "ops" and not _is_known(rest):
        look.hit("GM018", file, f"{where}: {name}")


def _rule(operation: str) -> str:
    """Whatever has a file in its name reads or writes one; the rest is not known."""
    return "GM016" if re.search(r"file|save|load", operation) else "GM018"


def _is_known(rest: str) -> bool:
    """Whether it is an operation of the language or of PyTorch's own that computes."""
    space, _, operation = rest.partition(".")
    name = operation.partition(".")[0]
    return (space == "prim" and name in _PRIMITIVES) or (space == "aten" and name in _allowed())


# --- exported programs ----------------------------------------------------------------------------------------


def scan_program(text: bytes, file: str, where: str, look: Look) -> None:
    """Note operations that are not known, and texts that are more than sizes: loading evaluates them."""
    try:
        program = json.loads(text)
    except (ValueError, RecursionError) as error:
        look.error(file, f"{where} is not a program that can be read: {type(error).__name__}")
        return
    for key, value in _entries(program):
        if key == "target" and not _is_target(value):
            look.hit(_rule(str(value)), file, f"{where}: {value}")
        elif not _is_inert(key, value):
            look.hit("GM019", file, f"{where}: {key} {value}")


def _is_inert(key: str, value: Any) -> bool:
    """Whether an entry that PyTorch evaluates, or builds objects from, is arithmetic or plain."""
    if key in ("expr_str", "guards_code"):
        return all(_is_arithmetic(each) for each in _listed(value))
    return key not in ("in_spec", "out_spec", "treespec") or not value or _is_tree(value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _entries(node: Any) -> Iterator[tuple[str, Any]]:
    """Every entry of every mapping."""
    left = [node]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield from one.items()
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)


def _is_target(target: Any) -> bool:
    """Whether a node calls an operation that computes."""
    parts = str(target).split(".")
    if parts[:3] == ["torch", "ops", "aten"]:
        return len(parts) == 5 and parts[3] in _allowed()
    if len(parts) == 2 and parts[0] in ("_operator", "operator"):
        return parts[1] in _OPERATORS
    return bool(re.fullmatch(r"torch\.sym_\w+|math\.(floor|ceil|trunc|sqrt)", str(target)))


def _is_arithmetic(text: Any) -> bool:
    """Whether a text is made of numbers, sizes and what is computed from them."""
    if not isinstance(text, str):
        return False
    bare = _FLOAT.sub("0", _SIZE.sub("0", _SYMBOL.sub("0", text)))
    if re.search(r"[^\w\s+\-*/(),.<>=&|]", bare) or "__" in bare:
        return False
    known = all(word in _FUNCTIONS or re.fullmatch(r"[su]\d+", word) for word in _WORD.findall(bare))
    return known and not re.search(r"\.\s*[A-Za-z_]", bare)


def _is_tree(text: Any) -> bool:
    """Whether a description of nested results is made of tuples, lists and dicts with plain keys."""
    try:
        left = [json.loads(text)]
    except (ValueError, TypeError, RecursionError):
        return False
    while left:
        node = left.pop()
        if isinstance(node, list):
            left.extend(node)
        elif isinstance(node, dict):
            context = json.loads(node.get("context") or "null") if isinstance(node.get("context"), str) else None
            keys = context if isinstance(context, list) else [context]
            if node.get("type") not in _TREES or not all(isinstance(key, str | int | None) for key in keys):
                return False
            left.extend(node.get("children_spec") or [])
    return True
