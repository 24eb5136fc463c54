"""Where settings come from, what is said of wrong ones, and what is never shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from weft.cli.place import default_store
from weft.cli.settings import Settings, load_settings
from weft.core.errors import BadInput
from weft.core.url import mask

URL = "postgresql://weft:s3cret@db/journal"


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and no settings in the environment."""
    for name in list(os.environ):
        if name.upper().startswith("WEFT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def toml(text: str, name: str = "weft.toml") -> None:
    Path(name).write_text(text)


def refusal(**given: object) -> str:
    with pytest.raises(BadInput) as caught:
        load_settings(**given)
    return str(caught.value)


# --- where they come from ---------------------------------------------------------------------------------------


def test_defaults() -> None:
    settings = load_settings()
    assert (settings.store, settings.queues, settings.port, settings.ray_address) == (None, None, None, None)
    assert (settings.slots, settings.heartbeat, settings.grace, settings.patience) == (100, 5, 30, 60)
    assert (settings.durability, settings.log_level, settings.host) == ("full", "INFO", "127.0.0.1")


def test_the_command_line_comes_first_then_the_environment_then_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    toml('slots = 1\npool = 1\ngrace = 1\nqueues = ["a", "b"]')
    monkeypatch.setenv("WEFT_SLOTS", "2")
    monkeypatch.setenv("WEFT_POOL", "2")
    settings = load_settings(slots=3, heartbeat=None)
    assert (settings.slots, settings.pool, settings.grace, settings.heartbeat) == (3, 2, 1, 5)
    assert settings.queues == ["a", "b"]


def test_every_field_can_be_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "store": URL, "durability": "process", "queues": "mail, slow ,", "slots": "7", "heartbeat": "0.5", "grace": "0",
        "host": "::1", "port": "8090", "pool": "9", "statement_timeout": "1.5", "patience": "0",
        "web": "8484", "ray_address": "head:6379", "ray_runtime_env": '{"env_vars": {"A": "1"}}', "log_level": "Debug",
        "otlp": "http://collector:4318", "otlp_content": "true",
    }  # fmt: skip
    assert given.keys() == Settings.model_fields.keys()
    for name, value in given.items():
        monkeypatch.setenv(f"WEFT_{name.upper()}", value)
    assert load_settings().model_dump() == {
        "store": URL, "durability": "process", "queues": ["mail", "slow"], "slots": 7, "heartbeat": 0.5, "grace": 0.0,
        "host": "::1", "port": 8090, "pool": 9, "statement_timeout": 1.5, "patience": 0.0,
        "web": 8484, "ray_address": "head:6379", "ray_runtime_env": {"env_vars": {"A": "1"}}, "log_level": "DEBUG",
        "otlp": "http://collector:4318", "otlp_content": True,
    }  # fmt: skip


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_PORT", "")
    monkeypatch.setenv("WEFT_STORE", "")
    assert load_settings().port is None
    assert default_store() is None


def test_the_port_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    toml("port = 8090")
    monkeypatch.setenv("WEFT_PORT", "off")
    assert load_settings().port is None


def test_weft_toml_comes_before_pyproject_and_weft_config_before_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toml('[project]\nname = "x"\ndependencies = ["weft"]', "pyproject.toml")
    assert load_settings().slots == 100
    toml("[tool.weft]\nslots = 1", "pyproject.toml")
    assert load_settings().slots == 1
    toml("slots = 2")
    assert load_settings().slots == 2
    (tmp_path / "elsewhere").mkdir()
    toml("slots = 3", "elsewhere/workers.toml")
    monkeypatch.setenv("WEFT_CONFIG", "elsewhere/workers.toml")
    assert load_settings().slots == 3
    monkeypatch.setenv("WEFT_CONFIG", "pyproject.toml")
    assert load_settings().slots == 1


def test_the_server_is_used_as_set() -> None:
    options = load_settings(heartbeat=0.2, pool=2, statement_timeout=3.0, patience=4.0).postgres()
    assert (options.heartbeat, options.pool, options.statement_timeout, options.patience) == (0.2, 2, 3.0, 4.0)


def test_what_is_said_of_ray_reaches_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().for_ray() == {}
    toml('ray_address = "head:6379"\nray_runtime_env = { working_dir = "." }')
    assert load_settings().for_ray() == {
        "WEFT_RAY_ADDRESS": "head:6379", "WEFT_RAY_RUNTIME_ENV": '{"working_dir": "."}',
    }  # fmt: skip


def test_an_environment_for_ray_that_is_none_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ('{"TOKEN": "s3cret', '["s3cret"]'):
        monkeypatch.setenv("WEFT_RAY_RUNTIME_ENV", wrong)
        assert refusal().startswith("the variable WEFT_RAY_RUNTIME_ENV is '***': ")
    monkeypatch.setenv("WEFT_RAY_RUNTIME_ENV", '{"env_vars": {"TOKEN": "s3cret"}}')
    assert "s3cret" not in repr(load_settings())


# --- wrong ones -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLOTS", "many"), ("SLOTS", "0"), ("SLOTS", "1.5"), ("HEARTBEAT", "nan"), ("HEARTBEAT", "0.01"),
        ("GRACE", "-1"), ("GRACE", "30s"), ("PORT", "70000"), ("POOL", "0"), ("STATEMENT_TIMEOUT", "0"),
        ("PATIENCE", "inf"), ("DURABILITY", "Full"), ("LOG_LEVEL", "loud"), ("QUEUES", ", ,"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named_with_its_value(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"WEFT_{name}", value)
    message = refusal()
    assert message.startswith(f"the variable WEFT_{name} is {value!r}: ")
    assert f"; give {Settings.model_fields[name.lower()].description}" in message


@pytest.mark.parametrize(
    "line", ["slots = true", "slots = []", "store = 5", 'queues = ["a", ""]', "queues = []", "port = -1"]
)
def test_a_wrong_line_of_the_file_is_named(line: str) -> None:
    toml(line)
    assert refusal().startswith(f"weft.toml: {line.split()[0]} is ")


def test_a_wrong_word_of_the_command_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_STATEMENT_TIMEOUT", "3")
    assert refusal(statement_timeout=-1).startswith("--statement-timeout is -1: ")


def test_unknown_names_get_the_nearest_known_one() -> None:
    assert refusal(slot=3) == "the command line: there is no setting 'slot'; did you mean slots?"
    toml("statement-timeout = 3")
    assert refusal() == "weft.toml: there is no setting 'statement-timeout'; did you mean statement_timeout?"
    toml("[workers]\nslots = 3")
    assert "there is no setting 'workers'; there are store, durability, queues" in refusal()


def test_a_service_of_kubernetes_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_PORT", "tcp://10.0.0.1:80")
    assert "enableServiceLinks: false" in refusal()


def test_files_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    toml("slots = [")
    assert "weft.toml is not TOML" in refusal()
    Path("weft.toml").write_bytes(b"\xff\xfe")
    assert "weft.toml is not TOML" in refusal()
    Path("weft.toml").unlink()
    toml("[tool]\nweft = 3", "pyproject.toml")
    assert "pyproject.toml: tool.weft is 3; make it a table" in refusal()
    monkeypatch.setenv("WEFT_CONFIG", "nowhere.toml")
    assert "nowhere.toml could not be read: No such file" in refusal()
    toml("[project]", "pyproject.toml")
    monkeypatch.setenv("WEFT_CONFIG", "pyproject.toml")
    assert "no table [tool.weft]" in refusal()


# --- what is never shown ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://weft:s3cret@db:5432/journal", "postgresql://weft:***@db:5432/journal"),
        ("postgres://weft:s3/c@r:et@db/journal?sslmode=require", "postgres://weft:***@db/journal?sslmode=require"),
        ("postgresql://:s3cret@db/journal", "postgresql://:***@db/journal"),
        ("postgresql://db/j?user=weft&password=s3cret&sslmode=require",
         "postgresql://db/j?user=weft&password=***&sslmode=require"),
        ("postgresql://db/j?sslkey=k&sslpassword=s3cret", "postgresql://db/j?sslkey=k&sslpassword=***"),
        ("postgresql://weft@db:5432/journal", "postgresql://weft@db:5432/journal"),
        ("no way to postgresql://a:b@c/d, nor to postgresql://e:f@g/h",
         "no way to postgresql://a:***@c/d, nor to postgresql://e:***@g/h"),
        ("journal.db", "journal.db"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert mask(url) == shown


def test_settings_are_shown_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(store=URL)
    assert settings.store == URL
    for text in (repr(settings), str(settings), f"{settings}", str(settings.public())):
        assert "postgresql://weft:***@db/journal" in text
        assert "s3cret" not in text
    monkeypatch.setenv("WEFT_HOST", "")
    toml(f'store = "{URL}"\nport = "{URL}"')
    assert "s3cret" not in refusal()


# --- the light path ---------------------------------------------------------------------------------------------

LIGHT = """
import sys
from weft.cli.place import default_store
print(default_store())
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"pydantic", "pydantic_settings", "tomllib"}))
"""


def asked(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    return done.stdout.splitlines()


def test_without_a_settings_file_nothing_heavy_is_loaded() -> None:
    assert asked() == ["None", ""]
    toml('[project]\nname = "x"', "pyproject.toml")
    assert asked() == ["None", ""]
    toml('store = "file.db"')
    assert asked(WEFT_STORE=URL) == [URL, ""]


def test_the_store_of_a_settings_file_is_found() -> None:
    toml('store = "file.db"')
    assert asked() == ["file.db", "pydantic pydantic_settings tomllib"]


def test_without_the_extra_it_is_named() -> None:
    code = (
        "import sys\nsys.modules['pydantic_settings'] = None\n"
        "from weft.core.errors import MissingExtra\n"
        "try:\n    import weft.cli.settings\nexcept MissingExtra as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'weft[worker]'" in done.stdout
