"""The page: what happened in the runs of a store, live, in a browser; and a hand on them.

Its API stands in `docs/reference/web-api.md`; the front, which uses nothing else, in `weft/web/static`.
"""

from weft.core.errors import MissingExtra

try:
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as missing:
    raise MissingExtra("the page needs the extra `web`: pip install 'weft[web]'") from missing
