"""The instructions of WebAssembly: their names, what follows each in the binary, and which may fail to complete.

An instruction's code is its byte, or prefix * 0x1000 + number for one of a prefixed page (0xFB garbage collection,
0xFC bulk memory and saturating conversions, 0xFD vectors, 0xFE threads). `IMMEDIATES` says with one letter for each
immediate what follows: b block type, l label, L labels, f function, s signature, t table, v local or global,
m memory argument, M memory, i i32, I i64, 4 f32, 8 f64, V v128, n lane, x value types, h heap type, T type, F field,
u number, d data, e element, g tag, c catches, k cast.
"""

from __future__ import annotations

BLOCK, LOOP, IF, ELSE, TRY, CATCH, THROW, RETHROW, THROW_REF, END = 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
BR, BR_IF, BR_TABLE, RETURN = 0x0C, 0x0D, 0x0E, 0x0F
CALL, CALL_INDIRECT, RETURN_CALL, RETURN_CALL_INDIRECT, CALL_REF, RETURN_CALL_REF = range(0x10, 0x16)
CATCH_ALL, TRY_TABLE = 0x19, 0x1F
GLOBAL_GET, GLOBAL_SET, MEMORY_GROW = 0x23, 0x24, 0x40
BR_ON_NULL, BR_ON_NON_NULL, BR_ON_CAST, BR_ON_CAST_FAIL = 0xD5, 0xD6, 0xFB018, 0xFB019
MEMORY_INIT, MEMORY_COPY, MEMORY_FILL = 0xFC008, 0xFC00A, 0xFC00B
CALLS = frozenset(range(0x10, 0x16))
OPENING = frozenset({BLOCK, LOOP, IF, TRY, TRY_TABLE})

_CONTROL = {
    0x00: ("unreachable", ""), 0x01: ("nop", ""), 0x02: ("block", "b"), 0x03: ("loop", "b"), 0x04: ("if", "b"),
    0x05: ("else", ""), 0x06: ("try", "b"), 0x07: ("catch", "g"), 0x08: ("throw", "g"), 0x09: ("rethrow", "l"),
    0x0A: ("throw_ref", ""), 0x0B: ("end", ""), 0x0C: ("br", "l"), 0x0D: ("br_if", "l"), 0x0E: ("br_table", "L"),
    0x0F: ("return", ""), 0x10: ("call", "f"), 0x11: ("call_indirect", "st"), 0x12: ("return_call", "f"),
    0x13: ("return_call_indirect", "st"), 0x14: ("call_ref", "s"), 0x15: ("return_call_ref", "s"),
    0x18: ("delegate", "l"), 0x19: ("catch_all", ""), 0x1A: ("drop", ""), 0x1B: ("select", ""),
    0x1C: ("select", "x"), 0x1F: ("try_table", "bc"), 0x20: ("local.get", "v"), 0x21: ("local.set", "v"),
    0x22: ("local.tee", "v"), 0x23: ("global.get", "v"), 0x24: ("global.set", "v"), 0x25: ("table.get", "t"),
    0x26: ("table.set", "t"), 0x3F: ("memory.size", "M"), 0x40: ("memory.grow", "M"), 0x41: ("i32.const", "i"),
    0x42: ("i64.const", "I"), 0x43: ("f32.const", "4"), 0x44: ("f64.const", "8"), 0xD0: ("ref.null", "h"),
    0xD1: ("ref.is_null", ""), 0xD2: ("ref.func", "f"), 0xD3: ("ref.eq", ""), 0xD4: ("ref.as_non_null", ""),
    0xD5: ("br_on_null", "l"), 0xD6: ("br_on_non_null", "l"),
}  # fmt: skip
_MEMORY = (
    "i32.load i64.load f32.load f64.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u i64.load8_s i64.load8_u"
    " i64.load16_s i64.load16_u i64.load32_s i64.load32_u i32.store i64.store f32.store f64.store i32.store8"
    " i32.store16 i64.store8 i64.store16 i64.store32"
)
_COMPARE = "eqz eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u"
_WHOLE = "clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr"
_FLOAT = "abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign"
_CONVERT = (
    "i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u i64.extend_i32_s i64.extend_i32_u"
    " i64.trunc_f32_s i64.trunc_f32_u i64.trunc_f64_s i64.trunc_f64_u f32.convert_i32_s f32.convert_i32_u"
    " f32.convert_i64_s f32.convert_i64_u f32.demote_f64 f64.convert_i32_s f64.convert_i32_u f64.convert_i64_s"
    " f64.convert_i64_u f64.promote_f32 i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32"
    " f64.reinterpret_i64 i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s i64.extend32_s"
)
_COLLECTED = (
    "struct.new:T struct.new_default:T struct.get:TF struct.get_s:TF struct.get_u:TF struct.set:TF array.new:T"
    " array.new_default:T array.new_fixed:Tu array.new_data:Td array.new_elem:Te array.get:T array.get_s:T"
    " array.get_u:T array.set:T array.len: array.fill:T array.copy:TT array.init_data:Td array.init_elem:Te"
    " ref.test:h ref.test_null:h ref.cast:h ref.cast_null:h br_on_cast:k br_on_cast_fail:k any.convert_extern:"
    " extern.convert_any: ref.i31: i31.get_s: i31.get_u:"
)
_BULK = (
    "i32.trunc_sat_f32_s: i32.trunc_sat_f32_u: i32.trunc_sat_f64_s: i32.trunc_sat_f64_u: i64.trunc_sat_f32_s:"
    " i64.trunc_sat_f32_u: i64.trunc_sat_f64_s: i64.trunc_sat_f64_u: memory.init:dM data.drop:d memory.copy:MM"
    " memory.fill:M table.init:et elem.drop:e table.copy:tt table.grow:t table.size:t table.fill:t"
)


def _all() -> dict[int, tuple[str, str]]:
    table = dict(_CONTROL)
    table |= {0x28 + n: (name, "m") for n, name in enumerate(_MEMORY.split())}
    numeric = [f"{kind}.{name}" for kind in ("i32", "i64") for name in _COMPARE.split()]
    numeric += [f"{kind}.{name}" for kind in ("f32", "f64") for name in ["eq", "ne", "lt", "gt", "le", "ge"]]
    numeric += [f"{kind}.{name}" for kind in ("i32", "i64") for name in _WHOLE.split()]
    numeric += [f"{kind}.{name}" for kind in ("f32", "f64") for name in _FLOAT.split()]
    table |= {0x45 + n: (name, "") for n, name in enumerate([*numeric, *_CONVERT.split()])}
    for prefix, page in ((0xFB, _COLLECTED), (0xFC, _BULK)):
        for number, entry in enumerate(page.split()):
            name, _, kinds = entry.partition(":")
            table[prefix * 0x1000 + number] = (name.replace("_null", " null"), kinds)
    for number in range(0x114):
        table[0xFD000 + number] = (f"vector {number}", _vector(number))
    for number in range(0x4F):
        table[0xFE000 + number] = (f"atomic {number}", "n" if number == 3 else "m")
    return table


def _vector(number: int) -> str:
    if number <= 11 or number in (92, 93):
        return "m"
    if number == 12:
        return "V"
    if number == 13:
        return "n" * 16
    if 21 <= number <= 34:
        return "n"
    return "mn" if 84 <= number <= 91 else ""


_TABLE = _all()
NAMES = {code: name for code, (name, _) in _TABLE.items()}
IMMEDIATES = {code: kinds for code, (_, kinds) in _TABLE.items()}


def completes(code: int) -> bool:
    """True of an instruction that, once begun, always hands on to the next: it neither branches nor can trap."""
    if code in (BLOCK, LOOP, END, 0x01, 0x1A, 0x1B, 0x1C, 0x3F, 0xD0, 0xD1, 0xD2, 0xD3) or 0x20 <= code <= 0x24:
        return True
    trapping = 0x6D <= code <= 0x70 or 0x7F <= code <= 0x82 or (0xA8 <= code <= 0xB1 and code not in (0xAC, 0xAD))
    return (0x41 <= code <= 0xC4 and not trapping) or 0xFC000 <= code <= 0xFC007
