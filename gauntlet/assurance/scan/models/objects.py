"""Which Python objects an untrusted file may name: harmless, dangerous, or unknown.

A deny list alone is never complete, so a name in neither list is a finding too (fickling and picklescan were
bypassed by functions that were missing in their lists).

>>> rule_of("os", "system"), rule_of("numpy", "dtype"), rule_of("somebody.module", "Model")
('GM010', None, 'GM011')
"""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from functools import lru_cache
from pathlib import Path

_BUILTINS = {"builtins", "__builtin__", "__builtins__"}
_HARMLESS_BUILTINS = {
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set",
    "slice", "str", "tuple", "Ellipsis", "NotImplemented", "NoneType",
}  # fmt: skip
_ALLOWED = {
    "_codecs": {"encode"},
    "collections": {"OrderedDict", "defaultdict", "deque", "Counter"},
    "copyreg": {"_reconstructor"},
    "copy_reg": {"_reconstructor"},
    "datetime": {"date", "datetime", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "uuid": {"UUID"},
    "joblib.numpy_pickle": {"NumpyArrayWrapper"},
    "numpy": {"dtype", "ndarray", "bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8",
              "uint16", "uint32", "uint64", "str_", "bytes_", "complex64", "complex128", "datetime64"},
    "numpy.ma": {"MaskedArray"},
    "numpy.ma.core": {"MaskedArray", "_mareconstruct"},
    "numpy.random._pickle": {"__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"},
    "numpy.random._mt19937": {"MT19937"},
    "numpy.random._pcg64": {"PCG64"},
    "numpy.random.bit_generator": {"SeedSequence", "__pyx_unpickle_SeedSequence"},
    "scipy.sparse._csr": {"csr_matrix", "csr_array"},
    "scipy.sparse._csc": {"csc_matrix", "csc_array"},
    "scipy.sparse._coo": {"coo_matrix", "coo_array"},
    "sklearn.neighbors._kd_tree": {"newObj"},
    "sklearn.neighbors._ball_tree": {"newObj"},
    "sklearn.metrics._dist_metrics": {"newObj"},
    "torch": {"BFloat16Storage", "BoolStorage", "ByteStorage", "CharStorage", "DoubleStorage", "FloatStorage",
              "HalfStorage", "IntStorage", "LongStorage", "ShortStorage", "Size", "device"},
    "torch._utils": {"_rebuild_tensor_v2", "_rebuild_parameter"},
    "torch.jit._pickle": {"build_boollist", "build_doublelist", "build_intlist", "build_tensorlist",
                          "restore_type_tag"},
}  # fmt: skip
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module] = {"_reconstruct", "scalar"}
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _ALLOWED[_module] = {"_frombuffer"}


@lru_cache
def _sklearn() -> dict[str, set[str]]:
    """scikit-learn's classes by the module that defines them: a module that imports others re-exports them, too."""
    lines = Path(__file__).with_name("sklearn_names.txt").read_text().splitlines()
    pairs = (line.split(": ", 1) for line in lines if not line.startswith("#"))
    return {module: set(names.split()) for module, names in pairs}


_DANGEROUS_MODULES = {
    "os", "posix", "nt", "ntpath", "posixpath", "subprocess", "_posixsubprocess", "commands", "sys", "pty", "platform",
    "shutil", "socket", "_socket", "ssl", "asyncio", "multiprocessing", "_multiprocessing", "concurrent", "threading",
    "_thread", "signal", "ctypes", "_ctypes", "cffi", "mmap", "resource",
    "importlib", "_frozen_importlib", "_frozen_importlib_external", "imp", "_imp", "runpy", "pkgutil", "zipimport",
    "zipapp", "site", "code", "codeop", "pdb", "bdb", "doctest", "trace", "timeit", "profile", "cProfile", "unittest",
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle", "types", "inspect", "gc",
    "operator", "_operator", "functools", "_functools", "builtins", "io", "_io", "codecs", "tempfile", "fileinput",
    "linecache", "glob", "logging", "webbrowser", "antigravity", "this", "idlelib", "lib2to3", "distutils",
    "setuptools", "pip", "ensurepip", "venv", "urllib", "urllib2", "urllib3", "http", "httplib", "requests", "httpx",
    "aiohttp", "ftplib", "smtplib", "telnetlib", "poplib", "imaplib", "xmlrpc", "socketserver", "tkinter", "curses",
    "readline", "pydoc", "_osx_support", "_pyio", "_aix_support", "sysconfig", "nturl2path", "netrc", "mailcap",
    "cgi", "wsgiref", "dbm", "plistlib", "bz2", "gzip", "lzma", "csv", "configparser", "getpass", "atexit", "sched",
    "queue", "IPython", "bdist", "py_compile", "compileall", "sqlite3", "_sqlite3", "tarfile", "zipfile", "_pyrepl",
    "_signal", "nntplib", "pexpect", "select", "selectors", "syslog", "test", "filecmp", "eval", "exec", "compile",
}  # fmt: skip
_DANGEROUS_BELOW = (
    "numpy.testing", "numpy.f2py", "numpy.distutils", "numpy.lib", "numpy.ctypeslib", "torch.hub", "torch.compile",
    "torch.serialization", "torch.utils", "torch.jit", "torch.package", "torch._dynamo", "torch._inductor", "torch.fx",
    "torch.distributed", "torch.storage", "joblib",
    "keras.src.saving", "keras.saving", "keras.models", "tensorflow", "mlflow",
)  # fmt: skip
_ANYWHERE = {"os", "posix", "nt", "subprocess", "sys", "builtins", "ctypes", "importlib", "shutil", "socket", "pty"}
"""Modules that others import, so that `numpy.x.os.system` is one more way to them."""
_DANGEROUS_NAMES = {
    "eval", "exec", "execfile", "system", "popen", "load", "loads", "load_model", "fromfile", "memmap", "load_library",
    "__import__", "__globals__", "__builtins__", "__subclasses__", "__getattribute__", "__reduce__", "__reduce_ex__",
}  # fmt: skip


_DANGEROUS_STARTS = ("read_", "_read_", "_get_command", "_run", "_popen", "open", "to_pickle", "save", "exec", "spawn")
"""How functions are called that read or write files or start commands, wherever they are."""


def rule_of(module: str, name: str) -> str | None:
    """The rule against importing this object (GM010 dangerous, GM011 unknown), or None for a harmless one."""
    # Protocols below 3 name Python 2's modules, and the loader translates them.
    other = NAME_MAPPING.get((module, name)) or (IMPORT_MAPPING.get(module, module), name)
    if is_dangerous(module, name) or is_dangerous(*other):
        return "GM010"
    return None if _is_harmless(module, name) and _is_harmless(*other) else "GM011"


def _is_harmless(module: str, name: str) -> bool:
    if module in _BUILTINS:
        return name in _HARMLESS_BUILTINS
    if module == "__torch__" or module.startswith("__torch__."):  # a class of TorchScript: no module is called so
        return not f"{module}.{name}".startswith("__torch__.torch.classes.")  # these are libraries', in C++
    if name in _sklearn().get(module, ()):
        return True
    return name in _ALLOWED.get(module, ())


def is_dangerous(module: str, name: str) -> bool:
    """Whether the object can run code, reach files or the network, or load more."""
    if module in _BUILTINS:
        return name not in _HARMLESS_BUILTINS
    if name in _ALLOWED.get(module, ()):
        return False
    parts, names = module.split("."), name.split(".")
    return (
        parts[0] in _DANGEROUS_MODULES
        or any(module == below or module.startswith(f"{below}.") for below in _DANGEROUS_BELOW)
        or not _ANYWHERE.isdisjoint([*parts[1:], *names])
        or names[-1] in _DANGEROUS_NAMES
        or names[-1].startswith(_DANGEROUS_STARTS)
    )
