"""The child process that has the model: it takes orders from a socket, one after the other, and leaves with its parent.

Run by `weft.model.engine.process`, never by hand; the socket's number is its argument. It ends when the socket does,
or when the library fails in a way that leaves its state unknown: then everything is made again in a new one.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import Any

import msgspec

from weft.core.errors import EngineUnfit, MissingExtra
from weft.model.engine import wire
from weft.model.engine.llama import Broken, Full, Llama, Refused


def main() -> None:
    line = socket.socket(fileno=int(sys.argv[1]))
    os.dup2(2, 1)  # whatever the library prints is a log
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    settings = msgspec.msgpack.decode(wire.receive(line), type=wire.Settings)
    try:
        llama = Llama(settings)
    except EngineUnfit as error:
        wire.send(line, (wire.UNFIT, str(error)))
        return
    except (MissingExtra, Refused) as error:
        wire.send(line, (wire.REFUSED, str(error)))
        return
    wire.send(line, (wire.DONE, _hello(llama)))
    decoder = msgspec.msgpack.Decoder(wire.Order)
    while True:
        try:
            order = decoder.decode(wire.receive(line))
        except EOFError:
            return
        wire.send(line, _answer(llama, order))


def _hello(llama: Llama) -> wire.Hello:
    return wire.Hello(
        description=llama.description(),
        cells=llama.cells,
        room=llama.room,
        vocabulary=llama.vocabulary,
        begin=llama.begin(),
        template=llama.template(),
        bos=llama.name("bos"),
        eos=llama.name("eos"),
    )


def _answer(llama: Llama, order: wire.Order) -> tuple[int, Any]:
    try:
        return wire.DONE, _carry_out(llama, order)
    except Refused as error:
        return wire.REFUSED, str(error)
    except Full as error:
        return wire.FULL, str(error)
    except Broken as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(70)


def _carry_out(llama: Llama, order: wire.Order) -> Any:
    match order:
        case wire.Step(parts):
            return llama.step(parts)
        case wire.Tokenize(text, special):
            return llama.tokenize(text, special)
        case wire.Tell():
            return wire.Words(llama.pieces(), llama.ends(), llama.controls())
        case wire.Remove(sequence, start, end):
            return llama.remove(sequence, start, end)
        case wire.Copy(source, targets, start, end):
            for target in targets:
                llama.copy(source, target, start, end)
            return None
        case wire.Publish(source, row, targets):
            return llama.publish(source, row, targets)
        case wire.Cut(sequence, start, end):
            return llama.cut(sequence, start, end)
        case wire.Save(sequence):
            return llama.save(sequence)
        case wire.Load(sequence, state):
            return llama.load(sequence, state)


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    main()
