"""The magics: parse a line, call the plain function of the same verb, return the object it gave."""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING, Any, cast

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

import mlnb
from mlnb.errors import MlnbError, nearest
from mlnb.magics.arguments import counted, evaluate, figure, number, seconds, split, unquote, weight, whole

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from mlnb.magics.display import DeploymentDisplay
    from mlnb.monitoring.experiment import Experiment
    from mlnb.monitoring.load.result import BenchmarkResult
    from mlnb.packaging.package import Package, Target
    from mlnb.registry.tables import VersionTable
    from mlnb.workspace import Deployment
    from mlnb.workspace.dashboard import Dashboard

__all__ = ["ModelMagics"]

_REFERENCE = re.compile(r"[\w.-]+[:@][\w.-]+")
_NAME = re.compile(r"[\w -]+")


def _parsed(magic: Callable[[Any, Namespace], Any]) -> Callable[[Any, str], Any]:
    """Give ``magic`` its parsed line; a mistake of the user becomes the one error that IPython prints as one line."""

    @functools.wraps(magic)
    def run(self: ModelMagics, line: str) -> Any:
        parser = run.parser  # type: ignore[attr-defined]  # set by magic_arguments
        parser.allow_abbrev = False
        words = split(line)
        if "-h" in words or "--help" in words:
            print(parser.format_help().removeprefix("::").strip())  # noqa: T201 - what -h is for
            return None
        try:
            return magic(self, parser.parse_args(words))
        except UsageError as error:
            if not str(error).startswith(("unrecognized", "the following", "argument", "expected")):
                raise
            known = parser._option_string_actions  # noqa: SLF001 - argparse has no public list of its options
            options = " ".join(sorted(option for option in known if option.startswith("--")))
            quotes = "; text of several words needs quotes" if str(error).startswith("unrecognized") else ""
            raise UsageError(
                f"{error}{quotes}. %{magic.__name__} takes: {options or 'no options'}; -h explains them."
            ) from None
        except MlnbError as error:
            raise UsageError(error.message) from error

    return run


@magics_class
class ModelMagics(Magics):
    """``%deploy_model`` and its like.

    Parameters
    ----------
    shell : InteractiveShell
    display : DeploymentDisplay
        Told whether a deployment is to be shown as a panel.
    """

    def __init__(self, *, shell: Any, display: DeploymentDisplay) -> None:
        super().__init__(shell=shell)
        self._namespace: dict[str, Any] = shell.user_ns
        self._display = display

    @magic_arguments()
    @argument(
        "model", metavar="MODEL", help="a fitted model of this notebook, or a stored one: NAME, NAME:3, NAME@alias"
    )
    @argument("--name", help="name to serve it under; default: the variable's")
    @argument(
        "--input", metavar="X", help="example rows, for instance X_train: gives the fields names, types and ranges"
    )
    @argument("--metrics", metavar="M", help='numbers by name, for instance {"accuracy": 0.97}')
    @argument("--description", metavar="D", default="", help="a few words about this version")
    @argument("--serializer", metavar="NAME", help="format to store it in, for instance skops; default: what fits it")
    @argument(
        "--replicas",
        metavar="N",
        help="processes beside the kernel that answer; 1:4 lets their number follow the load; "
        "default: as before, else the kernel",
    )
    @argument("--accelerate", action="store_true", help="use a faster form of the model if it gives the same answers")
    @argument("--log", action="store_true", help="log predictions in the default place; --log-to none ends that")
    @argument(
        "--log-to",
        metavar="WHERE",
        help='log predictions to a file or postgresql://.., or as {"leave_out": ["name"]} says; none ends the log',
    )
    @argument("--port", metavar="P", help="port of the server; default: the last one, else 8000, else a free one")
    @argument("--no-panel", action="store_true", help="show one line instead of the panel")
    @no_var_expand
    @line_magic
    @_parsed
    def deploy_model(self, given: Namespace) -> Deployment:
        """Register a model as a new version and serve it; a name that is live gets the new version in place."""
        model = self._model(given.model)
        stored = isinstance(model, (str, mlnb.Deployment))
        self._tell_notebook()
        deployment = mlnb.deploy(
            model,
            name=unquote(given.name) if given.name is not None else None if stored else _variable(given.model),
            example=self._value("--input", given.input),
            metrics=self._value("--metrics", given.metrics),
            description=unquote(given.description),
            serializer=None if given.serializer is None else unquote(given.serializer),
            port=whole("--port", given.port),
            replicas=None if given.replicas is None else unquote(given.replicas),
            accelerate=given.accelerate or None,
            log=self._log(given),
        )
        self._display.prefer(deployment, panel=not given.no_panel)
        return deployment

    @magic_arguments()
    @argument("name", metavar="NAME", nargs="?", help="a model; without it, all models")
    @argument("--all", action="store_true", help="show every row; default: the first 50")
    @no_var_expand
    @line_magic
    @_parsed
    def model_versions(self, given: Namespace) -> VersionTable:
        """Show the versions of a model: metrics against the live one, aliases, and which work without the notebook."""
        name = None if given.name is None else unquote(given.name)
        return mlnb.versions(name, shown=None) if given.all else mlnb.versions(name)

    @magic_arguments()
    @argument("name", metavar="NAME", help="a live model")
    @argument("--to", metavar="V", help="version number; default: the one that was live before")
    @argument("--reason", metavar="TEXT", default="", help="why, for the history")
    @no_var_expand
    @line_magic
    @_parsed
    def model_rollback(self, given: Namespace) -> Deployment:
        """Make the version live, alone, that was live before; also out of a split or a canary. No request fails."""
        return mlnb.rollback(unquote(given.name), to=whole("--to", given.to), reason=unquote(given.reason))

    @magic_arguments()
    @argument("name", metavar="NAME", help="a live model")
    @argument("weights", metavar="REF=WEIGHT", nargs="*", help="for instance champion=90 challenger=10, or 3=90 4=10")
    @argument("--key", metavar="FIELD", help="field by which requests meet the same version again")
    @argument("--shadow", metavar="REF", help="version that sees a copy of the requests; none ends it")
    @argument("--share", metavar="PERCENT", help="of the requests that the shadow sees; default: 100")
    @no_var_expand
    @line_magic
    @_parsed
    def model_split(self, given: Namespace) -> Deployment:
        """Share the requests out to several versions: an A/B test; or let a version see a copy of them."""
        name = unquote(given.name)
        if not given.weights and given.shadow is None:
            raise UsageError(f"Give weights, as in %model_split {name} champion=90 challenger=10, or --shadow REF.")
        deployment = _deployed(name)
        share = 100.0 if given.share is None else number("--share", given.share)
        shadow = None if given.shadow in (None, "none") else unquote(given.shadow)
        if not given.weights:
            return deployment.shadow(shadow, share=share)
        weights = dict(weight(unquote(word)) for word in given.weights)
        if len(weights) < len(given.weights):
            raise UsageError("A version is there twice; give each one weight.")
        key = None if given.key is None else unquote(given.key)
        return deployment.split(weights, key=key, shadow=shadow, share=share)

    @magic_arguments()
    @argument("name", metavar="NAME", help="a live model")
    @argument("version", metavar="REF", help="the version to make live: 4, NAME:4 or an alias")
    @argument("--steps", metavar="P,P,..", default="1,5,25,100", help="its shares in percent; default: 1,5,25,100")
    @argument(
        "--hold", metavar="TIME", default="1m", help="how long each step lasts at least, for instance 30s; default: 1m"
    )
    @argument("--guard", metavar="G", help='what must hold, for instance {"errors": 0.01, "p99": 50}')
    @no_var_expand
    @line_magic
    @_parsed
    def model_canary(self, given: Namespace) -> Deployment:
        """Make a version live step by step while its guards hold; else it is taken back by itself."""
        steps = (
            (1, 5, 25, 100) if given.steps is None else tuple(number("--steps", one) for one in given.steps.split(","))
        )
        return _deployed(unquote(given.name)).canary(
            unquote(given.version), steps=steps, hold=unquote(given.hold), guard=self._value("--guard", given.guard)
        )

    @magic_arguments()
    @argument("name", metavar="NAME", help="a live model whose requests are split")
    @no_var_expand
    @line_magic
    @_parsed
    def model_experiment(self, given: Namespace) -> Experiment:
        """Show how the versions of a split compare by the labels that came back; one may look at any time."""
        return _deployed(unquote(given.name)).experiment()

    @magic_arguments()
    @argument("name", metavar="NAME", help="a live model")
    @argument("version", metavar="REF", nargs="?", help="default: the canary, or the winner of the experiment")
    @argument("--reason", metavar="TEXT", default="", help="why, for the history")
    @no_var_expand
    @line_magic
    @_parsed
    def model_promote(self, given: Namespace) -> Deployment:
        """Make one of the versions that share the requests live, alone."""
        version = None if given.version is None else unquote(given.version)
        return _deployed(unquote(given.name)).promote(version, reason=unquote(given.reason))

    @magic_arguments()
    @argument("name", metavar="NAME", nargs="?", help="a live model; without it, all at a glance")
    @no_var_expand
    @line_magic
    @_parsed
    def model_monitor(self, given: Namespace) -> Dashboard:
        """Show live what a model does: rate, latency, errors, answers, drift, replicas, and what was done to it."""
        return mlnb.monitor(None if given.name is None else unquote(given.name))

    @magic_arguments()
    @argument("name", metavar="NAME", help="a live model")
    @argument(
        "replicas", metavar="N", help="processes beside the kernel that answer; 0: the kernel; MIN:MAX: by the load"
    )
    @argument("--p95", metavar="TIME", help="within which 95 %% of the requests are to be answered, for instance 50ms")
    @argument("--p99", metavar="TIME", help="the same for 99 %%")
    @argument("--policy", metavar="NAME", help="for instance utilisation or queue wait, or a policy of this notebook")
    @argument("--target", metavar="X", help="what the policy's metric is to be, for instance 0.7")
    @argument("--idle", metavar="TIME", help="after which the last replica goes, where MIN is 0; default: 5m")
    @argument("--forecast", action="store_true", help="act on where a steady rise of the load leads")
    @no_var_expand
    @line_magic
    @_parsed
    def model_scale(self, given: Namespace) -> Deployment:
        """Answer from as many processes, or from MIN to MAX as the load asks for; no request fails because of it."""
        from mlnb.scaling.autoscale import replicas_of

        name, replicas = unquote(given.name), replicas_of(unquote(given.replicas))
        if isinstance(replicas, int):
            for option in ("p95", "p99", "policy", "target", "idle", "forecast"):
                if getattr(given, option):
                    raise UsageError(f"--{option} needs MIN:MAX, as in %model_scale {name} 1:4 --{option} ..")
            return mlnb.scale(name, replicas)
        return mlnb.autoscale(
            name,
            *replicas,
            target=figure(given.target),
            policy=self._policy(given.policy),
            p95=figure(given.p95),
            p99=figure(given.p99),
            idle="5m" if given.idle is None else figure(given.idle),
            forecast=given.forecast,
        )

    @magic_arguments()
    @argument("name", metavar="NAME", help="a live model")
    @argument("--input", metavar="X", help="rows that each request sends; default: the example row")
    @argument("--connections", metavar="N", help="of the last step; default: 64")
    @argument("--seconds", metavar="S", help="of each step; default: 1")
    @no_var_expand
    @line_magic
    @_parsed
    def model_benchmark(self, given: Namespace) -> BenchmarkResult:
        """Find out what an endpoint takes: more and more connections ask it, from a process beside the kernel."""
        most = 64 if given.connections is None else counted("--connections", given.connections)
        steps = [2**power for power in range(max(most, 1).bit_length()) if 2**power < most] + [most]
        return _deployed(unquote(given.name)).benchmark(
            self._rows(given.input), connections=steps, seconds=seconds("--seconds", given.seconds)
        )

    @magic_arguments()
    @argument("name", metavar="NAME", help="a live model, or a stored version: NAME:3, NAME@alias")
    @argument("--to", metavar="DIR", help="folder for the files, for instance build/")
    @argument("--target", metavar="T", default="docker", help="docker, compose or kubernetes; default: docker")
    @argument("--base", metavar="IMAGE", default="", help="to build on; default: the slim one of this Python")
    @argument("--source", metavar="URL", default="", help="registry to fetch the version from at start; default: none")
    @argument("--repository", metavar="R", default="", help="where the image is pushed to; default: nowhere")
    @argument("--replicas", metavar="N", help="kubernetes: pods; default: as many as here")
    @argument("--cores", metavar="C", help="that a container asks for, for instance 0.5; default: as measured here")
    @argument("--memory", metavar="M", help="that a container asks for, for instance 512MiB; default: as measured here")
    @argument("--prometheus", action="store_true", help="compose: start a Prometheus beside it")
    @argument("--namespace", metavar="N", default="", help="kubernetes: namespace that the manifests name")
    @argument("--network-policy", action="store_true", help="kubernetes: only its own namespace may reach it")
    @argument("--kserve", action="store_true", help="kubernetes: let KServe run it")
    @no_var_expand
    @line_magic
    @_parsed
    def model_package(self, given: Namespace) -> Package:
        """Write the files with which a version runs without this notebook; the result can build and run them."""
        name = unquote(given.name)
        if given.to is None:
            raise UsageError(f"Name a folder for the files, as in %model_package {name} --to build/")
        return mlnb.package(
            name,
            unquote(given.to),
            target=cast("Target", unquote(given.target)),
            base=unquote(given.base),
            source=unquote(given.source),
            repository=unquote(given.repository),
            replicas=whole("--replicas", given.replicas),
            cores=None if given.cores is None else number("--cores", given.cores),
            memory=None if given.memory is None else unquote(given.memory),
            prometheus=given.prometheus,
            namespace=unquote(given.namespace),
            network_policy=given.network_policy,
            kserve=given.kserve,
        )

    @magic_arguments()
    @argument("name", metavar="NAME", nargs="?", help="a live model; without it, all")
    @no_var_expand
    @line_magic
    @_parsed
    def model_stop(self, given: Namespace) -> list[Deployment]:
        """Stop serving a model, or all; what is in flight is still answered."""
        return mlnb.stop(None if given.name is None else unquote(given.name))

    def _model(self, word: str) -> Any:
        """Return the object a word means: a reference, a variable, a stored model, or the value of an expression."""
        text = unquote(word)
        if _REFERENCE.fullmatch(text):
            return text
        if text in self._namespace:
            return self._namespace[text]
        known = mlnb.ModelRegistry().names()
        if text in known:
            return text
        if text.isidentifier():
            raise UsageError(
                f"{text!r} is neither a variable of this notebook nor a stored model; "
                f"of stored models {nearest(text, known)}."
            )
        return evaluate("MODEL", word, self._namespace)

    def _policy(self, word: str | None) -> Any:
        """Return the name of a policy, or the value of an expression."""
        text = None if word is None else unquote(word)
        if text is None or (_NAME.fullmatch(text) and text not in self._namespace):
            return text
        return evaluate("--policy", text, self._namespace)

    def _tell_notebook(self) -> None:
        """Let versions record the notebook and the cell they come from.

        Not done when the extension is loaded: ``import mlnb.registry`` takes its time.
        """
        from mlnb.registry.lineage import tell_notebook

        tell_notebook(functools.partial(_running_cell, self.shell))

    def _rows(self, word: str | None) -> Any:
        """Return rows as JSON can hold them."""
        rows = self._value("--input", word)
        return rows.to_dict("records") if hasattr(rows, "to_dict") else getattr(rows, "tolist", lambda: rows)()

    def _log(self, given: Namespace) -> Any:
        """Return where predictions are to be logged: None for as before, True for the default place, False for none."""
        where = None if given.log_to is None else unquote(given.log_to)
        if where is None:
            return given.log or None
        if where.startswith("{"):
            return self._value("--log-to", where)
        return False if where == "none" else where

    def _value(self, option: str, word: str | None) -> Any:
        return None if word is None else evaluate(option, word, self._namespace)


def _running_cell(shell: Any) -> dict[str, Any]:
    """Return the path of the ``notebook``, where it is known, and the ``cell`` that runs: its id, else its number."""
    paths = (os.environ.get("JPY_SESSION_NAME"), shell.user_ns.get("__vsc_ipynb_file__"))  # of Jupyter, of VS Code
    notebook = next((path for path in paths if isinstance(path, str) and path.endswith(".ipynb")), None)
    request = getattr(shell, "parent_header", None) or {}  # the message that asked to run the cell; none in a terminal
    metadata = request.get("metadata") or {}
    cell = metadata.get("cellId") or shell.displayhook.prompt_count  # JupyterLab sends the id
    return ({} if notebook is None else {"notebook": notebook}) | {"cell": cell}


def _variable(word: str) -> str | None:
    """Return the name that a deployment takes from the variable it came from."""
    return word if word.isidentifier() and not word.startswith("_") else None


def _deployed(name: str) -> Deployment:
    from mlnb.workspace import find

    return find(name)
