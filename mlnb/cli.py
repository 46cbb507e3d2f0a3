"""The verbs from a shell: ``mlnb list``, ``mlnb show iris@champion``, ``mlnb serve iris:3``."""

from __future__ import annotations

import gc
import io
import os
import re
import shlex
import sys
import unicodedata
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast

from mlnb.errors import InvalidInputError, MlnbError, UntrustedError, nearest

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from re import Match

    from mlnb.monitoring.prediction_log import LogSettings
    from mlnb.registry import ModelRegistry, ModelVersion
    from mlnb.scaling.autoscale import Autoscale

__all__ = ["main"]

_FAILED, _MISUSED, _INTERRUPTED, _PIPE_CLOSED = 1, 2, 130, 141  # as a shell numbers them: 128 + the signal
_NOTHING = "none"
_DATABASES = "give the path of an SQLite file, or postgresql://USER:PASSWORD@HOST/DATABASE"
_RULE = re.compile(r"\b(?:forecast=True|(?:p95|p99|policy|target|idle)(?==|(?: and \w+)* cannot\b))")  # in a refusal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.

    Returns
    -------
    int
        The exit code: 0; 1 if it failed or, of ``prove``, the version is not portable; 2 if the arguments are not
        understood; 130 after Ctrl-C; 141 if nobody reads what it prints.

    Examples
    --------
    >>> main(["--version"])  # doctest: +ELLIPSIS
    mlnb ...
    0
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ● and → shows the rest all the same
    try:
        code = _run(arguments)
        sys.stdout.flush()  # here, so that a closed pipe is met here and not while Python ends
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # as of `mlnb list | head`
        _discard_output()
        return _PIPE_CLOSED
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        given = _parser().parse_args(arguments)
    except SystemExit as ended:  # after -h, --version or a mistake
        return cast("int", ended.code)
    try:
        return cast("int", given.run(given))
    except UntrustedError as error:
        return _fail(f"{error} In a shell: mlnb trust {shlex.quote(_registry(given).url)}")
    except MlnbError as error:
        return _fail(str(error))


def _list(given: Namespace) -> int:
    if given.live:
        return _list_live(given)
    from mlnb.registry.tables import version_table

    registry = _registry(given)
    if not (given.name or given.json):
        _say_live()
    table = version_table(registry, given.name, shown=None)
    if given.json:
        _print_json(table.to_json())
    elif table:
        _print(repr(table))
    else:
        print(f"No models in {registry.url} yet.", file=sys.stderr)  # noqa: T201 - a shell's output
    return 0


def _list_live(given: Namespace) -> int:
    from dataclasses import asdict

    from mlnb.serving.discovery.listing import list_live
    from mlnb.serving.discovery.table import live_table

    found = list_live()
    chosen = [one for one in found.deployments if given.name in (None, one.name)]
    if given.json:
        _print_json({"deployments": [asdict(one) for one in chosen], "trouble": found.trouble})
        return 0
    if chosen:
        _print(live_table(chosen))
    elif not found.trouble:
        nothing = "Nothing is" if given.name is None else f"{given.name!r} is not"
        print(f"{nothing} live. In a notebook: %deploy_model model", file=sys.stderr)  # noqa: T201 - a shell's output
    return _say_trouble(found.trouble)


def _say_live() -> None:
    """Print what is live before the models, if anything is."""
    from mlnb.serving.discovery.listing import list_live

    found = list_live()
    _say_trouble(found.trouble)
    if found.deployments:
        from mlnb.serving.discovery.table import live_table

        _print(f"Live\n{live_table(found.deployments)}\n\nModels")


def _stop(given: Namespace) -> int:
    from mlnb.serving.discovery.telling import stop_live

    _print(stop_live(given.name, pid=given.pid))
    return 0


def _say_trouble(words: str) -> int:
    return _fail(words, code=0) if words else 0


def _show(given: Namespace) -> int:
    card = _registry(given).card(given.reference)
    if not given.json:
        _print(card.markdown.rstrip())
        return 0
    stored = card.version.to_json() | {
        "registry": card.registry,
        "size": card.version.size,
        "digest": card.version.digest,
        "aliases": card.aliases,
        "signature": card.version.signature.to_json(),
        "proof": None if card.proof is None else card.proof.to_json(),
        "golden_rows": 0 if card.golden is None else len(card.golden.rows),
        "history": [{"number": event.number} | event.to_json() for event in card.events],
    }
    _print_json(stored)
    return 0


def _diff(given: Namespace) -> int:
    from dataclasses import asdict

    from mlnb.registry.tables import Cell, Column, lay_out

    found = _registry(given).diff(given.old, given.new)
    old, new = str(found.old), str(found.new)
    if given.json:
        _print_json({"old": old, "new": new, "changes": [asdict(change) for change in found]})
        return 0
    if not found:
        _print(f"{old} → {new}: no difference")
        return 0
    columns = [
        Column("section", tuple(Cell(change.section) for change in found)),
        Column("name", tuple(Cell(change.name) for change in found), least=16),
        Column(old, tuple(Cell(change.old) for change in found), least=16),
        Column(new, tuple(Cell(change.new) for change in found), least=16),
        Column("change", tuple(Cell(change.delta) for change in found), kind="number"),
    ]
    _print(lay_out(columns))
    return 0


def _copy(given: Namespace) -> int:
    from mlnb.registry import ModelRegistry

    registry, target = _registry(given), ModelRegistry(given.to)
    version = registry.version(given.reference)
    copied = registry.copy(str(version), target)
    _print(f"{version} → {copied} in {target.url}")
    return 0


def _prove(given: Namespace) -> int:
    from subprocess import SubprocessError

    registry = _registry(given)
    version = registry.version(given.reference)
    try:
        proof = registry.prove(version)
    except SubprocessError as error:
        raise MlnbError(f"{version} could not be proved: {error}") from error
    _print(f"{version}: {proof}")
    return 0 if proof.portable else _FAILED


def _alias(given: Namespace) -> int:
    expected = {"expected": given.expected} if "expected" in given else {}
    _registry(given).set_alias(given.name, given.alias, given.number, **expected)
    _print(f"{given.name}@{given.alias} → {given.name}:{given.number}")
    return 0


def _delete(given: Namespace) -> int:
    from mlnb.registry.reference import ModelReference

    if ModelReference.parse(given.reference).number is None:  # else `delete iris` would take the newest away
        return _fail(f"name the version to delete by its number: {given.reference.partition('@')[0]}:N", code=_MISUSED)
    _print(f"{_registry(given).delete(given.reference)} deleted; `mlnb collect` frees its files")
    return 0


def _collect(given: Namespace) -> int:
    from mlnb.registry.tables import format_size

    freed = _registry(given).collect()
    files = "1 file" if freed.files == 1 else f"{freed.files} files"
    _print(f"{files} freed, {format_size(freed.size)}")
    return 0


def _trust(given: Namespace) -> int:
    _print(f"{_registry(given).trust().url} is trusted: whoever can write to it can run code in your notebooks")
    return 0


def _package(given: Namespace) -> int:
    from mlnb.packaging.package_text import package_text
    from mlnb.workspace.packaging import package

    written = package(
        given.reference, given.to, target=given.target, registry=_registry(given), base=given.base,
        source=given.source, repository=given.repository, replicas=given.replicas, cores=given.cores,
        memory=given.memory, prometheus=given.prometheus, namespace=given.namespace,
        network_policy=given.network_policy, kserve=given.kserve,
    )  # fmt: skip
    _print(package_text(written))
    return 0


def _serve(given: Namespace) -> int:
    gc.disable()  # until all is imported
    from mlnb.scaling.preloading import Zygotes, modules_of
    from mlnb.serving.tokens import access_of

    access = access_of(given.token_file, environ=os.environ)
    autoscale = _autoscale(given)
    replicas = given.replicas if autoscale is None else max(1, autoscale.least)
    registry = _registry(given).assume_trusted()  # whoever starts this names the registry it serves from
    version = registry.version(given.reference)
    zygotes = Zygotes()
    if replicas:
        zygotes.start(modules_of(version))  # it imports the model's libraries while this one imports the server's
    from mlnb.monitoring.alerts import DEFAULT_RULES, AlertRule, Alerts
    from mlnb.monitoring.notifying import shown_url
    from mlnb.scaling.balancing import policy_named
    from mlnb.serving.plan import Manner, Watching
    from mlnb.serving.standalone import Standalone

    try:
        manner = Manner(replicas=replicas, policy=policy_named(given.policy).name, timeout=given.timeout)
        rules = tuple(AlertRule.of(rule) for rule in given.alert) or DEFAULT_RULES
        Alerts(rules, name=version.name)  # which refuses two of one name
        for url in given.webhook:
            shown_url(url)  # which refuses what is none
        watching = Watching(log=_log_settings(given, version), rules=rules, webhooks=tuple(given.webhook))
        Standalone(
            registry, version, manner=manner, watching=watching, port=given.port, accelerate=given.accelerate,
            grace=given.grace, zygotes=zygotes, say=_say, autoscale=autoscale,
            host=given.host, access=access,
        ).run()  # fmt: skip
    finally:
        for spawner in zygotes.release():
            spawner.close()
    return 0


def _autoscale(given: Namespace) -> Autoscale | None:
    """Return how the replicas are to follow the load, None where their number is fixed."""
    rule = {name: getattr(given, name) for name in ("p95", "p99", "target", "idle")}
    rule = {name: value for name, value in rule.items() if value is not None}
    if isinstance(given.replicas, int):
        wrong = [*rule, *(["scaling"] if given.scaling else []), *(["forecast"] if given.forecast else [])]
        if wrong:
            raise InvalidInputError(f"--{wrong[0]} says how replicas follow the load; add bounds: --replicas 1:4.")
        return None
    from mlnb.scaling.autoscale import Autoscale

    try:
        return Autoscale.of(*given.replicas, policy=given.scaling, forecast=given.forecast, **rule)
    except InvalidInputError as error:  # which names the arguments of Python
        raise InvalidInputError(_RULE.sub(_option, error.message)) from error


def _option(argument: Match[str]) -> str:
    name = {"policy": "scaling", "forecast=True": "forecast"}.get(argument[0], argument[0])
    return f"--{name}"


def _log_settings(given: Namespace, version: ModelVersion) -> LogSettings | None:
    hidden = (*given.leave_out, *given.hash)
    if not given.log and given.log_to is None:
        if hidden or given.no_inputs:
            raise InvalidInputError("--leave-out, --hash and --no-inputs say what is not logged; add --log.")
        return None
    from mlnb.monitoring.prediction_log import LogSettings

    for field in hidden:
        _check_field(field, version)
    try:
        return LogSettings(
            url=given.log_to or "", leave_out=tuple(given.leave_out), hashed=tuple(given.hash),
            inputs=not given.no_inputs,
        ).beside(_registry(given).url)  # fmt: skip
    except InvalidInputError as error:  # which speaks to a notebook
        raise InvalidInputError(f"{error.message.partition(';')[0]}; {_DATABASES}.") from error


def _check_field(field: str, version: ModelVersion) -> None:
    """Refuse to hide what is no field: a slip there would log what is to be hidden."""
    names = version.signature.names
    if not names:
        raise InvalidInputError(f"{version} does not say what its fields are called; --no-inputs logs none of them.")
    if field not in names:
        raise InvalidInputError(f"{version} has no field {field!r:.80} to hide; {nearest(field, names)}.")


def _say(text: str) -> None:
    print(_without_controls(text), flush=True)  # noqa: T201 - a shell's output


def _number_or_none(text: str) -> int | None:
    return None if text == _NOTHING else int(text)


def _replicas(text: str) -> int | tuple[int, int]:
    from mlnb.scaling.autoscale import replicas_of

    try:
        return replicas_of(text)
    except InvalidInputError as error:
        raise ArgumentTypeError(error.message) from error


def _figure(text: str) -> float | str:
    """Read a number, or text with a unit as it is."""
    try:
        return float(text)
    except ValueError:
        return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError
    return seconds


def _some_seconds(text: str) -> float:
    seconds = _seconds(text)
    if not seconds:
        raise ValueError
    return seconds


def _filled(text: str) -> str:
    if not text.strip():  # as of a variable that is not set
        raise ValueError
    return text


_filled.__name__ = "database"
_some_seconds.__name__ = "number of seconds above 0"
_seconds.__name__ = "number of seconds"
_number_or_none.__name__ = f"number or {_NOTHING!r}"  # argparse names the type so


def _argument(*names: str, **options: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    return names, options


_REFERENCE = _argument("reference", metavar="REF", help="a version: iris (the newest), iris:3 or iris@champion")
_REGISTRY = _argument(
    "--registry", metavar="PLACE", default=SUPPRESS,
    help="a folder or s3://bucket/prefix; default: $MLNB_HOME, else your data folder",
)  # fmt: skip
_JSON = _argument("--json", action="store_true", help="print JSON")
_NAME = _argument("name", metavar="NAME", help="a model")


@dataclass(frozen=True, slots=True)
class _Command:
    """A verb: what it takes, what it does, and how one types it."""

    name: str
    run: Callable[[Namespace], int]
    help: str
    example: str
    arguments: tuple[tuple[tuple[str, ...], dict[str, Any]], ...]


_COMMANDS = (
    _Command(
        "list", _list, "what is live and the models, or the versions of one", "mlnb list iris",
        (
            _argument("name", metavar="NAME", nargs="?", help="a model; without it, all models"),
            _argument("--live", action="store_true", help="only what your notebooks and scripts serve now"),
            _JSON, _REGISTRY,
        ),
    ),
    _Command(
        "stop", _stop, "stop a live deployment, whichever of your notebooks or scripts has it", "mlnb stop iris",
        (
            _argument("name", metavar="NAME", help="as `mlnb list --live` shows it"),
            _argument("--pid", metavar="PID", type=int, help="of the process, where several have that name"),
        ),
    ),
    _Command(
        "show", _show, "the model card of a version, in Markdown", "mlnb show iris@champion > CARD.md",
        (_REFERENCE, _JSON, _REGISTRY),
    ),
    _Command(
        "diff", _diff, "what differs between two versions", "mlnb diff iris:2 iris:3",
        (
            _argument("old", metavar="OLD", help="a version: iris:2"),
            _argument("new", metavar="NEW", help="another: iris:3, or iris for the newest"),
            _JSON, _REGISTRY,
        ),
    ),
    _Command(
        "copy", _copy, "copy a version into another registry", "mlnb copy iris@champion --to s3://team/models",
        (
            _REFERENCE,
            _argument("--to", metavar="PLACE", required=True, help="a folder or s3://bucket/prefix"),
            _REGISTRY,
        ),
    ),
    _Command(
        "prove", _prove, "see whether a version works without its notebook; exit code 1 if not", "mlnb prove iris:3",
        (_REFERENCE, _REGISTRY),
    ),
    _Command(
        "alias", _alias, "let NAME@ALIAS mean a version", "mlnb alias iris champion 3 --expected 2",
        (
            _NAME,
            _argument("alias", metavar="ALIAS", help="for instance champion"),
            _argument("number", metavar="NUMBER", type=int, help="the version it is to mean"),
            _argument(
                "--expected", metavar="N", type=_number_or_none, default=SUPPRESS,
                help=f"only if it means version N now, or {_NOTHING!r}: nothing",
            ),
            _REGISTRY,
        ),
    ),
    _Command(
        "delete", _delete, "take a version out of use", "mlnb delete iris:1",
        (_argument("reference", metavar="REF", help="a version by its number: iris:1"), _REGISTRY),
    ),
    _Command("collect", _collect, "free the files of deleted versions", "mlnb collect", (_REGISTRY,)),
    _Command(
        "package", _package, "write the files that run a version in a container or a cluster",
        "mlnb package iris:3 --to build/ --target compose",
        (
            _REFERENCE,
            _argument("--to", metavar="DIR", required=True, help="a folder; made if it is not there"),
            _argument("--target", metavar="T", default="docker", help="docker (the default), compose or kubernetes"),
            _argument("--base", metavar="IMAGE", default="", help="to build on; default: the slim one of this Python"),
            _argument(
                "--source", metavar="URL", default="",
                help="registry to fetch the version from at start; default: its files are in the image",
            ),
            _argument("--repository", metavar="R", default="", help="where the image is pushed to; default: nowhere"),
            _argument("--replicas", metavar="N", type=int, help="kubernetes: pods; default: 1"),
            _argument("--cores", metavar="C", type=float, help="that a container asks for, for instance 0.5"),
            _argument("--memory", metavar="M", help="that a container asks for, for instance 512MiB"),
            _argument("--prometheus", action="store_true", help="compose: start a Prometheus beside it"),
            _argument("--namespace", metavar="N", default="", help="kubernetes: namespace that the manifests name"),
            _argument(
                "--network-policy", action="store_true", help="kubernetes: only its own namespace may reach it"
            ),
            _argument("--kserve", action="store_true", help="kubernetes: let KServe run it"),
            _REGISTRY,
        ),
    ),
    _Command(
        "serve", _serve, "answer HTTP requests with a version, until SIGTERM", "mlnb serve iris@champion --replicas 2",
        (
            _REFERENCE,
            _argument("--port", metavar="P", type=int, help="default: 8000, or one that is free"),
            _argument(
                "--host", metavar="HOST", default="127.0.0.1",
                help="the address to listen on; default 127.0.0.1, which is this machine only; others, such as "
                "0.0.0.0 or :: for all, need a token",
            ),
            _argument(
                "--token-file", metavar="FILE",
                help="a file with the token that requests must bring, as 'Authorization: Bearer TOKEN' or as the "
                "password of HTTP Basic; default: the environment's MLNB_TOKEN, else none",
            ),
            _argument(
                "--replicas", metavar="N", type=_replicas, default=0,
                help="processes that answer; MIN:MAX lets their number follow the load; default 0: this one does, "
                "with one model in memory",
            ),
            _argument(
                "--p95", metavar="TIME", type=_figure,
                help="with MIN:MAX: within which 95 %% of the requests are to be answered, for instance 50ms",
            ),
            _argument("--p99", metavar="TIME", type=_figure, help="the same for 99 %%"),
            _argument(
                "--scaling", metavar="NAME",
                help="with MIN:MAX: the rule they follow, for instance utilisation or 'queue wait'",
            ),
            _argument("--target", metavar="X", type=_figure, help="what its metric is to be, for instance 0.7"),
            _argument(
                "--idle", metavar="TIME", type=_figure,
                help="after which the last replica goes, where MIN is 0; default 5m",
            ),
            _argument("--forecast", action="store_true", help="act on where a steady rise of the load leads"),
            _argument("--accelerate", action="store_true", help="use a faster form of the model if there is one"),
            _argument(
                "--policy", metavar="NAME", default="least_loaded", help="which of several idle replicas is asked"
            ),
            _argument(
                "--timeout", metavar="S", type=_some_seconds, default=60.0,
                help="seconds after which a prediction is given up; default 60",
            ),
            _argument(
                "--grace", metavar="S", type=_seconds, default=0.5,
                help="seconds after SIGTERM that requests are still taken while /readyz says no; default 0.5",
            ),
            _argument("--log", action="store_true", help="log predictions, to an SQLite file in the registry's folder"),
            _argument(
                "--log-to", metavar="URL", type=_filled,
                help="log predictions to this file or to postgresql://USER:PASSWORD@HOST/DATABASE",
            ),
            _argument(
                "--leave-out", metavar="FIELD", action="append", default=[],
                help="a field that is not logged; may be given several times",
            ),
            _argument(
                "--hash", metavar="FIELD", action="append", default=[],
                help="a field of which only a salted hash is logged; may be given several times",
            ),
            _argument("--no-inputs", action="store_true", help="log the answers, and nothing of what was sent"),
            _argument(
                "--alert", metavar="RULE", action="append", default=[],
                help='for instance "p99 > 50 ms for 1m"; may be given several times; without it: failed '
                "requests, crashes and drift",
            ),
            _argument(
                "--webhook", metavar="URL", action="append", default=[],
                help="told of alerts by POST; may be given several times",
            ),
            _REGISTRY,
        ),
    ),
    _Command(
        "trust", _trust, "let models of a registry run code when they are loaded", "mlnb trust s3://team/models",
        (_argument("registry", metavar="PLACE", help="a folder or s3://bucket/prefix whose writers you know"),),
    ),
)  # fmt: skip


class _Parser(ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_MISUSED, f"mlnb: {message}; `{self.prog} -h` explains\n")


def _parser() -> _Parser:
    shape: dict[str, Any] = {"formatter_class": RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = _Parser(
        prog="mlnb",
        description="Versioned models in a folder or a bucket, and their serving.",
        epilog=_example("mlnb list iris"),
        **shape,
    )
    version = sys.modules["mlnb"].__version__  # not `import mlnb`: to the import contracts that is all of its rooms
    parser.add_argument("--version", action="version", version=f"mlnb {version}")
    parser.add_argument(*_REGISTRY[0], **_REGISTRY[1])
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for one in _COMMANDS:
        description = f"{one.help[0].upper()}{one.help[1:]}."
        sub = commands.add_parser(
            one.name, help=one.help, description=description, epilog=_example(one.example), **shape
        )
        for names, options in one.arguments:
            sub.add_argument(*names, **options)
        sub.set_defaults(run=one.run)
    return parser


def _example(line: str) -> str:
    return f"example:\n  {line}"


def _registry(given: Namespace) -> ModelRegistry:
    from mlnb.registry import ModelRegistry

    return ModelRegistry(getattr(given, "registry", None))


def _print(text: str) -> None:
    print(_without_controls(text))  # noqa: T201 - a shell's output


def _print_json(value: Any) -> None:
    import orjson

    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())  # noqa: T201 - a shell's output


def _fail(message: str, *, code: int = _FAILED) -> int:
    print(f"mlnb: {_without_controls(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201 - a shell's output
    return code


def _without_controls(text: str) -> str:
    """Replace the controls in what may hold a stranger's words: text could steer the terminal with them."""
    return "".join(one if one == "\n" or unicodedata.category(one) != "Cc" else "\ufffd" for one in text)


def _discard_output() -> None:
    """Let what is still to be written go nowhere, else Python complains when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
