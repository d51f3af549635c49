"""The rules for model files in one table, the limits of a scan, and its findings so far.

The advisories are those of the CVE records; loading with a fixed Keras refuses most of them, other loaders do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gauntlet.assurance.scan.findings import Finding, Scanned, Severity, by_severity, fingerprint


@dataclass(frozen=True)
class Rule:
    """What a finding of this kind means."""

    id: str
    name: str
    severity: Severity
    message: str
    source: str
    is_unknown: bool = False
    """Whether it says that something is not known to be harmless: then the look was not a whole one."""


_TABLE: tuple[Rule, ...] = (
    Rule("GM001", "lambda-layer", "high", "a Lambda layer runs Python code", "CVE-2024-3660"),
    Rule("GM002", "code-in-config", "high", "Python bytecode in a configuration", "CVE-2024-3660, CVE-2025-9905"),
    Rule("GM003", "foreign-object", "high", "the configuration names a dangerous object", "CVE-2025-1550"),
    Rule(
        "GM004",
        "custom-object",
        "medium",
        "the configuration names what is not on the allow-list",
        "Keras: saving",
        is_unknown=True,
    ),
    Rule(
        "GM005",
        "keras-gadget",
        "high",
        "the configuration names a function of Keras that loads, fetches or turns safe mode off",
        "CVE-2025-8747, CVE-2025-9906",
    ),
    Rule("GM006", "outside-file", "high", "loading reads another file or model", "CVE-2025-12058, CVE-2026-1462"),
    Rule("GM007", "path-escape", "high", "a name leads out of the folder", "CWE-22"),
    Rule("GM008", "decompression-bomb", "high", "unpacks to far more than it should", "CWE-409"),
    Rule("GM009", "hdf5-external", "high", "HDF5 data that lies in another file", "CVE-2026-1669"),
    Rule("GM010", "dangerous-global", "high", "unpickling imports a dangerous object", "CWE-502"),
    Rule(
        "GM011",
        "unknown-global",
        "medium",
        "unpickling imports an object that is not known to be harmless",
        "CWE-502",
        is_unknown=True,
    ),
    Rule("GM012", "hidden-global", "high", "unpickling imports an object whose name is computed", "CWE-502"),
    Rule("GM013", "object-array", "medium", "an array of pickled Python objects", "NumPy: allow_pickle"),
    Rule("GM014", "unpickling-flavor", "medium", "the MLflow flavor unpickles", "MLflow: serialization formats"),
    Rule(
        "GM015",
        "code-beside-model",
        "high",
        "the MLflow model brings code that runs on loading",
        "MLflow: code_paths, models from code",
    ),
    Rule(
        "GM016", "file-operation", "high", "the graph reads or writes files, or calls Python", "TensorFlow: SECURITY.md"
    ),
    Rule("GM017", "ambiguous-archive", "medium", "a file that readers read differently", "CWE-436", is_unknown=True),
    Rule(
        "GM018",
        "custom-operator",
        "medium",
        "the model calls an operation that is not known to only compute",
        "CWE-829",
        is_unknown=True,
    ),
    Rule("GM019", "code-in-program", "high", "loading an exported program runs more than its operations", "CWE-95"),
)
RULES: dict[str, Rule] = {rule.id: rule for rule in _TABLE}
"""Every rule by its number."""


@dataclass(frozen=True)
class Limits:
    """The limits of a scan; everything beyond is reported as not inspected."""

    files: int = 10_000
    """Files of a folder, members of an archive, objects of an HDF5 file."""
    member_bytes: int = 2 << 30
    """Of one member or one compressed stream, unpacked."""
    total_bytes: int = 8 << 30
    """Of all members of an archive, unpacked, as it declares."""
    ratio: int = 200
    """Unpacked by packed size, above `ratio_from` bytes."""
    ratio_from: int = 16 << 20
    text_bytes: int = 64 << 20
    """Of a configuration."""
    depth: int = 4
    """Archives within archives."""
    opcodes: int = 2_000_000
    """Of all pickles of one file."""


@dataclass
class Look:
    """The scan of one model: its findings, and what could not be inspected."""

    limits: Limits = field(default_factory=Limits)
    findings: dict[tuple[str, str, str], Finding] = field(default_factory=dict)
    errors: dict[str, None] = field(default_factory=dict)

    def hit(self, rule: str, file: str, detail: str) -> None:
        """Note a finding; the same detail of the same file counts once. What is not known is an error, too."""
        known, file, detail = RULES[rule], printable(file), printable(detail)
        if known.is_unknown:
            self.error(file, f"{detail}: what it does is not known")
        self.findings.setdefault(
            (rule, file, detail),
            Finding(
                rule=rule,
                name=known.name,
                severity=known.severity,
                confidence="high" if known.severity == "high" else "medium",
                file=file,
                line=0,
                message=f"{known.message}: {detail}",
                fingerprint=fingerprint(rule, file, detail),
                tool="model-file",
            ),
        )

    def error(self, file: str, reason: str) -> None:
        """Note what was not inspected."""
        self.errors[f"{printable(file)}: {printable(reason)}"] = None

    def result(self) -> Scanned:
        """All of it, the worst first."""
        return Scanned(findings=by_severity(self.findings.values()), errors=tuple(self.errors))


def printable(text: str, most: int = 300) -> str:
    """An untrusted text, safe for a terminal: no control characters, no lone surrogates, not long."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text[:most])
    return shown + ("…" if len(text) > most else "")


def escapes(name: str) -> bool:
    """Whether a relative name leads out of the folder it is put into, on any system."""
    parts = re.split(r"[/\\]", name)
    return ".." in parts or name.startswith(("/", "\\")) or bool(re.match(r"[A-Za-z]:", name)) or "\0" in name
