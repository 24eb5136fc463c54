"""Steps on a Ray cluster: declared with `resources=` or `executor="ray"`, decided about here.

Ray places the call, ships it and runs it, once: its own retries are off, for only Weft knows which step may run
again. A step that is given up is interrupted, and killed if it does not end; a pure or idempotent one whose
worker or machine died is run again; a time limit counts from the moment it begins over there.

Where: `$WEFT_RAY_ADDRESS` (or a Ray that the program has connected itself, or `$RAY_ADDRESS`), else a Ray of this
machine, started when the first such step comes. `$WEFT_RAY_RUNTIME_ENV`: Ray's `runtime_env` as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache, partial, reduce
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from weft.core.errors import BadInput, ExecutorError, ExecutorLost, MissingExtra
from weft.core.failure import TRACEBACK, bare
from weft.core.step import Step
from weft.runtime import ray_worker

if TYPE_CHECKING:
    from weft.runtime.execute import Execution

LOSSES = 3
"""Workers and machines that may die under a step before it fails with ExecutorLost."""
PAUSE = 1.0
"""Seconds before it runs again, times the number of losses: Ray needs a moment to see that a machine is gone."""
GRACE = 5.0
"""Seconds to end in after an interruption, before the worker is killed."""
PATIENCE = 30.0
"""Seconds that a step waits for its resources before a warning."""
LARGE = 64 * 1024
"""Bytes of a result from which on it is unpickled in a thread."""

_LOST = (
    *("WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError", "ObjectLostError", "RayActorError"),
    *("OutOfMemoryError", "RpcError"),
)


async def carry_out(call: Execution) -> Any:
    """One attempt of a step: its result, or its own exception. Raises StepTimeout, ExecutorLost, ExecutorError."""
    step = call.step
    ray: Any = sys.modules.get("ray") or await asyncio.wrap_future(_thread.do(partial(_ray, step)))
    lost = tuple(getattr(ray.exceptions, name) for name in _LOST if hasattr(ray.exceptions, name))
    losses = 0
    while True:
        try:
            outcome = await _once(call, ray)
            break
        except lost as error:
            losses += 1
            what = f"{type(error).__name__} while it ran step {step.name}"
            if step.effect == "at_most_once":
                raise ExecutorLost(f"a Ray worker died: {what}") from None
            if losses > LOSSES:
                raise ExecutorLost(
                    f"{losses} Ray workers died, the last by {what}; look into the cluster's logs (memory?), or give "
                    f"the step the resources it needs"
                ) from None
            call.process.runtime.log.warning("a Ray worker died: %s; it runs again (%d of %d)", what, losses, LOSSES)
            await asyncio.sleep(PAUSE * losses)
        except ray.exceptions.RayError as error:
            raise ExecutorError(f"Ray could not run step {step.name}: {type(error).__name__}: {error}") from None
    kind, data = outcome
    if kind == "failed":
        raise _exception(ray, step, data)
    return await _unpickled(ray, data)


async def _once(call: Execution, ray: Any) -> tuple[str, Any]:
    step = call.step
    loop = asyncio.get_running_loop()
    stream = asyncio.wrap_future(_thread.do(partial(_submit, ray, step, call.call)))
    late = loop.call_later(PATIENCE, _warn, call)
    try:
        async with asyncio.timeout(None) as limit:
            news = await asyncio.shield(stream)
            await (await anext(news))
            late.cancel()
            call.started = call.process.runtime.clock()
            if step.timeout is not None:
                limit.reschedule(loop.time() + step.timeout)
            outcome: tuple[str, Any] = await (await anext(news))
            return outcome
    except TimeoutError:
        if not limit.expired():
            raise
        await _stopped(stream, ray)
        raise call.late() from None
    except asyncio.CancelledError:
        await _stopped(stream, ray)
        raise
    finally:
        late.cancel()


def _warn(call: Execution) -> None:
    call.process.runtime.log.warning(
        "step %s waits for Ray since %g s: no machine of the cluster is free that has %s (see `ray status`)",
        call.step.name, PATIENCE, _placement(call.step) or "a core",
    )  # fmt: skip


# --- giving up ---------------------------------------------------------------------------------------------


async def _stopped(stream: asyncio.Future[Any], ray: Any) -> None:
    """Return when the remote call has ended, or can't be reached; cancelling the wait doesn't shorten it."""
    stopping = asyncio.ensure_future(_stop(stream, ray))
    while not stopping.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([stopping])
    if not stopping.cancelled() and (error := stopping.exception()) is not None:
        logging.getLogger("weft").warning("a step on Ray could not be stopped: %s", error)


async def _stop(stream: asyncio.Future[Any], ray: Any) -> None:
    if not (await asyncio.wait([stream], timeout=GRACE))[0]:  # Ray is still coming up
        stream.add_done_callback(partial(_abandon, ray))
        return
    if stream.cancelled() or stream.exception() is not None:
        return
    news = stream.result()
    ended = asyncio.wrap_future(news.completed().future())
    for force in (False, True):
        await asyncio.wrap_future(_thread.do(partial(ray.cancel, news, force=force)))
        if (await asyncio.wait([ended], timeout=GRACE))[0]:
            break
    if ended.done() and not ended.cancelled():
        ended.exception()  # looked at


def _abandon(ray: Any, stream: asyncio.Future[Any]) -> None:
    if not stream.cancelled() and stream.exception() is None:
        _thread.do(partial(ray.cancel, stream.result(), force=True))


# --- what comes back -----------------------------------------------------------------------------------------


async def _unpickled(ray: Any, data: bytes) -> Any:
    loads: Callable[[bytes], Any] = ray.cloudpickle.loads
    return loads(data) if len(data) < LARGE else await asyncio.to_thread(loads, data)


def _exception(ray: Any, step: Step[..., Any], packed: ray_worker.Packed) -> BaseException:
    """The step's own exception with its causes; a RuntimeError for one whose class can't travel."""
    chain = [_rebuilt(ray, step, *parts) for parts in packed]
    for error, cause in pairwise(chain):
        error.__cause__ = cause
    return chain[0]


def _rebuilt(ray: Any, step: Step[..., Any], text: str, data: bytes | None, trace: str) -> BaseException:
    error: BaseException
    try:
        if data is None:
            raise TypeError("its class cannot be pickled")
        cls, args, attributes = ray.cloudpickle.loads(data)
        error = bare(cls, list(args))
        for name, value in attributes.items():
            if any(name in names and issubclass(cls, base) for base, names in ray_worker.NATIVE.items()):
                setattr(error, name, value)
            else:
                vars(error)[name] = value
        str(error)
    except Exception as why:
        error = RuntimeError(f"step {step.name} raised {text} on Ray, an exception that can't come here: {why}")
    vars(error)[TRACEBACK] = trace
    return error


# --- what goes there -----------------------------------------------------------------------------------------


def _submit(ray: Any, step: Step[..., Any], call: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
    """On Ray's thread: the stream of a new call's news (see `ray_worker.carry`)."""
    _connect(ray)
    digest, function = _shipped(ray, step)
    data = _pickled(ray, step.fn.__module__, call)
    options = _placement(step)
    try:
        task = _carrier(ray).options(name=step.name, num_returns="streaming", max_retries=0, **options)
        return task.remote(digest, function, data, _folders(), logging.getLogger().level)
    except (TypeError, ValueError) as error:
        raise ExecutorError(f"Ray refuses step {step.name} with {options}: {error}") from error


@cache
def _carrier(ray: Any) -> Any:
    ray.cloudpickle.register_pickle_by_value(ray_worker)
    return ray.remote(ray_worker.carry)


_functions: weakref.WeakKeyDictionary[Callable[..., Any], tuple[bytes, Any]] = weakref.WeakKeyDictionary()


def _placement(step: Step[..., Any]) -> dict[str, Any]:
    """The step's resources as Ray's options."""
    needs = step.resources
    if needs is None:
        return {}
    options = {"num_cpus": needs.cpu, "num_gpus": needs.gpu or None, "memory": needs.memory}
    return {k: v for k, v in options.items() if v is not None} | (
        {"resources": dict(needs.custom)} if needs.custom else {}
    )


def _shipped(ray: Any, step: Step[..., Any]) -> tuple[bytes, bytes | tuple[str, str]]:
    """The function and its digest: by name if it is part of an installed package (the cluster has to have it), else
    pickled with all of its module that it uses, as that is when it first goes there."""
    known = _functions.get(step.fn)
    if known is None:
        fn = step.fn
        reference = fn.__module__, getattr(fn, "__qualname__", "")
        function: bytes | tuple[str, str]
        if _installed(fn.__module__) and _named(*reference) is fn:
            function = reference
        else:
            try:
                function = _pickled(ray, fn.__module__, fn)
            except Exception as error:
                if fn.__module__ == "__main__" or _named(*reference) is not fn:
                    raise ExecutorError(
                        f"step {step.name} can't be sent to Ray: {error}; keep what can't be pickled out of its "
                        f"module's globals, or put the step into a module that the cluster has too"
                    ) from error
                function = reference
        digest = hashlib.blake2b(repr(function).encode(), digest_size=16).digest()
        known = _functions[fn] = digest, function
    return known


def _pickled(ray: Any, module: str, value: Any) -> bytes:
    """Pickled so that a worker without the program's file can read it."""
    pickle = ray.cloudpickle
    by_value = not _installed(module) and module not in pickle.list_registry_pickle_by_value()
    if by_value:
        pickle.register_pickle_by_value(sys.modules[module])
    try:
        data: bytes = pickle.dumps(value)
        return data
    finally:
        if by_value:
            pickle.unregister_pickle_by_value(sys.modules[module])


def _named(module: str, name: str) -> Any:
    """The function that a worker would find by this name."""
    try:
        found = reduce(getattr, name.split("."), sys.modules[module])
    except (KeyError, AttributeError):
        return None
    return getattr(found, "fn", found)


def _installed(module: str) -> bool:
    """Whether a module belongs to Python or to an installed package, and not to the program itself."""
    if module == "__main__":
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or _of_installation(file)


def _of_installation(path: str) -> bool:
    where = Path(path)
    return not {"site-packages", "dist-packages"}.isdisjoint(where.parts) or where.is_relative_to(_STDLIB)


_STDLIB = sysconfig.get_path("stdlib")


def _folders() -> list[str]:
    """Where modules of the program's own lie; a worker on this machine, or with the same disk, finds them there."""
    folders = [str(Path(folder or ".").absolute()) for folder in sys.path]
    return [folder for folder in folders if not _of_installation(folder)]


# --- Ray in this process -----------------------------------------------------------------------------------------


def _ray(step: Step[..., Any]) -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        raise MissingExtra(
            f"step {step.name} is declared for Ray, which is not installed here ({error}): pip install 'weft[ray]'"
        ) from error


def _connect(ray: Any) -> None:
    """Once per process; if the program has connected Ray itself, that is it."""
    if ray.is_initialized():
        return
    address = os.environ.get("WEFT_RAY_ADDRESS") or None
    if address is not None and address.startswith("ray://"):
        raise BadInput(
            f"WEFT_RAY_ADDRESS={address}: Ray's client protocol is not supported; run where the cluster's network "
            f"is, and give host:port of its head (port 6379)"
        )
    # A Ray that nobody chose to set up should tell nobody of its use.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": True, "logging_level": logging.ERROR, "include_dashboard": False}
    environment = _environment()
    if environment:
        options["runtime_env"] = environment
    try:
        ray.init(address=address, **options)
    except Exception as error:
        raise ExecutorError(
            f"no Ray could be reached at {address or 'this machine'}: {type(error).__name__}: {error}; set "
            f"WEFT_RAY_ADDRESS to host:port of the cluster's head"
        ) from error


def _environment() -> dict[str, Any]:
    text = os.environ.get("WEFT_RAY_RUNTIME_ENV", "").strip()
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise BadInput(f"WEFT_RAY_RUNTIME_ENV is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadInput('WEFT_RAY_RUNTIME_ENV must be a JSON object such as {"working_dir": ".", "pip": ["torch"]}')
    return value


class _Thread:
    """Everything that may block happens here. The thread never ends: a Ray that it starts asks the kernel to die
    with the thread that started it."""

    def __init__(self) -> None:
        self.work: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self.thread: threading.Thread | None = None

    def do(self, work: Callable[[], Any]) -> Future[Any]:
        if self.thread is None or not self.thread.is_alive():
            self.thread = threading.Thread(target=self._run, name="weft-ray", daemon=True)
            self.thread.start()
        future: Future[Any] = Future()
        self.work.put((work, future))
        return future

    def _run(self) -> None:
        while True:
            work, future = self.work.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
            del work, future


_thread = _Thread()
