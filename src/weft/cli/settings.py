"""The settings of a worker: from the command line, else the environment, else a TOML file, else the defaults.

Importing this loads pydantic-settings (extra `worker`); commands that may do without ask `weft.cli.place` first.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from weft.core.errors import BadInput, MissingExtra
from weft.core.settings_file import SettingsFile, settings_file
from weft.core.url import mask

try:
    from pydantic import BeforeValidator, Field, ValidationError
    from pydantic_settings import (
        BaseSettings,
        InitSettingsSource,
        NoDecode,
        PydanticBaseSettingsSource,
        SettingsConfigDict,
    )
except ImportError as missing:
    raise MissingExtra("a worker, or a file of settings, needs the extra: pip install 'weft[worker]'") from missing

if TYPE_CHECKING:
    from weft.store.postgres import PostgresOptions

PREFIX = "WEFT_"


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("input should be a number")
    return value


def _names(value: object) -> object:
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return value


def _port(value: object) -> object:
    return None if isinstance(value, str) and value.lower() == "off" else _number(value)


def _object(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from None


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Whole = Annotated[int, BeforeValidator(_number)]
Seconds = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]
Names = Annotated[Annotated[list[Name], Field(min_length=1)] | None, NoDecode, BeforeValidator(_names)]
Port = Annotated[Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(_port)]
Environment = Annotated[dict[str, Any] | None, NoDecode, BeforeValidator(_object)]
Level = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]


class Settings(BaseSettings):
    """`weft worker` as it is set up. Make it with `load_settings`; print it with `public`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    store: str | None = Field(
        None, min_length=1, description="path or URL of the store; if not given, `.weft/journal.db`"
    )
    durability: Literal["full", "process"] = Field(
        "full", description="`full`: what is committed survives the machine; `process`: the worker only"
    )
    queues: Names = Field(
        None, description="queues served, comma-separated; if not given, `default` and those that the files declare"
    )
    slots: Whole = Field(100, ge=1, description="how many runs a worker has in memory at once")
    heartbeat: Seconds = Field(
        5.0, ge=0.1, description="seconds between signs of life; who is silent for 1.75 of them is taken over"
    )
    grace: Seconds = Field(30.0, ge=0, description="seconds that steps under way get to end after SIGTERM")
    host: str = Field("127.0.0.1", min_length=1, description="address that the health endpoints and the page listen on")
    port: Port = Field(None, description="port of the health endpoints; 0 is any free one; `off`, the default, is none")
    otlp: str | None = Field(
        None, min_length=1, description="collector that gets the spans of what ends here, as in http://127.0.0.1:4318"
    )
    otlp_content: bool = Field(False, description="whether it gets messages, arguments and results, too")
    web: Port = Field(None, description="port of the page; 0 is any free one; `off`, the default, is none")
    pool: Whole = Field(4, ge=1, description="connections for reading and claiming; a worker has three more")
    statement_timeout: Seconds = Field(30.0, gt=0, description="seconds after which a request to the store is given up")
    patience: Seconds = Field(60.0, ge=0, description="seconds that the store may be out of reach before it's an error")
    ray_address: str | None = Field(None, min_length=1, description="address of the Ray cluster for heavy steps")
    ray_runtime_env: Environment = Field(
        None, description="what Ray brings to its workers, as its `runtime_env`: an object, in the variable as JSON"
    )
    log_level: Level = Field("INFO", description="`debug`, `info`, `warning` or `error`")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = settings_file()
        return init_settings, env_settings, InitSettingsSource(settings_cls, _own(file))

    def public(self) -> dict[str, Any]:
        """All settings as they may be shown: passwords are masked."""
        return {name: _shown(name, value) for name, value in self.model_dump().items()}

    def __repr_args__(self) -> Any:
        return self.public().items()

    def for_ray(self) -> dict[str, str]:
        """Those of them that are about Ray, as the variables in which steps look for them."""
        given = {"ADDRESS": self.ray_address, "RUNTIME_ENV": self.ray_runtime_env and json.dumps(self.ray_runtime_env)}
        return {f"{PREFIX}RAY_{name}": value for name, value in given.items() if value}

    def postgres(self) -> PostgresOptions:
        """Those of them that are about a PostgreSQL server, for `open_store`."""
        from weft.store.postgres import PostgresOptions

        return PostgresOptions(
            heartbeat=self.heartbeat,
            pool=self.pool,
            statement_timeout=self.statement_timeout,
            patience=self.patience,
        )


def _own(file: SettingsFile | None) -> dict[str, Any]:
    """What the file says of a worker; its tables `mcp`, `policy` and `prices` are about other things."""
    return (
        {name: value for name, value in file.values.items() if name not in ("mcp", "policy", "prices")} if file else {}
    )


def load_settings(**given: Any) -> Settings:
    """The settings, where `given` (the command line's; None is not given) come before all others. Raises BadInput
    that says which value is wrong, where it was written, and what it should be."""
    words = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**words)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise _explain(str(first["loc"][0]), first["type"], first["msg"], words, settings_file()) from None


def _explain(name: str, kind: str, reason: str, words: Mapping[str, Any], file: SettingsFile | None) -> BadInput:
    """What is wrong with setting `name`."""
    where = file.name if file is not None and name not in words else "the command line"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(name.replace("-", "_"), Settings.model_fields, 2)
        fix = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(Settings.model_fields)}"
        return BadInput(f"{where}: there is no setting {name!r}; {fix}")
    variable = PREFIX + name.upper()
    from_environment = {key.upper(): value for key, value in os.environ.items() if value}.get(variable)
    if name in words:
        place, value = f"--{name.replace('_', '-')}", words[name]
    elif from_environment is not None:
        place, value = f"the variable {variable}", from_environment
    else:
        place, value = f"{where}: {name}", file.values.get(name) if file is not None else None
    if place.startswith("the variable") and str(value).startswith("tcp://"):
        fix = "Kubernetes sets it for a Service of that name: say enableServiceLinks: false in the pod"
    else:
        fix = f"give {Settings.model_fields[name].description}"
    reason = reason.removeprefix("Value error, ")
    return BadInput(f"{place} is {_shown(name, value)!r}: {reason[0].lower()}{reason[1:]}; {fix}")


def _shown(name: str, value: Any) -> Any:
    if name == "ray_runtime_env" and value is not None:
        return "***"  # its variables may be secrets
    return mask(value) if isinstance(value, str) else value
