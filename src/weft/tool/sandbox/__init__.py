"""Run commands that nobody trusts: in a wall, on a copy of the folders that they are given.

    done = await sandbox.run(["pytest", "-q"])                      # needs sandbox:pytest -q and read:.
    done = await sandbox.apply(["ruff", "format", "."])             # and write:., for its changes are carried over
    said = await sandbox.say("cd src && make")                      # a shell that stays: needs sandbox:sh -c 'cd ...'
    said = await sandbox.say("./main --help")                       # still in src
    await sandbox.leave()

A command sees the system's programs, this Python, and of the folders what its process may read; no network, no other
process, no secrets, a /tmp of its own. So a policy may allow any command here and none outside: `--allow sandbox:**`.
What it took is in the step's outcome, and it ends with the step, its time or Weft. The wall is the process wall
(`weft.runtime.sandbox`); without one on this machine, SandboxMissing says what to install.
"""

from __future__ import annotations

from weft.tool.sandbox.command import Ran, apply, run
from weft.tool.sandbox.place import Changed
from weft.tool.sandbox.stay import Said, leave, say

__all__ = ["Changed", "Ran", "Said", "apply", "leave", "run", "say"]
