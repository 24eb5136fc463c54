"""A model in this process, by llama.cpp: batches, and what can be done to the cells of a sequence.

An assertion in the library ends the process, so nothing reaches it unchecked: every method looks at its arguments
first and raises `Refused`. The class lives in the child process (`weft.model.engine.child`), never in a program's.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, c_int8, c_int32, c_uint8
from typing import TYPE_CHECKING, Any

import msgspec

from weft.model.engine import abi
from weft.model.engine.sample import draw, likeliest
from weft.model.engine.wire import Part, Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}
"""The types that keys and values may be kept in, by the library's numbers."""
_ERROR = 4


class Refused(Exception):
    """The arguments of a call don't fit the state; nothing was done."""


class Full(Exception):
    """No cells are left; nothing was done."""


class Broken(Exception):
    """The library failed half-way: its state is unknown, and this process should end."""


class Llama:
    """One model, one context."""

    def __init__(self, settings: Settings) -> None:
        lib = self._lib = abi.library()
        self._log = abi.LOG(_complain)  # kept: the library calls it as long as it lives
        lib.llama_log_set(self._log, None)
        lib.llama_backend_init()
        model = lib.llama_model_default_params()
        model.n_gpu_layers = 0
        self._model = lib.llama_model_load_from_file(settings.path.encode(), model)
        if not self._model:
            raise Refused("the file is no model that llama.cpp can load")
        self._vocab = lib.llama_model_get_vocab(self._model)
        self.vocabulary = int(lib.llama_vocab_n_tokens(self._vocab))
        self.unified = settings.unified
        self._context = lib.llama_init_from_model(self._model, self._params(settings))
        if not self._context:
            raise Refused("llama.cpp made no context; is there enough memory for so many cells?")
        self._memory = lib.llama_get_memory(self._context)
        self.cells = int(lib.llama_n_ctx(self._context))
        self.room = int(lib.llama_n_ctx_seq(self._context))
        self.sequences = settings.sequences
        self._batch = settings.batch
        self._apart: set[int] = set()
        self._arrays = _Arrays(settings.batch)

    def _params(self, settings: Settings) -> Any:
        params = self._lib.llama_context_default_params()
        params.n_ctx = settings.cells
        params.n_seq_max = settings.sequences * (2 if settings.unified else 1)  # see `publish`
        params.n_batch = settings.batch
        params.n_ubatch = settings.chunk
        params.n_outputs_max_per_seq = 0
        params.n_threads = params.n_threads_batch = settings.threads
        params.type_k = params.type_v = TYPES[settings.kind]
        if settings.kind == "f32":
            params.flash_attn_type = 0  # it would round them to f16
        params.kv_unified = settings.unified
        return params

    # --- words ------------------------------------------------------------------------------------------------------

    def pieces(self) -> list[bytes]:
        """The bytes of every token."""
        return [self._piece(token) for token in range(self.vocabulary)]

    def _piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._lib.llama_token_to_piece(self._vocab, token, buffer, size, 0, True)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def ends(self) -> list[int]:
        """The tokens that end a generation."""
        return [t for t in range(self.vocabulary) if self._lib.llama_vocab_is_eog(self._vocab, t)]

    def controls(self) -> list[int]:
        """The tokens that mean something else than their words."""
        return [t for t in range(self.vocabulary) if self._lib.llama_vocab_is_control(self._vocab, t)]

    def begin(self) -> int | None:
        """The token that every text of this model starts with, if there is one."""
        return int(self._lib.llama_vocab_bos(self._vocab)) if self._lib.llama_vocab_get_add_bos(self._vocab) else None

    def name(self, which: str) -> str:
        """The text of the token that begins ("bos") or ends ("eos") a text; empty if there is none."""
        token = int(getattr(self._lib, f"llama_vocab_{which}")(self._vocab))
        return self._piece(token).decode("utf-8", "replace") if token >= 0 else ""

    def description(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        self._lib.llama_model_desc(self._model, buffer, 256)
        return buffer.value.decode("utf-8", "replace")

    def template(self) -> str:
        """The model's own chat template; empty if it has none."""
        found = self._lib.llama_model_chat_template(self._model, None)
        return found.decode("utf-8", "replace") if found else ""

    def tokenize(self, words: bytes, special: bool) -> list[int]:
        size = len(words) + 16
        tokens = (c_int32 * size)()
        count = self._lib.llama_tokenize(self._vocab, words, len(words), tokens, size, False, special)
        if count < 0:
            raise Refused(f"llama.cpp could not tokenize a text of {len(words)} bytes ({count})")
        return list(tokens[:count])

    # --- cells ------------------------------------------------------------------------------------------------------

    def step(self, parts: list[Part]) -> list[tuple[list[int], list[list[tuple[int, float]]], bytes]]:
        """Append the parts' tokens to their sequences, in one batch as far as it is large enough."""
        starts = [self._check_part(part) for part in parts]
        if len({part.sequence for part in parts}) != len(parts):
            raise Refused("a step feeds a sequence twice")
        for part in parts:
            self._forget(part.sequence)
        order = list(range(len(parts)))
        if not self.unified:  # the library would compute sequences that are out of order one by one
            order.sort(key=lambda n: parts[n].sequence)
        rows = [(n, i) for n in order for i in range(len(parts[n].tokens))]
        told: list[_Heard] = [_Heard() for _ in parts]
        for begin in range(0, len(rows), self._batch):
            chunk = rows[begin : begin + self._batch]
            code = self._decode(parts, starts, chunk)
            if code:
                for part, start in zip(parts, starts, strict=True):
                    self._lib.llama_memory_seq_rm(self._memory, part.sequence, start, -1)
                if code == 1:
                    raise Full(f"{len(rows)} more tokens do not fit")
                raise Broken(f"llama_decode returned {code}")
            self._hear(parts, starts, chunk, told)
        return [(heard.tokens, heard.likely, b"".join(heard.logits)) for heard in told]

    def _check_part(self, part: Part) -> int:
        self._check_id(part.sequence)
        if not part.tokens:
            raise Refused("a feed has no tokens")
        if not all(0 <= token < self.vocabulary for token in part.tokens):
            raise Refused(f"a token is none of the {self.vocabulary} of this model")
        if part.allow is not None and len(part.allow) * 8 < self.vocabulary:
            raise Refused(f"`allow` has {len(part.allow) * 8} bits for {self.vocabulary} tokens")
        start = self.length(part.sequence)
        if start != part.start:
            raise Refused(f"a feed starts at {part.start}, and the sequence has {start}")
        if start + len(part.tokens) > self.room:
            raise Full(f"{start + len(part.tokens)} tokens do not fit a sequence of {self.room}")
        return start

    def _decode(self, parts: list[Part], starts: list[int], chunk: list[tuple[int, int]]) -> int:
        arrays = self._arrays
        for k, (n, i) in enumerate(chunk):
            part = parts[n]
            arrays.token[k] = part.tokens[i]
            arrays.pos[k] = starts[n] + i
            arrays.ids[k] = part.sequence
            arrays.logits[k] = part.want == "all" or (part.want == "last" and i == len(part.tokens) - 1)
        return int(self._lib.llama_decode(self._context, arrays.of(len(chunk))))

    def _hear(self, parts: list[Part], starts: list[int], chunk: list[tuple[int, int]], told: list[_Heard]) -> None:
        for k, (n, i) in enumerate(chunk):
            if not self._arrays.logits[k]:
                continue
            part, heard, row = parts[n], told[n], self._row(k)
            if part.sample is not None:
                heard.tokens.append(draw(row, part.sample, starts[n] + i + 1, part.allow, part.bias))
            if part.likely:
                heard.likely.append(likeliest(row, part.likely, part.allow, *heard.tokens[-1:]))
            if part.logits:
                heard.logits.append(row.tobytes())

    def _row(self, k: int) -> NDArray[np.float32]:
        import numpy as np

        found = self._lib.llama_get_logits_ith(self._context, k)
        if not found:
            raise Broken(f"no logits for token {k} of a batch")
        return np.ctypeslib.as_array(found, (self.vocabulary,))

    def length(self, sequence: int) -> int:
        """The position that the next token gets."""
        self._check_id(sequence)
        return int(self._lib.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def remove(self, sequence: int, start: int, end: int) -> None:
        """Drop the cells at positions from `start` to before `end`; -1: to the end."""
        self._check_id(sequence)
        if start < 0 or not (end == -1 or end >= start):
            raise Refused(f"no range: {start} to {end}")
        self._forget(sequence)
        self._lib.llama_memory_seq_rm(self._memory, sequence, start, end)

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Let `target` have `source`'s cells at positions from `start` to before `end` too."""
        self._check_id(source)
        self._check_id(target)
        if source == target or start < 0 or end < start:
            raise Refused(f"no copy: {start} to {end} of {source} to {target}")
        if self.unified:
            self._lib.llama_memory_seq_cp(self._memory, source, target, start, end)
            return
        if start or self.length(target):
            raise Refused("sequences with cells of their own can be copied whole only, to an empty one")
        self._lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._lib.llama_memory_seq_rm(self._memory, target, end, -1)

    def publish(self, source: int, row: int, targets: list[int]) -> None:
        """Let the targets have the source's own cell at its last position, `row`, too.

        A copy takes all cells at a position, and adding one that is there already confuses the library's count of
        them. So before a row is mixed, each sequence's own cell of it is kept apart, in a sequence of that purpose."""
        if not self.unified or self.length(source) != row + 1:
            raise Refused(f"no row {row} to publish")
        if any(target == source or self.length(target) not in (row, row + 1) for target in targets):
            raise Refused(f"row {row} does not fit where it is published to")
        for each in (source, *targets):
            if each not in self._apart and self.length(each) == row + 1:
                self._lib.llama_memory_seq_cp(self._memory, each, each + self.sequences, row, row + 1)
                self._apart.add(each)
        for target in targets:
            self._lib.llama_memory_seq_cp(self._memory, source + self.sequences, target, row, row + 1)

    def _forget(self, sequence: int) -> None:
        """Give up what was kept apart: the sequence goes on."""
        if sequence in self._apart:
            self._lib.llama_memory_seq_rm(self._memory, sequence + self.sequences, -1, -1)
            self._apart.discard(sequence)

    def cut(self, sequence: int, start: int, end: int) -> None:
        """Drop the cells from `start` to before `end`, and turn those after them to the positions that are free now."""
        length = self.length(sequence)
        if not 0 <= start <= end <= length:
            raise Refused(f"no range of {length} tokens: {start} to {end}")
        if not self._lib.llama_memory_can_shift(self._memory):
            raise Refused("this model's cells cannot be moved; splice by re-encoding")
        self._forget(sequence)
        self._lib.llama_memory_seq_rm(self._memory, sequence, start, end)
        self._lib.llama_memory_seq_add(self._memory, sequence, end, -1, start - end)

    def save(self, sequence: int) -> bytes:
        self._check_id(sequence)
        self._carry_out()
        size = int(self._lib.llama_state_seq_get_size(self._context, sequence))
        buffer = (c_uint8 * size)()
        written = int(self._lib.llama_state_seq_get_data(self._context, buffer, size, sequence))
        if not written:
            raise Broken("the state of a sequence could not be read")
        return bytes(memoryview(buffer)[:written])

    def load(self, sequence: int, state: bytes) -> None:
        """Replace the sequence's cells by what `save` gave."""
        self.remove(sequence, 0, -1)
        self._carry_out()
        buffer = (c_uint8 * len(state)).from_buffer_copy(state)
        if not self._lib.llama_state_seq_set_data(self._context, buffer, len(state), sequence):
            self._lib.llama_memory_seq_rm(self._memory, sequence, 0, -1)
            raise Full("the saved sequence does not fit")

    def _carry_out(self) -> None:
        """A cut or a copy is only noted until the next batch, and a state that is read before would lack it."""
        getattr(self._lib, abi.UPDATE)(self._context, False)

    def _check_id(self, sequence: int) -> None:
        if not 0 <= sequence < self.sequences:
            raise Refused(f"no sequence {sequence} of {self.sequences}")


class _Heard(msgspec.Struct):
    """What was told of one part so far."""

    tokens: list[int] = []
    likely: list[list[tuple[int, float]]] = []
    logits: list[bytes] = []


class _Arrays:
    """A batch's memory, used again and again."""

    def __init__(self, size: int) -> None:
        self.token = (c_int32 * size)()
        self.pos = (c_int32 * size)()
        self.ids = (c_int32 * size)()
        self.logits = (c_int8 * size)()
        self._one = (c_int32 * size)(*[1] * size)
        at = ctypes.addressof(self.ids)
        pointers = [ctypes.cast(at + 4 * k, POINTER(c_int32)) for k in range(size)]
        self._seq_id = (POINTER(c_int32) * size)(*pointers)

    def of(self, count: int) -> Any:
        return abi.Batch(count, self.token, None, self.pos, self._one, self._seq_id, self.logits)


def _complain(level: int, text: bytes, _: object) -> None:
    if level >= _ERROR and level != _ERROR + 1:  # 5 goes on with the line before
        sys.stderr.write(text.decode("utf-8", "replace"))
