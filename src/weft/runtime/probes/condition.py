"""Conditions over a function's locals, compiled into WebAssembly: `n > 100 and step < 3`.

Names are those of the module's name section, or local0, local1, ...; numbers, + - * & | ^, comparisons, and, or, not.
Whole numbers are taken as signed 64-bit, others as f64. Nothing in them can trap.
"""

from __future__ import annotations

import ast
import struct
from dataclasses import dataclass

from weft.core.errors import BadInput
from weft.runtime.probes.binary import Function, Module, signed, unsigned

_ARITHMETIC: dict[type[ast.operator], tuple[bytes, bytes | None]] = {
    ast.Add: (b"\x7c", b"\xa0"), ast.Sub: (b"\x7d", b"\xa1"), ast.Mult: (b"\x7e", b"\xa2"),
    ast.BitAnd: (b"\x83", None), ast.BitOr: (b"\x84", None), ast.BitXor: (b"\x85", None),
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], tuple[bytes, bytes]] = {
    ast.Eq: (b"\x51", b"\x61"), ast.NotEq: (b"\x52", b"\x62"), ast.Lt: (b"\x53", b"\x63"),
    ast.Gt: (b"\x55", b"\x64"), ast.LtE: (b"\x57", b"\x65"), ast.GtE: (b"\x59", b"\x66"),
}  # fmt: skip
_WIDENED = {0x7F: ("whole", b"\xac"), 0x7E: ("whole", b""), 0x7D: ("float", b"\xbb"), 0x7C: ("float", b"")}


@dataclass(frozen=True, slots=True)
class Condition:
    """`code` leaves an i32; `operands` has for each name in it whether it is a float, and code that leaves its bits."""

    code: bytes
    operands: dict[str, tuple[bool, bytes]]


def compiled(module: Module, function: Function, text: str) -> Condition:
    """The condition in `text`. Raises BadInput where it isn't one, or names what the function hasn't."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise BadInput(f"the condition {text!r} is no expression: {error.msg}") from error
    writing = _Writing(module, function, text)
    return Condition(writing.truth(tree), writing.operands)


class _Writing:
    def __init__(self, module: Module, function: Function, text: str) -> None:
        self.text = text
        self.kinds = [*function.params, *function.locals]
        self.names = {f"local{index}": index for index in range(len(self.kinds))}
        self.names |= {name: index for index, name in module.locals.get(function.index, {}).items()}
        self.operands: dict[str, tuple[bool, bytes]] = {}

    def truth(self, node: ast.expr) -> bytes:
        if isinstance(node, ast.BoolOp):
            joined = b"\x71" if isinstance(node.op, ast.And) else b"\x72"
            first, *rest = map(self.truth, node.values)
            return first + b"".join(one + joined for one in rest)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self.truth(node.operand) + b"\x45"
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            parts = [self._compared(*one) for one in zip(node.ops, sides, sides[1:], strict=False)]
            return parts[0] + b"".join(part + b"\x71" for part in parts[1:])
        kind, code = self.number(node)
        return code + (b"\x50\x45" if kind == "whole" else b"\x44" + bytes(8) + b"\x62")

    def _compared(self, operator: ast.cmpop, left: ast.expr, right: ast.expr) -> bytes:
        if type(operator) not in _COMPARE:
            raise self._no(left)
        kind, code = self._both(left, right)
        return code + _COMPARE[type(operator)][kind == "float"]

    def _both(self, left: ast.expr, right: ast.expr) -> tuple[str, bytes]:
        (one, first), (two, second) = self.number(left), self.number(right)
        if one == two:
            return one, first + second
        return "float", first + b"\xb9" * (one == "whole") + second + b"\xb9" * (two == "whole")

    def number(self, node: ast.expr) -> tuple[str, bytes]:
        if isinstance(node, ast.Constant) and type(node.value) is int and -(2**63) <= node.value < 2**63:
            return "whole", b"\x42" + signed(node.value)
        if isinstance(node, ast.Constant) and type(node.value) is float:
            return "float", b"\x44" + struct.pack("<d", node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self.number(ast.BinOp(ast.Constant(0), ast.Sub(), node.operand))
        if isinstance(node, ast.Name):
            return self._local(node.id)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            kind, code = self._both(node.left, node.right)
            operation = _ARITHMETIC[type(node.op)][kind == "float"]
            if operation is not None:
                return kind, code + operation
        raise self._no(node)

    def _local(self, name: str) -> tuple[str, bytes]:
        index = self.names.get(name)
        if index is None or self.kinds[index][0] not in _WIDENED:
            raise BadInput(f"the condition {self.text!r}: there is no local number {name!r}; there are {[*self.names]}")
        kind, widen = _WIDENED[self.kinds[index][0]]
        code = b"\x20" + unsigned(index) + widen
        self.operands[name] = (kind == "float", code + b"\xbd" * (kind == "float"))
        return kind, code

    def _no(self, node: ast.expr) -> BadInput:
        return BadInput(f"the condition {self.text!r}: {ast.unparse(node)!r} is nothing that can be asked here")
