"""What PyTorch's archives contain besides pickles: the meaning of members, and the programs of `torch.export`.

A program contains more than operations: texts that PyTorch evaluates when it loads it, and
tables of the weights, which may declare a weight to be a pickle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from gauntlet.assurance.scan.models.rules import Look

CODE = re.compile(r"[^/]+/code/[\w/.]+\.py")
"""TorchScript's members."""
PROGRAM = re.compile(r"[^/]+/models/[^/]+\.json")
"""Descriptions of exported programs."""
INERT = re.compile(
    r"[^/]+/(data/(weights/weight|constants/tensor)_\d+|archive_(format|version)|\.data/version|(constants|traced_inputs)/\d+)"
)
"""Members that are bare numbers; of a program's, where its table of weights says so."""
TABLE = re.compile(r"[^/]+/data/(weights|constants)/\w+_config\.json")
"""Where the weights of an exported program lie, and how they are kept."""
_EXPORTED = re.compile(
    rf"{PROGRAM.pattern}|{TABLE.pattern}|{INERT.pattern}|[^/]+/(byteorder|version|\.data/serialization_id"
    r"|data/sample_inputs/[^/]+\.pt)"
)
"""All that an exported program holds."""
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


@lru_cache
def allowed() -> frozenset[str]:
    """Operations that compute."""
    lines = Path(__file__).with_name("torch_ops.txt").read_text().splitlines()
    return frozenset(name for line in lines if not line.startswith("#") for name in line.split())


def rule_of(operation: str) -> str:
    """Whatever has a file in its name reads or writes one; the rest is not known."""
    return "GM016" if re.search(r"file|save|load", operation) else "GM018"


def scan_members(names: Collection[str], file: str, look: Look) -> None:
    """Note what no exported program has, such as machine code, which is run when the program is loaded."""
    if any(name.endswith("/archive_format") for name in names):
        for name in sorted(name for name in names if not _EXPORTED.fullmatch(name) and not name.endswith("/")):
            look.hit("GM019", file, f"{name} is no part of a program")


def scan_table(text: bytes, file: str, where: str, look: Look) -> None:
    """Note weights that are kept in another way than as bare numbers under a name for these."""
    try:
        entries = json.loads(text)["config"]
        kept = [(entry["path_name"], entry["use_pickle"]) for entry in entries.values()]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        look.error(file, f"{where} is not a table of weights that can be read: {type(error).__name__}")
        return
    for name, pickled in kept:
        if pickled is not False or not re.fullmatch(r"(weight|tensor)_\d+", str(name)):
            look.hit("GM019", file, f"{where}: {name} is a pickle")


def scan_program(text: bytes, file: str, where: str, look: Look) -> None:
    """Note operations that are not known, and texts that are more than sizes: loading evaluates them."""
    try:
        program = json.loads(text)
    except (ValueError, RecursionError) as error:
        look.error(file, f"{where} is not a program that can be read: {type(error).__name__}")
        return
    for key, value in _entries(program):
        if key in ("target", "as_operator") and not _is_target(value):
            look.hit(rule_of(str(value)), file, f"{where}: {value}")
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
        return len(parts) == 5 and parts[3] in allowed()
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
