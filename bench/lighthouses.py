"""Datasette, which we did not write, with a small database of its own for each replica; told its port by `--port`.

The database is made anew at each start, in the folder `data-SLOT` (`data-PORT` outside Perdure) where it runs, so that
a bench can spoil that of one replica alone. Datasette then takes this process over.
"""

import argparse
import os
import shutil
import sqlite3
import sys
from pathlib import Path

SQL = Path(__file__).resolve().parents[1] / "examples" / "demo" / "lighthouses.sql"
DATABASE = "lighthouses.db"


def main() -> None:
    """Make the database, and become Datasette."""
    parser = argparse.ArgumentParser(description="Datasette with a database of its own.")
    parser.add_argument("--port", type=int, required=True)
    said = parser.parse_args()
    slot = os.environ.get("PERDURE_SLOT", str(said.port)).replace("/", "-")
    folder = Path(f"data-{slot}").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    database = sqlite3.connect(folder / DATABASE)
    database.executescript(SQL.read_text())
    database.close()
    datasette = str(Path(sys.executable).with_name("datasette"))
    words = ["serve", str(folder / DATABASE), "--host", "127.0.0.1", "--port", str(said.port)]
    os.execv(datasette, [datasette, *words])


if __name__ == "__main__":
    main()
