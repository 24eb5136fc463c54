"""The files in deploy/ and the page about them name only what there is."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry

from weft.cli.app import app
from weft.cli.settings import Settings, load_settings
from weft.runtime.runtime import Counters
from weft.store.base import QueueStats, Stats
from weft.store.postgres.server import connect
from weft.web.health import Figures

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs/how-to/deploy.md").read_text()
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.M | re.S)

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OBJECTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
POD = next(o for o in OBJECTS if o["kind"] == "Deployment")["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]


def variables() -> dict[str, dict[str, str]]:
    """The environment of each worker, by file."""
    return {
        "compose.yaml": COMPOSE["services"]["worker"]["environment"],
        "kubernetes.yaml": {entry["name"]: entry.get("value", "") for entry in CONTAINER["env"]},
    }


def check(words: list[str]) -> None:
    """These are words that `weft` takes; files are in deploy/."""
    root = typer.main.get_command(app)
    command = root.commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], words[1:], resilient_parsing=False).close()
    for word in words[1:]:
        assert not word.endswith(".py") or (DEPLOY / word).exists()


def commands() -> Iterator[list[str]]:
    yield COMPOSE["services"]["worker"]["command"]
    yield CONTAINER["args"]
    for language, body in BLOCK.findall(PAGE):
        for line in body.splitlines() if language == "console" else ():
            words = shlex.split(line, comments=True)
            if "weft" in words:
                yield words[words.index("weft") + 1 :]
            elif words[:2] == ["docker", "compose"] and "run" in words:
                yield words[words.index("worker") + 1 :]


def test_the_commands_are_ones_that_weft_takes() -> None:
    found = list(commands())
    assert [words[0] for words in found].count("submit") == 3 and len(found) >= 6
    for words in found:
        check(words)


def test_the_variables_are_settings_and_their_values_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for file, environment in variables().items():
        ours = {name: value for name, value in environment.items() if name.startswith("WEFT_")}
        assert {name.removeprefix("WEFT_").lower() for name in ours} <= Settings.model_fields.keys(), file
        for name, value in ours.items():
            monkeypatch.setenv(name, value)
        store = load_settings().store
        assert store is not None and store.startswith("postgresql://") and "PGPASSWORD" in environment
        for name in ours:
            monkeypatch.delenv(name)


def test_what_kills_waits_longer_than_the_steps_may_take() -> None:
    found = variables()
    patience = COMPOSE["services"]["worker"]["stop_grace_period"]
    assert int(patience.removesuffix("s")) > float(found["compose.yaml"]["WEFT_GRACE"])
    assert POD["terminationGracePeriodSeconds"] > float(found["kubernetes.yaml"]["WEFT_GRACE"])


def test_the_probes_ask_what_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_CONFIG", str(DEPLOY / "weft.toml"))
    assert CONTAINER["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert CONTAINER["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
    port = int(variables()["kubernetes.yaml"]["WEFT_PORT"])
    assert CONTAINER["ports"] == [{"name": "health", "containerPort": port}]
    service = COMPOSE["services"]["worker"]
    assert f":{load_settings().port}/readyz" in service["healthcheck"]["test"][-1]
    assert service["expose"] == [str(load_settings().port)]


def test_the_objects_fit_together() -> None:
    names = {(o["kind"], o["metadata"]["name"]) for o in OBJECTS}
    templates = [o for o in OBJECTS if "template" in o.get("spec", {})]
    secrets = [
        entry["valueFrom"]["secretKeyRef"]["name"]
        for o in templates
        for entry in o["spec"]["template"]["spec"]["containers"][0]["env"]
        if "valueFrom" in entry
    ]
    assert len(secrets) == 2 and all(("Secret", name) in names for name in secrets)
    host = re.search(r"@([\w-]+):", variables()["kubernetes.yaml"]["WEFT_STORE"])
    assert host is not None and ("Service", host[1]) in names
    for o in templates:
        assert o["spec"]["selector"]["matchLabels"] == o["spec"]["template"]["metadata"]["labels"]
    assert POD["enableServiceLinks"] is False
    assert COMPOSE["services"]["worker"]["deploy"]["replicas"] == 2
    assert set(COMPOSE["services"]["worker"]["depends_on"]) <= COMPOSE["services"].keys()


def test_the_image_copies_what_there_is() -> None:
    lines = re.findall(r"^COPY (?!--from)(.+)$", (DEPLOY / "Dockerfile").read_text(), re.M)
    sources = [source for line in lines for source in line.split()[:-1]]
    assert "deploy/weft.toml" in sources
    for source in sources:
        assert (ROOT / source).exists(), source


def test_the_settings_file_shows_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DEPLOY / "weft.toml").read_text()
    named = set(re.findall(r"^(?:# )?(\w+) = ", text, re.M))
    assert named == Settings.model_fields.keys() - {"store"}
    monkeypatch.setenv("WEFT_CONFIG", str(DEPLOY / "weft.toml"))
    assert load_settings().port == 8090


def test_the_page_lists_every_setting_and_no_other() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (`WEFT_.*) \|$", PAGE, re.M))
    assert rows.keys() == Settings.model_fields.keys()
    for name, field in Settings.model_fields.items():
        variable, default, meaning = (cell.strip() for cell in rows[name].split("|"))
        assert variable == f"`WEFT_{name.upper()}`" and meaning == field.description
        assert (default or None) == (None if field.default is None else f"`{_plain(field.default)}`")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)


class _Idle:
    counters = Counters()
    active = steps = slots = replaying = 0


def test_the_page_lists_every_figure_and_its_alerts_use_no_other() -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(_Idle(), Stats({}, {"q": QueueStats(1, 1.0)})))  # type: ignore[arg-type]
    there = {sample.name for family in registry.collect() for sample in family.samples}
    listed = re.findall(r"^\| `(weft_\w+)(?:\{\w+\})?` \| (?:gauge|counter)", PAGE, re.M)
    assert sorted(listed) == sorted(there)
    (rules,) = [yaml.safe_load(body) for language, body in BLOCK.findall(PAGE) if language == "yaml"]
    alerts = rules["groups"][0]["rules"]
    assert len(alerts) >= 4
    for alert in alerts:
        used = set(re.findall(r"weft_\w+", alert["expr"]))
        assert used and used <= there, alert


def test_the_page_has_the_program_that_is_there() -> None:
    program = (DEPLOY / "orders.py").read_text()
    assert f"```python\n{program}```" in PAGE


def test_the_page_names_every_parameter_that_a_pooler_must_ignore() -> None:
    set_by_weft = re.findall(r'^ +"(\w+)": ', inspect.getsource(connect), re.M)
    assert "statement_timeout" in set_by_weft
    ignored = re.search(r"ignore_startup_parameters = (\S+)", PAGE)
    assert ignored is not None
    assert set(ignored[1].split(",")) == set(set_by_weft) - {"application_name"}


def test_the_program_runs(tmp_path: Path) -> None:
    words = ["run", str(DEPLOY / "orders.py"), "--input", "customer=ann", "--input", 'items=["tea"]']
    weft = str(Path(sys.executable).parent / "weft")
    done = subprocess.run(
        [weft, *words, "--store", "here.db"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "tea: reserved" in done.stdout and "ann paid for 1" in done.stdout
