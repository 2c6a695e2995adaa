"""Write rows, and acknowledge each one, once it is committed, by its number on the standard output, until somebody ends
this program. It begins after the last row that is there.

    python writing.py DATABASE ROWS_A_SECOND PAGES_BEFORE_A_CHECKPOINT
"""

import os
import sys
import time
from contextlib import closing

import apsw

BUSY_TIMEOUT_MS = 10_000
NOTE = "acknowledged once it is committed " * 8


def main(path: str, rate: float, checkpoint_pages: int) -> None:
    """Write."""
    with closing(apsw.Connection(path)) as connection:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}").fetchall()
        number = int(connection.execute("SELECT coalesce(max(n), 0) FROM acknowledged").get)
        due_at = time.monotonic()
        while True:
            number += 1
            connection.execute("INSERT INTO acknowledged VALUES (?, ?, ?)", (number, time.time(), NOTE))
            os.write(1, b"%d\n" % number)
            # Whoever was held up is not in a hurry afterwards: the rate is never exceeded.
            due_at = max(due_at + 1.0 / rate, time.monotonic() - 1.0 / rate)
            time.sleep(max(0.0, due_at - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
