"""The monitors' figures as text, line for line as Wizard prints them: `published(monitor, code=False)`.

So outputs can be compared with the published engine's own. What looks odd in them is kept and named where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from weft.core.errors import BadInput
from weft.runtime.probes.asking import Calls, Memory
from weft.runtime.probes.binary import Function, Instruction, Module, Reader
from weft.runtime.probes.monitors import (
    Blocks,
    Branches,
    Coverage,
    Globals,
    Hotness,
    Loops,
    Monitor,
    Opcodes,
    Place,
    block_starts,
)
from weft.runtime.probes.opcodes import (
    BR_IF,
    BR_ON_NON_NULL,
    BR_ON_NULL,
    BR_TABLE,
    ELSE,
    END,
    IF,
    IMMEDIATES,
    LOOP,
    NAMES,
    OPENING,
)

THRESHOLDS = (0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_TYPES = {
    0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128", 0x70: "funcref", 0x6F: "externref",
    0x6E: "anyref", 0x6D: "eqref", 0x6C: "i31ref", 0x6B: "structref", 0x6A: "arrayref", 0x69: "exnref",
}  # fmt: skip
_HEAP = {-16: "func", -17: "extern", -18: "any", -19: "eq", -20: "i31", -21: "struct", -22: "array", -23: "exn"}


def published(monitor: Monitor, *, code: bool = False) -> str:
    """What Wizard's monitor of this kind prints; `code`: with the program's text, as its option `c` does.

    Raises BadInput for a form that Wizard has not."""
    return "".join(f"{line}\n" for line in form_of(monitor, code=code)(monitor))


def form_of(monitor: Monitor, *, code: bool) -> Callable[[Any], Iterator[str]]:
    """What writes the lines. Raises BadInput for a form that Wizard has not."""
    forms: dict[tuple[type[Monitor], bool], Callable[[Any], Iterator[str]]] = {
        (Hotness, False): _hotness, (Hotness, True): _hotness_code, (Coverage, False): _coverage,
        (Coverage, True): _coverage_code, (Blocks, True): _blocks_code, (Branches, False): _branches,
        (Branches, True): _branches_code, (Loops, False): _loops, (Loops, True): _loops_code,
        (Calls, False): _calls, (Calls, True): _calls, (Opcodes, False): _opcodes, (Memory, False): _memory,
        (Globals, False): _globals,
    }  # fmt: skip
    form = forms.get((type(monitor), code))
    if form is None:
        raise BadInput(
            f"{type(monitor).__name__.lower()} is told {'without' if code else 'with'} the program's text only"
        )
    return form


def text(module: Module, instruction: Instruction) -> str:
    """An instruction as Wizard writes it: its name, its immediates in brackets."""
    kinds = IMMEDIATES[instruction.code]
    if not kinds:
        return NAMES[instruction.code]
    parts = (_immediate(module, kind, value) for kind, value in zip(kinds, instruction.values, strict=True))
    return f"{NAMES[instruction.code]}[{','.join(parts)}]"


def _immediate(module: Module, kind: str, value: Any) -> str:
    named = {"l": "depth", "f": "func", "t": "table", "M": "mem", "e": "elem", "g": "tag", "d": "data", "n": "lane"}
    named |= {"F": "field", "s": "sig", "T": "type"}
    if kind in named:
        return f"{named[kind]}={value}"
    if kind == "b":
        return _block(module, value)
    if kind in "Lc":
        return f"{len(value)}..."
    if kind == "m":
        flags, memory, offset = value
        return (f"memory={memory}," if memory else "") + f"align={1 << (flags >> 1)},offset={offset}"
    if kind in "48V":
        return f"0x{value:0{ {'4': 8, '8': 16, 'V': 32}[kind] }X}"
    if kind == "x":
        return " ".join(map(_type, value))
    if kind == "h":
        return _HEAP.get(value, str(value))
    if kind == "k":
        flags, depth, one, two = value
        first, second = (
            f"(ref {'null ' * bool(flags & bit)}{_HEAP.get(heap, heap)})" for bit, heap in ((1, one), (2, two))
        )
        return f"depth={depth} {first} to {second}"
    return str(value)


def _type(value: bytes) -> str:
    if value[0] in (0x63, 0x64):
        heap = Reader(value, 1).whole()
        return f"(ref {'null ' * (value[0] == 0x63)}{_HEAP.get(heap, heap)})"
    return _TYPES.get(value[0], f"{value[0]:#x}")


def _block(module: Module, value: bytes) -> str:
    if value == b"\x40":
        return ""
    if value[0] in _TYPES or value[0] in (0x63, 0x64):
        return _type(value)
    known = module.types[Reader(value).whole()]
    params, results = known or ([], [])
    if not params and len(results) <= 1:
        return "".join(map(_type, results))
    return f"[{' '.join(map(_type, params))}] -> [{' '.join(map(_type, results))}]"


def _groups(places: list[Place]) -> Iterator[tuple[Place, int]]:
    """Each place, the hottest first, with the number of the threshold that it helps to reach."""
    ordered = sorted(places, key=lambda place: (-place.count, place.function.index, place.instruction.offset))
    total = sum(place.count for place in ordered)
    seen = group = 0
    for place in ordered:
        yield place, group
        seen += place.count
        if group < len(THRESHOLDS) and seen >= int(THRESHOLDS[group] * total):
            group += 1


def _hotness(monitor: Hotness) -> Iterator[str]:
    before = 0
    for number, (place, group) in enumerate(_groups(monitor.places())):
        if group > before:
            reached = f"reach {int(100 * THRESHOLDS[before])}%"
            yield f" {number} instrs".rjust(10) + reached.rjust(25)
        before = group
        name = f"func {monitor.module.name(place.function.index)}".rjust(15)
        yield f"{name}{f'+{place.instruction.offset}':>5}:{place.count:>14}"


def _hotness_code(monitor: Hotness) -> Iterator[str]:
    for threshold in THRESHOLDS:
        yield f" reach {int(100 * threshold)}%".rjust(15, "-")
    depth, function = 0, None
    for place in monitor.places():
        if place.function is not function:
            function, depth = place.function, 0
            yield f"func {monitor.module.name(function.index)}:"
        code = place.instruction.code
        depth -= code == END and depth > 0
        tabs = "\t" * (depth - (code == ELSE))
        counted = f"{place.count}\t".rjust(8)
        yield f"{f'+{place.instruction.offset}':>5}{counted}{tabs}{text(monitor.module, place.instruction)}"
        depth += code in OPENING


def _share(part: int, whole: int) -> str:
    tenths = 1000 * part // whole if whole else 0
    return f"{part} / {whole} ({tenths // 10}.{tenths % 10}%)"


def _coverage(monitor: Coverage) -> Iterator[str]:
    places = monitor.places()
    starts = {
        (function.index, function.instructions[place].offset)
        for function in monitor.module.functions
        for place in block_starts(function)
    }
    begun = [place for place in places if (place.function.index, place.instruction.offset) in starts]
    for what, found in (("Instr", places), ("Block", begun)):
        yield f"{what} coverage:\t{_share(sum(place.count > 0 for place in found), len(found))}"


def _coverage_code(monitor: Coverage) -> Iterator[str]:
    function = None
    for place in monitor.places():
        if place.function is not function:
            function = place.function
            yield f"func {monitor.module.name(function.index)}:"
        mark = "* " if place.count else "  "
        yield f"{f'+{place.instruction.offset}':>5}  {mark}{text(monitor.module, place.instruction)}"


def _blocks_code(monitor: Blocks) -> Iterator[str]:
    for function in monitor.module.functions:
        yield f"func {monitor.module.name(function.index)}:"
        starts = monitor.starts(function)
        for place, instruction in enumerate(function.instructions):
            at = f"{f'+{instruction.offset}':>5}" if place in starts else "    -"
            mark = " -->" if starts.get(place) else "    "
            yield f"{at}{mark}  {text(monitor.module, instruction)}"


def _branches(monitor: Branches) -> Iterator[str]:
    function = None
    for branch in monitor.branches():
        if not any(branch.taken):
            continue
        if branch.function is not function:
            function = branch.function
            yield f"func {monitor.module.name(function.index)}:"
        # Wizard looks the name up by the last byte of the code alone
        code = branch.instruction.code & 0xFF
        name = NAMES.get(code) or (f"{code:02X} (invalid)")
        yield f"{f'+{branch.instruction.offset}':>5} {name}:\t {branch.taken}"


def _branches_code(monitor: Branches) -> Iterator[str]:
    branches = monitor.branches()
    for function in {branch.function.index: branch.function for branch in branches if any(branch.taken)}.values():
        yield f"func {monitor.module.name(function.index)}:"
        mine = {branch.instruction.offset: branch.taken for branch in branches if branch.function is function}
        edges = _edges(function, mine)
        for instruction in function.instructions:
            line = f"{f'+{instruction.offset}':>5}     {text(monitor.module, instruction).ljust(22)}"
            if found := edges.get(instruction.offset):
                arrow = "-->" if instruction.code in (IF, BR_IF, BR_TABLE) else "<--"
                line += f"  {arrow} " + ", ".join(f"+{offset}: {count}" for offset, count in found)
            yield line


def _edges(function: Function, taken: dict[int, list[int]]) -> dict[int, list[tuple[int, int]]]:
    """By offset, where control went to or came from, and how often. Of an `if`, Wizard names as taken the way past its
    first arm, with the count of the arm."""
    edges: dict[int, list[tuple[int, int]]] = {}
    targets = _targets(function)
    for place, instruction in enumerate(function.instructions):
        if place not in targets or instruction.offset not in taken:
            continue
        ways, counts = targets[place], taken[instruction.offset]
        if instruction.code != BR_TABLE:
            ways, counts = [*ways, function.instructions[place + 1].offset], counts[::-1]
        for target, count in zip(ways, counts, strict=True):
            edges.setdefault(instruction.offset, []).append((target, count))
            edges.setdefault(target, []).append((instruction.offset, count))
    return edges


def _targets(function: Function) -> dict[int, list[int]]:
    """By place of a branch, the offsets that Wizard names as its targets: of a loop its header; else one byte before
    where control goes on (so the `else`, but also the byte before an `end`)."""
    ends, elses = _ends(function)
    opened: list[int] = []
    found: dict[int, list[int]] = {}
    last = len(function.instructions) - 1
    for place, instruction in enumerate(function.instructions):

        def target(depth: int, opened: list[int] = opened) -> int:
            if depth >= len(opened):
                return function.instructions[last].offset - 1
            begun = opened[-1 - depth]
            if function.instructions[begun].code == LOOP:
                return function.instructions[begun].offset
            return function.instructions[ends[begun]].offset - 1

        if instruction.code in OPENING:
            opened.append(place)
        if instruction.code == IF:
            arm = elses.get(place)
            found[place] = [function.instructions[arm].offset if arm else function.instructions[ends[place]].offset - 1]
        elif instruction.code in (BR_IF, BR_ON_NULL, BR_ON_NON_NULL):
            found[place] = [target(instruction.values[0])]
        elif instruction.code == BR_TABLE:
            loops = [
                d < len(opened) and function.instructions[opened[-1 - d]].code == LOOP for d in instruction.values[0]
            ]
            found[place] = [target(d) - loop for d, loop in zip(instruction.values[0], loops, strict=True)]
        elif instruction.code == END and opened:
            opened.pop()
    return found


def _ends(function: Function) -> tuple[dict[int, int], dict[int, int]]:
    """By place of what opens a block: the place of its `end`, and of its `else` if it has one."""
    ends, elses, opened = {}, {}, []
    for place, instruction in enumerate(function.instructions):
        if instruction.code in OPENING:
            opened.append(place)
        elif instruction.code == ELSE:
            elses[opened[-1]] = place
        elif instruction.code == END and opened:
            ends[opened.pop()] = place
    return ends, elses


def _loops(monitor: Loops) -> Iterator[str]:
    function = None
    for loop in monitor.loops():
        if not loop.count:
            continue
        if loop.function is not function:
            function = loop.function
            yield f"func {monitor.module.name(function.index)}:"
        yield f" +{loop.begin} ... +{loop.end} ".rjust(14) + f"loop: {loop.count:>5}"


def _loops_code(monitor: Loops) -> Iterator[str]:
    loops = {(loop.function.index, loop.begin): loop for loop in monitor.loops()}
    for function in {loop.function.index: loop.function for loop in loops.values()}.values():
        yield f"func {monitor.module.name(function.index)}:"
        opened: list[Any] = []
        middles: list[int] = []
        latest, indent = None, 0
        for instruction in function.instructions:
            loop = loops.get((function.index, instruction.offset))
            at, said = f"{f'+{instruction.offset}':>5}", text(monitor.module, instruction)
            if instruction.code in OPENING:
                opened.append(loop)
            if loop:
                latest, indent = loop, loop.depth + 1
                middles.append((loop.begin + loop.end) // 2)
                yield f"{at}" + "\t|" * (indent - 1) + f"\t-->\t{said}"
            elif instruction.code == END and opened and opened.pop():
                yield f"{at}" + "\t|" * (indent - 1) + f"\t<--\t{said}"
                indent -= 1
                middles.pop()
            else:
                # the count in the middle of each loop around is that of the loop begun last
                inside = (
                    f"\t({latest.count})" if latest and instruction.offset == middle else "\t|" for middle in middles
                )
                yield f"{at}{''.join(inside)}\t{said}"


def _calls(monitor: Calls) -> Iterator[str]:
    for function, entered, sites in monitor.calls():
        if not entered:
            continue
        yield f"func {monitor.module.name(function.index)}: {entered}"
        for site in sites:
            at, name = site.instruction.offset, NAMES[site.instruction.code]
            if name in ("call", "return_call"):
                yield f"  +{at}: {name} [{site.instruction.values[0]}]: {site.count}"
                continue
            yield f"  +{at}: {name}:"
            for target, count in site.targets.items():
                yield f"    {'import' if target is None else monitor.module.name(target)}: {count}"


def _table(cells: list[str], widths: list[int]) -> str:
    first, *rest = (
        f"{cell:<{width}}" if not n else f"{cell:>{width}}"
        for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return " " + " ".join([first, *rest])


def _opcodes(monitor: Opcodes) -> Iterator[str]:
    widths = [24, 7, 12]
    yield _table(["Opcode", "static", "dynamic"], widths)
    yield "-" * (sum(widths) + 4)
    for name, (there, executed) in monitor.opcodes().items():
        yield _table([name, str(there), str(executed)], widths)


def _memory(monitor: Memory) -> Iterator[str]:
    widths = [24, 12, 12]
    for number, use in enumerate(monitor.memories):
        yield f"memory #{number}"
        for name in ("init", "copy", "fill"):
            count, size = getattr(use, name)
            yield f"memory.{name}: {count}, {size} bytes"
        yield f"grows: {use.grows}, max pages: {use.largest}"
        yield _table(["Addresses", "reads", "writes"], widths)
        yield "-" * (sum(widths) + 4)
        used = {*use.reads, *use.writes}
        chunks = max(use.chunks, *(chunk + 1 for chunk in used)) if used else use.chunks
        chunk = 0
        while chunk < chunks:
            span = f"{chunk << 16 & 0xFFFFFFFF:08X} ... {(chunk + 1 << 16) - 1 & 0xFFFFFFFF:08X}"
            yield _table([span, str(use.reads[chunk]), str(use.writes[chunk])], widths)
            chunk += 1
            if chunk - 1 not in used:
                begun = chunk
                while chunk < chunks - 1 and chunk not in used:
                    chunk += 1
                if chunk > begun:
                    yield "  . . . "


def _globals(monitor: Globals) -> Iterator[str]:
    yield f"{'#R':>20}{'#W':>10}"
    for number, (reads, writes) in enumerate(monitor.globals()):
        yield f"{f'global[{number}]  ':>13}{f'{reads} ':>8}{f'{writes} ':>10}"
