"""The daemon's API as the commands see it: HTTP over its unix socket, and errors of the same classes as there.

Everything that the command line knows of a running deployment comes through here. It uses the standard library's
client: a command asks one question and ends, and must not spend most of its time importing an event loop.
"""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from perdure.control.paths import Paths
from perdure.model import errors

ANSWER_TIMEOUT_S = 10.0
_KINDS: dict[str, type[errors.PerdureError]] = {
    kind.__name__: kind
    for kind in (errors.UnavailableError, errors.ConflictError, errors.RefusedError, errors.CorruptionError)
}


class NotRunningError(errors.UnavailableError):
    """Nobody listens on the socket: there is no daemon."""


class Client:
    """Asks one daemon; every call makes a connection of its own, so that a daemon may restart in between."""

    def __init__(self, paths: Paths, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.paths = paths
        self.timeout_s = timeout_s

    def get(self, *segments: str, **query: object) -> Any:
        """Ask for a document; UnavailableError when no daemon answers in time."""
        return self._exchange("GET", _target(segments, query), None, self.timeout_s)

    def post(self, *segments: str, **body: object) -> list[str]:
        """Give a command; the sentences of the answer say what will be done, and by then it is durable."""
        return [str(sentence) for sentence in self.ask(*segments, **body)["sentences"]]

    def ask(self, *segments: str, **body: object) -> Any:
        """Ask for a document that takes work: the body says what."""
        return self._exchange("POST", _target(segments, {}), body, self.timeout_s)

    def stream(self, *segments: str, **query: object) -> Iterator[Any]:
        """Yield the documents of an endless answer as they come, until the daemon closes it."""
        connection = _Connection(self.paths, self.timeout_s)
        try:
            response = _send(connection, "GET", _target(segments, query), None)
            _raise_for(response.status, b"" if response.status < 400 else response.read())
            connection.wait_for_ever()
            while line := response.readline():
                if line.strip():
                    yield json.loads(line)
        except (http.client.HTTPException, ConnectionError, ValueError):
            return  # the daemon ended in the middle of a line; the caller says so
        finally:
            connection.close()

    def _exchange(self, method: str, target: str, body: Mapping[str, object] | None, timeout_s: float) -> Any:
        connection = _Connection(self.paths, timeout_s)
        try:
            response = _send(connection, method, target, body)
            data = response.read()
            _raise_for(response.status, data)
            return json.loads(data)
        except TimeoutError as error:
            sentence = f"the daemon did not answer within {timeout_s:.0f} s"
            raise errors.UnavailableError(sentence, f"look into {self.paths.daemon_log}") from error
        except (http.client.HTTPException, ConnectionError, ValueError) as error:
            sentence = f"the daemon broke off its answer ({type(error).__name__})"
            raise errors.UnavailableError(sentence, "perdure status") from error
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, paths: Paths, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._paths = paths

    def connect(self) -> None:
        """Connect, or say in one sentence why nobody is there."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._paths.api))
        except TimeoutError:
            raise
        except PermissionError as error:
            sentence = f"you may not talk to the daemon: permission denied on {self._paths.api}"
            raise errors.UnavailableError(
                sentence, "run the command as the user who started Perdure, or as root"
            ) from error
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            if not self._paths.state.exists() and not self._paths.file.exists():
                sentence = f"there is no {self._paths.file.name} in {self._paths.file.parent}"
                raise errors.ConfigError(sentence, "perdure init, or name the file: perdure -f PATH ...") from error
            raise NotRunningError("the daemon is not running", "perdure up -d") from error
        except OSError as error:  # the path is longer than a socket address can be
            sentence = f"cannot connect to {self._paths.api}: {error}"
            raise errors.ConfigError(sentence, "set PERDURE_HOME to a directory with a shorter path") from error

    def wait_for_ever(self) -> None:
        """Take the time-out away: the next document of a stream may be hours off."""
        self.sock.settimeout(None)


def _target(segments: tuple[str, ...], query: Mapping[str, object]) -> str:
    path = "/v1/" + "/".join(quote(segment, safe="") for segment in segments)
    given = {key: value for key, value in query.items() if value is not None}
    return path + ("?" + urlencode(given) if given else "")


def _send(
    connection: _Connection, method: str, target: str, body: Mapping[str, object] | None
) -> http.client.HTTPResponse:
    data = None if body is None else json.dumps(body).encode()
    headers = {} if data is None else {"Content-Type": "application/json"}
    connection.request(method, target, data, headers)
    return connection.getresponse()


def _raise_for(status: int, data: bytes) -> None:
    if status < 400:
        return
    try:
        error = json.loads(data)["error"]
        sentence, hint = str(error["sentence"]), str(error.get("hint") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        excerpt = data[:200].decode(errors="replace").strip()
        raise errors.UnavailableError(f"the daemon answered with HTTP status {status} ({excerpt})") from None
    if error.get("kind") == "ConfigError":
        raise errors.ConfigError(sentence, hint, tuple(_problem(one) for one in error.get("problems") or ()))
    raise _KINDS.get(str(error.get("kind")), errors.PerdureError)(sentence, hint)


def _problem(document: Mapping[str, Any]) -> errors.Problem:
    return errors.Problem(str(document["path"]), str(document["sentence"]), str(document.get("hint") or ""))
