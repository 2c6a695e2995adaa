"""Reads HTTP/1.1 responses byte by byte as they arrive, for the load generator (`pool`).

It is a reader of its own because the generator must tell apart what an HTTP library hides: no byte came, some bytes
came, the answer was complete. It knows only what a client on a trusted network needs: lengths, chunks, keep-alive.
"""

HEAD_BYTES_MAX = 65_536


class WireError(ValueError):
    """What came is not an HTTP/1.x response."""


class Reader:
    """One response: `feed` it until it says True; then `status`, `keep_alive` and `body` are valid."""

    __slots__ = ("_at", "_bodyless", "_buffer", "_chunked", "_chunks", "_length", "body", "keep_alive", "status")

    def __init__(self, bodyless: bool = False) -> None:
        self.status = 0
        self.keep_alive = True
        self.body = b""
        self._bodyless = bodyless
        self._buffer = b""
        self._at = 0
        self._length: int | None = None
        self._chunked = False
        self._chunks: list[bytes] = []

    @property
    def started(self) -> bool:
        """Whether any byte of a response came."""
        return self.status > 0 or bool(self._buffer)

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; True when the response is complete. Raises WireError."""
        self._buffer = self._buffer + data if self._buffer else data
        if self.status == 0 and not self._read_head():
            return False
        if self._bodyless:
            return self._complete(self._at)
        if self._chunked:
            return self._read_chunks()
        if self._length is None:
            return False
        end = self._at + self._length
        if len(self._buffer) < end:
            return False
        self.body = self._buffer[self._at : end]
        return self._complete(end)

    def end(self) -> bool:
        """The peer closed: True when that completes the response, because nothing else marks its end."""
        if self.status == 0 or self._chunked or self._length is not None:
            return False
        self.body = self._buffer[self._at :]
        self.keep_alive = False
        return True

    def _read_head(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > HEAD_BYTES_MAX:
                    raise WireError("the head of the response is too long")
                return False
            head = self._buffer[:end].lower()
            if not head.startswith(b"http/1.") or not head[9:12].isdigit():
                raise WireError(f"not an HTTP response: {head[:40]!r}")
            status = int(head[9:12])
            if status >= 200:
                break
            self._buffer = self._buffer[end + 4 :]
        self.status, self._at = status, end + 4
        self._read_framing(head, status)
        return True

    def _read_framing(self, head: bytes, status: int) -> None:
        self._bodyless = self._bodyless or status in (204, 304)
        connection = _field(head, b"connection")
        self.keep_alive = connection == b"keep-alive" if head.startswith(b"http/1.0") else connection != b"close"
        self._chunked = _field(head, b"transfer-encoding") == b"chunked"
        length = _field(head, b"content-length")
        if length is not None and not self._chunked:
            if not length.isdigit():
                raise WireError(f"bad content-length: {length[:40]!r}")
            self._length = int(length)

    def _read_chunks(self) -> bool:
        while True:
            line_end = self._buffer.find(b"\r\n", self._at)
            if line_end < 0:
                return False
            try:
                size = int(self._buffer[self._at : line_end].partition(b";")[0], 16)
            except ValueError:
                raise WireError(f"bad chunk size: {self._buffer[self._at : line_end][:40]!r}") from None
            start = line_end + 2
            if size == 0:
                return self._read_trailer(line_end)
            if len(self._buffer) < start + size + 2:
                return False
            self._chunks.append(self._buffer[start : start + size])
            self._at = start + size + 2

    def _read_trailer(self, last_line_end: int) -> bool:
        end = self._buffer.find(b"\r\n\r\n", last_line_end)
        if end < 0:
            return False
        self.body = b"".join(self._chunks)
        return self._complete(end + 4)

    def _complete(self, end: int) -> bool:
        if len(self._buffer) > end:
            self.keep_alive = False  # bytes that nobody asked for: the connection cannot be trusted again
        return True


def _field(head: bytes, name: bytes) -> bytes | None:
    """The value of a field of a lower-case head."""
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return None
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()
