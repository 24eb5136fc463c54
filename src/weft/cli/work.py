"""`weft worker` and `weft submit`: many machines, one store."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from weft.cli.failures import RunFailed, reported
from weft.cli.place import default_store
from weft.cli.words import (
    Allow,
    AsJson,
    Ask,
    Base,
    Deny,
    Everything,
    Inputs,
    Key,
    Spend,
    StorePlace,
    Target,
)


@reported
def worker(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Python files that declare the workflows.")],
    queues: Annotated[
        str | None, typer.Option(help="Comma-separated. Default: those declared in the files, and default.")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Processes executed at once. Default: 100.")] = None,
    store: Annotated[str | None, typer.Option(help="The journal, such as postgresql://user@host/db.")] = None,
    durability: Annotated[str | None, typer.Option(help="full or process. Default: full.")] = None,
    heartbeat: Annotated[float | None, typer.Option(help="Seconds between signs of life. Default: 5.")] = None,
    grace: Annotated[float | None, typer.Option(help="Seconds that steps get to end in. Default: 30.")] = None,
    host: Annotated[str | None, typer.Option(help="Of /healthz, /readyz and /metrics. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Of the same. Default: none are served.")] = None,
    otlp: Annotated[
        str | None, typer.Option(metavar="URL", help="Send the spans of what ends here to this collector.")
    ] = None,
    web: Annotated[
        int | None, typer.Option(metavar="PORT", help="Serve the page, too, at this port of --host.")
    ] = None,
) -> None:
    """Execute what is submitted, and what the dead have left, until SIGTERM; then drain and hand the rest back."""
    import asyncio
    import logging
    import os

    from weft.cli.load import load
    from weft.cli.serving import work
    from weft.cli.settings import load_settings
    from weft.core.queue import queues as declared

    names = None if queues is None else [name.strip() for name in queues.split(",") if name.strip()]
    given = {
        "queues": names, "slots": slots, "store": store, "durability": durability, "heartbeat": heartbeat,
        "grace": grace, "host": host, "port": port, "web": web, "otlp": otlp,
    }  # fmt: skip
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    logging.basicConfig(level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    for variable, value in settings.for_ray().items():
        os.environ[variable] = value
    for file in files:
        load(file)
    asyncio.run(work(settings, settings.queues or [*declared, "default"]))


@reported
def submit(
    target: Target,
    input: Inputs = None,
    queue: Annotated[str, typer.Option(help="Whose workers execute it.")] = "default",
    priority: Annotated[int, typer.Option(help="Larger is more urgent.")] = 0,
    tenant: Annotated[str, typer.Option(help="On whose behalf: tenants of a queue take turns.")] = "",
    key: Key = None,
    base: Base = None,
    everything: Everything = False,
    allow: Allow = None,
    asks: Ask = None,
    deny: Deny = None,
    budget: Spend = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result and print it.")] = False,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Leave a run to the workers of a queue, and print its id.

    Its rights are settled here, as for `weft run`; paths mean this folder, wherever it is executed.
    """
    import asyncio
    import os

    from weft.cli.load import arguments, find
    from weft.cli.render import out
    from weft.cli.rights import policy_of, refusals, whole_policy
    from weft.core.codec import to_plain
    from weft.core.errors import Divergence, RunMoved, StoreError
    from weft.core.queue import find_queue
    from weft.core.traceparent import told_by
    from weft.runtime.runtime import Runtime

    policy = whole_policy(policy_of(base, everything, allow, asks, deny, budget))
    workflow = find(target)
    args, kwargs = arguments(workflow, list(input or ()))
    caller = told_by(os.environ.get("TRACEPARENT"))
    chosen = workflow.options(key=key, queue=find_queue(queue), priority=priority, tenant=tenant, caller=caller)

    async def main() -> tuple[str, Any]:
        async with Runtime(store or default_store(), policy=policy) as runtime:
            run = await runtime.submit(chosen, *args, **kwargs)
            try:
                return run.id, (await run if wait else None)
            except (StoreError, Divergence, RunMoved):
                raise
            except Exception as error:
                raise RunFailed(run.id, error, await refusals(runtime, run.id)) from error

    id, result = asyncio.run(main())
    if json:
        out({"run": id, "queue": queue} | ({"result": to_plain(result)} if wait else {}))
    else:
        print(id)
        if wait and result is not None:
            out(to_plain(result))
