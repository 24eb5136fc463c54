"""Servers as a file declares them: a table `[mcp.servers.NAME]` of `weft.toml`, or an `mcp.json` as other clients have.

[mcp.servers.time]
command = ["mcp-server-time"]
read = ["./"]
env = { TOKEN = "${GITHUB_TOKEN}" }          # a variable of this environment, kept as a secret

{"mcpServers": {"time": {"command": "mcp-server-time", "args": [], "env": {}}}}
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weft.core.capability import nearest
from weft.core.errors import BadInput
from weft.core.secret import secret
from weft.core.settings_file import settings_file
from weft.tool.mcp.server import Server, Value

_KNOWN = {each.name for each in dataclasses.fields(Server)} - {"name", "answer"}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_OF_OTHERS = {"type", "transport", "disabled", "autoApprove", "alwaysAllow", "description"}
"""Keys of other clients that say nothing here."""


def servers(path: str | Path | None = None) -> dict[str, Server]:
    """The servers that a file declares: `path`, an mcp.json; else the settings file (`weft.toml`, or `[tool.weft]` of
    pyproject.toml), and `.mcp.json` of this folder if there is one. Raises BadInput for what is no declaration."""
    if path is not None:
        return _of_json(Path(path))
    found = _of_json(Path(".mcp.json")) if Path(".mcp.json").exists() else {}
    settings = settings_file()
    if settings is not None:
        table = settings.values.get("mcp", {})
        declared = table.get("servers", {}) if isinstance(table, dict) else None
        if not isinstance(declared, dict):
            raise BadInput(f"{settings.name}: mcp.servers must be a table: [mcp.servers.NAME]")
        found |= {name: _server(name, given, settings.name) for name, given in declared.items()}
    return found


def declared(name: str, path: str | Path | None = None) -> Server:
    """The one of this name. Raises BadInput if no file declares it."""
    found = servers(path)
    if name not in found:
        near = nearest(name, found)
        hint = f"did you mean {near!r}?" if near else f"declared: {', '.join(sorted(found)) or 'none'}"
        raise BadInput(f"no MCP server {name!r} is declared; {hint} Write [mcp.servers.{name}] in weft.toml")
    return found[name]


def _of_json(path: Path) -> dict[str, Server]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"{path} could not be read: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}; mend it there") from None
    declared = values.get("mcpServers") if isinstance(values, dict) else None
    if not isinstance(declared, dict):
        raise BadInput(f'{path} declares no servers: write {{"mcpServers": {{"NAME": {{"command": ...}}}}}}')
    return {name: _server(name, given, str(path)) for name, given in declared.items()}


def _server(name: str, given: Any, where: str) -> Server:
    if not isinstance(given, dict):
        raise BadInput(f"{where}: the server {name!r} is {given!r}; make it a table")
    values = {key: value for key, value in given.items() if key not in _OF_OTHERS}
    if isinstance(values.get("command"), str):
        values["command"] = [values["command"], *_texts(values.pop("args", []), f"{where}: {name}.args")]
    if "cwd" in values:
        values["folder"] = values.pop("cwd")
    for key in ("env", "headers"):
        if key in values:
            values[key] = _values(values[key], f"{where}: {name}.{key}")
    if unknown := values.keys() - _KNOWN:
        word = sorted(unknown)[0]
        near = nearest(word, _KNOWN)
        raise BadInput(
            f"{where}: the server {name!r} has no setting {word!r}{f'; did you mean {near!r}?' if near else ''}"
        )
    try:
        return Server(name, **values)
    except (BadInput, TypeError) as error:
        raise BadInput(f"{where}: {error}") from None


def _texts(given: Any, where: str) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise BadInput(f"{where} must be a list of texts")
    return given


def _values(given: Any, where: str) -> Mapping[str, Value]:
    if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
        raise BadInput(f"{where} must be a table of texts")
    return {name: _value(text) for name, text in given.items()}


def _value(text: str) -> Value:
    """`${NAME}` in it is the secret of that name."""
    pieces = _VARIABLE.split(text)
    if len(pieces) == 1:
        return text
    return tuple(secret(piece) if index % 2 else piece for index, piece in enumerate(pieces) if piece)
