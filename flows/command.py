"""One declaration per flow: its settings are the Prefect parameters, the command line and the logged params.

    class Config(Settings): ...

    @flow(Config)
    def train(config): ...

    if __name__ == "__main__":
        main(train)

Imported (by a worker, a test, another flow), `train` is a Prefect flow whose parameters are the fields of `Config`.
Run as a program it stays unmade until the command line is read: Prefect takes more than a second to import, and
`--help` should not.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from gauntlet.assurance.audit.secrets import mask
from gauntlet.commandline import INTERRUPTED, TERMINATED, Parser
from gauntlet.data.stated import KNOWN, Stated
from gauntlet.declare import check_once
from gauntlet.errors import DataError, GauntletError, InputError, SettingError, one_line
from gauntlet.limits import MAX_TEXT
from gauntlet.models.device import Device, choose
from gauntlet.quiet import hush
from gauntlet.state import disk_trouble, tracking_uri

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset

hush()

COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""What libraries put into the texts of their errors to colour them."""
COLLECTING = (200_000, 50, 50)
"""Thresholds of Python's garbage collector: at its own (700), importing the libraries takes half as long again."""


class Chosen(BaseModel):
    """Which data set, ahead of what is stated of it."""

    dataset: str = Field("digits", description=f"digits, mnist, fashion-mnist, cifar10, or {KNOWN}")
    data_dir: str | None = Field(None, description="folder (or archive.zip) that holds the data set's files")


class Settings(Stated, Chosen):
    """Settings of every flow; for the user's own data, all that `Stated` has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=MAX_TEXT)

    seed: int = Field(0, ge=0, lt=2**32, description="of everything that is drawn")
    device: Device = Field("auto", description="auto: a GPU where one is seen; cpu, gpu, or gpu:N")
    tracking_uri: str | None = Field(None, description="MLflow store; default: MLFLOW_TRACKING_URI or the project's")

    @property
    def trains(self) -> bool:
        """Whether training images are needed."""
        return True

    def check(self) -> None:
        """Refuse what cannot be used before a server is started; data that was read is kept for the flow."""
        for name in type(self).model_fields:
            if isinstance(given := getattr(self, name), tuple):
                check_once(given, _spelt(name))
        note = choose(self.device)
        dataset = self.data()
        if self.trains and not len(dataset.y_train):
            fix = "give training images too; gauntlet attack alone needs none"
            raise DataError("holds test images alone", where=self.dataset, fix=fix)
        remark = "" if self.classes else dataset.remark()  # who states the classes knows that some have no image
        for line in filter(None, (note, *dataset.prepared, remark)):
            print(f"note: {line}", file=sys.stderr)

    def data(self) -> Dataset:
        """The data set, read once a process."""
        from gauntlet.data.datasets import read_dataset

        folder = Path(self.data_dir) if self.data_dir else None
        return read_dataset(self.dataset, folder, self.stated())

    def typed(self) -> Self:
        """The settings, typed by a person at a terminal."""
        return self


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Command:
    """A flow that has not been made yet."""

    function: Callable[..., Any]
    config: type[Settings]
    options: dict[str, Any]

    def make(self) -> Any:
        """The Prefect flow."""
        from prefect import flow as prefect_flow

        options: dict[str, Any] = {"name": self.function.__name__, "validate_parameters": True} | self.options
        return prefect_flow(**options)(_with_fields(self.function, self.config))


_DECLARED: dict[str, Command] = {}
PROGRAMS = ("__main__", "__mp_main__")
"""What a module is called that is run as a program, and that program's in processes it starts."""


def flow(config: type[Settings], **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a function of one `config` a Prefect flow whose parameters are the config's fields."""

    def decorate(function: Callable[..., Any]) -> Any:
        command = _DECLARED[function.__module__] = Command(function, config, options)
        return command if function.__module__ in PROGRAMS else command.make()

    return decorate


def declared(module: str) -> Command | None:
    """The flow that an imported module declares, if it declares one."""
    return _DECLARED.get(module)


def _with_fields(function: Callable[..., Any], config: type[Settings]) -> Callable[..., Any]:
    """`function`, called with keywords and described by a signature and a docstring made of the config's fields."""

    def call(**fields: Any) -> Any:
        made = config(**fields)
        _check_trust(made)
        choose(made.device)
        return function(made)

    fields = config.model_fields
    call.__name__ = call.__qualname__ = function.__name__
    call.__module__ = function.__module__
    lines = [f"    {name}: {field.description}" for name, field in fields.items()]
    call.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Args:", *lines])
    call.__signature__ = inspect.Signature([_parameter(*item) for item in fields.items()])  # type: ignore[attr-defined]
    return call


TRUST = "GAUNTLET_ALLOW_TRUST"
"""Set to 1 in a worker's environment, deployments may ask for `trust`; whoever reaches the API may start them."""


def _check_trust(config: Settings) -> None:
    """Refuse `trust` that came over the API, unless the worker's own environment allows it; `SettingError`."""
    from prefect.runtime import deployment
    from prefect.settings import PREFECT_API_URL

    # without a server there are no deployments, and asking for one fails
    deployed = getattr(config, "trust", False) and PREFECT_API_URL.value() and deployment.id
    if deployed and os.environ.get(TRUST) != "1":
        fix = f"start the worker with {TRUST}=1, if you trust all who can reach Prefect"
        raise SettingError("a deployment may not run code that comes with a model", where="trust", fix=fix)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)
    kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def main(command: Command, argv: Sequence[str] | None = None) -> None:
    """Run a flow from the command line and exit: 0 done, 1 failed (its gate), 2 the user's input, 3 inconclusive."""
    gc.set_threshold(*COLLECTING)
    options = vars(_parser(command).parse_args(argv))
    as_json, debug = options.pop("json"), options.pop("debug")
    given = {key: value for key, value in options.items() if value is not None}
    perform(command, lambda: _config(command.config, given).typed(), as_json, debug)


def perform(command: Command, read: Callable[[], Settings], as_json: bool = False, debug: bool = False) -> NoReturn:
    """Run a flow with the settings that are `read`, tell how it ended, and exit."""
    signal.signal(signal.SIGTERM, _terminated)
    # errors are told once, by _explain
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    try:
        # with --json nothing else goes there, whatever a person's own module prints
        with redirect_stdout(sys.stderr if as_json else sys.stdout):
            config = read()
            tracking_uri(config.tracking_uri)
            config.check()
            result = _run(command, config)
    except (Exception, KeyboardInterrupt) as error:
        _exit(_explain(error, debug))
    status = result.pop("exit_status", 0)
    if as_json:
        print(json.dumps(result, default=str))
    _exit(status)


def _exit(status: int) -> NoReturn:
    """Exit without a last collection of everything that was imported, which takes two seconds; `atexit` still runs."""
    gc.freeze()
    sys.exit(status)


def _run(command: Command, config: Settings) -> dict[str, Any]:
    """Run the flow; a result of the flow is the JSON that `--json` prints."""
    from flows.local import local_engine

    made = command.make()
    fields: dict[str, Any] = {name: getattr(config, name) for name in type(config).model_fields}
    with local_engine():
        result: dict[str, Any] = made(**fields)
    return result


class Terminated(KeyboardInterrupt):
    """SIGTERM unwinds like Ctrl-C, so that open runs end FAILED instead of staying RUNNING."""


def _terminated(*_: object) -> None:
    raise Terminated


def _config(config: type[Settings], options: dict[str, Any]) -> Settings:
    return checked(config, options, _spelt, "see --help")


def _spelt(key: str) -> str:
    """A field as a flag."""
    return "--" + key.replace("_", "-")


def checked(config: type[S], options: Mapping[str, Any], spelt: Callable[[str], str], fix: str) -> S:
    """The settings of `options`; `SettingError` in one line at the field, `spelt` as the user did."""
    try:
        return config(**options)
    except ValidationError as error:
        first = error.errors()[0]
        got = one_line(repr(first["input"]), 100)
        field = str(first["loc"][0] if first["loc"] else "")
        where = spelt(field)
        if first["type"] == "missing":
            raise SettingError("is needed", where=where, fix=fix) from None
        if first["type"] == "string_pattern_mismatch":
            fix = f"{config.model_fields[field].description}; {fix}"
        raise SettingError(f"{first['msg']}, got {got}", where=where, fix=fix) from None


class _Once(argparse.Action):
    """A flag that is given once: of two values neither is the one that is meant."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option}: given twice")
        setattr(namespace, self.dest, values)


class _Switch(argparse.BooleanOptionalAction):
    """The same for `--flag` and `--no-flag`."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option}: given twice")
        super().__call__(parser, namespace, values, option)


def _parser(command: Command) -> argparse.ArgumentParser:
    """A flag for every field; values stay text, since the config checks and converts them."""
    name = {"suite": "run"}.get(command.function.__name__, command.function.__name__)
    text = (inspect.getdoc(command.function) or "").split("\n\n")[0]
    parser = Parser(f"gauntlet {name}", description=text, allow_abbrev=False)
    add_flags(parser, command)
    return parser


def add_flags(parser: argparse.ArgumentParser, command: Command) -> None:
    """Add a flag for every field of the command's config, and those that every command has."""
    for key, field in command.config.model_fields.items():
        _add(parser, key, field)
    parser.add_argument("--json", action="store_true", help="end standard output with one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the whole stack trace of an error")


def _add(parser: argparse.ArgumentParser, key: str, field: FieldInfo) -> None:
    flag = _spelt(key)
    usual = field.get_default(call_default_factory=True)
    help_text = f"{field.description}{'' if usual in (None, (), False) else f' (default: {_plain(usual)})'}"
    if field.annotation is bool:
        parser.add_argument(flag, action=_Switch, default=None, help=help_text.replace("%", "%%"))
    else:
        many = "append" if get_origin(field.annotation) is tuple else _Once
        bare = _bare(field)
        parser.add_argument(flag, action=many, metavar=_metavar(key, field), help=help_text.replace("%", "%%"), **bare)


def _bare(field: FieldInfo) -> dict[str, Any]:
    """A field whose schema has a `bare` value may be given without one: `--flag` means that value."""
    extra = field.json_schema_extra
    return {"nargs": "?", "const": extra["bare"]} if isinstance(extra, dict) and "bare" in extra else {}


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_plain(item) for item in value)
    return str(getattr(value, "name", value))


def _metavar(key: str, field: FieldInfo) -> str:
    """What stands for a flag's value in its help: the kind of number, the choices, or the flag's own name."""
    kinds = _kinds(field.annotation)
    if kinds <= {int, float}:
        return "INT" if kinds == {int} else "FLOAT"
    if kinds == {bool}:
        return "{true,false}"
    if all(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
        return "NAME:KEY=VALUE"
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    return f"{{{','.join(choices)}}}" if choices and len(kinds) == 1 else key.upper()


def _kinds(annotation: Any) -> set[Any]:
    """The types that one value of a field may have."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (tuple, Union, UnionType):
        parts = [part for part in get_args(annotation) if part not in (..., NoneType)]
        return set().union(*map(_kinds, parts))
    return {annotation}


def _explain(error: BaseException, debug: bool) -> int:
    """Tell the user in one line, or in full with `--debug`; returns the exit status."""
    if debug:
        traceback.print_exception(error)
    cause = _cause(error)
    if isinstance(cause, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return TERMINATED if isinstance(cause, Terminated) else INTERRUPTED
    if isinstance(cause, GauntletError):
        message = one_line(mask(COLOURS.sub("", str(cause))))
        print(f"{'error' if isinstance(cause, InputError) else 'failed'}: {message}", file=sys.stderr)
        return cause.exit_status
    if trouble := disk_trouble(error):
        print(f"failed: {trouble}", file=sys.stderr)
    elif not debug:
        where = traceback.extract_tb(cause.__traceback__)[-1]
        message = one_line(mask(COLOURS.sub("", f"{type(cause).__name__}: {cause}")), 1_000)
        print(f"failed: {message} ({where.name}; --debug shows all)", file=sys.stderr)
    return 1


def _cause(error: BaseException) -> BaseException:
    """The project's own error among an error and its causes, else the error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, GauntletError):
            return seen
        seen = seen.__cause__
    return error
