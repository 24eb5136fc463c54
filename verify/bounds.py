"""How large a world the model is explored in, as a configuration for TLC."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Bounds:
    """So many of each. `free`: tools whose effects need no order, besides `tools` whose do. A tool's signature changes
    between `signatures` ones and "not there", as often as you like; operations retry as often as you like."""

    agents: int = 2
    cells: int = 2
    operations: int = 2
    tools: int = 1
    free: int = 0
    signatures: int = 2
    effects: int = 2

    def configuration(self, levels: tuple[int, ...], invariants: tuple[str, ...]) -> str:
        """A .cfg file: every operation chooses one of `levels`, and `invariants` are to hold."""
        ordered = _names("t", self.tools)
        lines = [
            f"Agents = {_names('a', self.agents)}",
            f"Cells = {_names('c', self.cells)}",
            f"Ops = {_names('o', self.operations)}",
            "Initial = none",
            f"Tools = {_names('t', self.tools + self.free)}",
            f"Ordered = {ordered}",
            f"Signatures = {{{', '.join(str(n + 1) for n in range(self.signatures))}}}",
            f"MaxEffects = {self.effects}",
            f"Levels = {{{', '.join(map(str, levels))}}}",
        ]
        constants = "\n".join(f"  {line}" for line in lines)
        return f"CONSTANTS\n{constants}\nSPECIFICATION Spec\nSYMMETRY Symmetric\nINVARIANTS {' '.join(invariants)}\n"

    def __str__(self) -> str:
        return ", ".join(
            f"{count} {name if count != 1 else name.removesuffix('s')}"
            for name, count in asdict(self).items()
            if count or name in ("tools", "effects")
        )


def _names(letter: str, count: int) -> str:
    return f"{{{', '.join(f'{letter}{n + 1}' for n in range(count))}}}"


FULL = Bounds()
SMALL = Bounds(cells=1, signatures=1)
"""For CI: enough for all verdicts."""
CHAIN = Bounds(agents=1, cells=1, operations=3, tools=0, signatures=1, effects=0)
"""For cascades over more than one step."""
