"""The commands, each from the file of its group."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from weft.cli.audit import audits
from weft.cli.bench_model import bench_model
from weft.cli.chat import chat
from weft.cli.checkpoint import checkpoints
from weft.cli.diff import diff_
from weft.cli.execute import fork, resume, run
from weft.cli.explain import explain
from weft.cli.export import export
from weft.cli.inbox import answer, inbox
from weft.cli.logs import logs
from weft.cli.mcp import serve_mcp
from weft.cli.mcp import servers as mcp_servers
from weft.cli.memory import memories
from weft.cli.models import models
from weft.cli.policy import policies
from weft.cli.query import query
from weft.cli.replay_load import replay_load
from weft.cli.rights import revoke
from weft.cli.runs import ps, show_
from weft.cli.serve_model import serve_model
from weft.cli.signals import signal
from weft.cli.steer import cancel, send
from weft.cli.store import stores
from weft.cli.top import top
from weft.cli.trace import traces
from weft.cli.upkeep import doctor, gc
from weft.cli.web import web
from weft.cli.work import submit, worker

app = typer.Typer(
    name="weft",
    help="Run agent programs durably, and see what happened.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # or every `--help` would import half of rich
    context_settings={"help_option_names": ["-h", "--help"]},
)

commands: dict[str, Callable[..., None]] = {
    "run": run, "submit": submit, "worker": worker, "resume": resume, "fork": fork, "cancel": cancel, "send": send,
    "signal": signal, "chat": chat, "inbox": inbox, "answer": answer, "ps": ps, "top": top, "show": show_,
    "diff": diff_, "explain": explain, "logs": logs, "export": export, "query": query, "web": web, "revoke": revoke,
    "models": models, "serve-model": serve_model, "bench-model": bench_model, "serve-mcp": serve_mcp,
    "replay-load": replay_load, "gc": gc, "doctor": doctor,
}  # fmt: skip
for name, command in commands.items():
    app.command(name=name)(command)
app.add_typer(policies, name="policy")
app.add_typer(memories, name="memory")
app.add_typer(stores, name="store")
app.add_typer(audits, name="audit")
app.add_typer(checkpoints, name="checkpoint")
app.add_typer(traces, name="trace")
app.add_typer(mcp_servers, name="mcp")


def main() -> None:
    """Run what the command line says.

    Typer makes a parser for every command it knows, which takes longer than most commands do: it gets to know the one
    that is asked for, and all of them only to help.
    """
    named = sys.argv[1] if len(sys.argv) > 1 else ""
    found = [one for one in app.registered_commands if one.name == named]
    groups = [one for one in app.registered_groups if one.name == named]
    if found or groups:
        app.registered_commands, app.registered_groups = found, groups
        app.callback()(lambda: None)  # or Typer would take a single command for the whole, and its name for an argument
    app()
