"""Agent libOS's git tools as git commands."""

from __future__ import annotations

import shlex
from typing import Any


def git_words(tool: str, options: dict[str, Any]) -> list[str]:
    """The words of a tool's git command. Raises LookupError for a tool that is not known, ValueError for a name that
    git would take for an option."""
    action = options.get("action", "")
    paths = [one if isinstance(one, str) else one["path"] for one in options.get("paths", ())]
    words: dict[str, list[str]] = {
        "git_repository_info": ["rev-parse", "--git-dir"], "git_log": ["log", "--oneline"],
        "git_status": ["status", "--porcelain"], "git_diff": ["diff", "--", *paths],
        "git_show": ["show", options.get("ref", "HEAD")], "git_blame": ["blame", "--", str(options.get("path"))],
        "git_list_refs": ["for-each-ref"], "git_list_remotes": ["remote", "-v"],
        "git_list_worktrees": ["worktree", "list"], "git_stage": ["add", "--", *paths],
        "git_unstage": ["restore", "--staged", "--", *paths],
        "git_commit": ["commit", "-m", str(options.get("message", ""))], "git_restore": ["restore", "--", *paths],
        "git_branch": ["branch", *({"delete": ["-D"], "rename": ["-m"]}.get(action, [])), str(options.get("name"))],
        "git_switch": ["switch", str(options.get("target"))],
        "git_reset": ["reset", str(options.get("target", "HEAD"))],
        "git_clean": ["clean", "-fd"], "git_stash": ["stash", action or "push"],
        "git_tag": ["tag", *(["-d"] if action == "delete" else []), str(options.get("name"))],
        "git_integrate": [options.get("operation", "merge").replace("_", "-"), str(options.get("ref"))],
        "git_worktree": ["worktree", "remove" if action == "remove" else "add", "worktrees/managed"],
        "git_fetch": ["fetch", str(options.get("remote"))], "git_pull": ["pull", str(options.get("remote"))],
        "git_push": ["push", str(options.get("remote")), str(options.get("remote_ref"))],
    }  # fmt: skip
    if tool not in words:
        raise LookupError(f"nobody here knows {shlex.quote(tool)}")
    for value in (*options.values(), *paths):
        if isinstance(value, str) and value.startswith("-"):
            raise ValueError(f"{value!r} is an option, not a name")
    return words[tool]


def known(tool: str) -> bool:
    """Whether it is one of the tools that `git_words` knows."""
    try:
        git_words(tool, {})
    except LookupError:
        return False
    return True
