"""What `perdure init` writes: a commented file to start from, or one made from a Procfile or a systemd unit.

Pure texts; the command line writes them. Each loads without problems (tests), whatever was put in.
"""

from perdure.config import procfile, unit, writing

_STARTER = """\
# What Perdure runs on this machine. `perdure check` finds mistakes, `perdure up` starts it, `perdure status` shows it.
# `perdure docs` explains every section with all its options.

[service.{name}]
# The program, with the port that Perdure gives to each replica. This one serves the files of this directory.
command = "python3 -m http.server --bind 127.0.0.1 $PORT"

# Two replicas: one goes on answering while the other is repaired.
replicas = 2

# Where clients connect.
listen = "127.0.0.1:8080"

# More environment, from a file of KEY=value lines.
# env_file = ".env"

# How each replica is asked whether it works. Choose a path that uses what matters (the database, say), but is quick.
[service.{name}.check]
http = "/"
interval = "1s"
timeout = "1s"

# Requests that fail on one replica are tried on another one.
[service.{name}.retry]
attempts = 3
deadline = "30s"

# How a replica is ended, and how soon the next one starts.
# [service.{name}.restart]
# stop_signal = "SIGTERM"
# stop_timeout = "10s"
# backoff = "100ms"

# A replica that takes more memory is replaced.
# [service.{name}.limits]
# memory = "512MB"
"""


def starter(name: str) -> str:
    """Return a commented file with one service; `name` is turned into a valid service name."""
    return _STARTER.format(name=writing.service_name(name))


def from_procfile(text: str) -> str:
    """Return a file with one service for each process of a Procfile; raises ConfigError when it declares none."""
    return procfile.convert(text)


def from_systemd_unit(text: str, name: str) -> str:
    """Return a file with the service of a systemd unit, what is not carried over named in comments at its top.

    `name` is the unit's, with or without `.service`. Raises ConfigError when the unit starts no program.
    """
    return unit.convert(text, name)
