"""`weft worker`, on a machine whose clock is `$WEFT_CHAOS_SKEW` seconds ahead."""

from __future__ import annotations

import os
import time

_skew = float(os.environ.get("WEFT_CHAOS_SKEW", "0"))
if _skew:
    _time, _time_ns = time.time, time.time_ns
    time.time = lambda: _time() + _skew
    time.time_ns = lambda: _time_ns() + int(_skew * 1e9)

if __name__ == "__main__":
    from weft.cli import main

    main()
