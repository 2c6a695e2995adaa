"""A small HTTP server for the tests of the balancer: haproxy_server.py KIND PORT FILE; prints the port it listens on.

Kinds: `good` answers; `slow` answers after 0.3 s; `reset` reads a request and resets the connection; `failing` answers
503; `echo` speaks no HTTP and sends back what it gets. Health checks are always answered well. Every other request is
noted in FILE, a line each, and the answer of `good` repeats the request's head.
"""

import asyncio
import socket
import struct
import sys


async def main(kind: str, port: int, noted: str) -> None:
    """Serve until killed."""

    async def note(text: str) -> None:
        with open(noted, "a") as file:  # noqa: ASYNC230, PTH123
            file.write(text + "\n")

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            length = next((int(line[15:]) for line in head.lower().splitlines() if line[:15] == "content-length:"), 0)
            await reader.readexactly(length)
            healthy = " /healthz " in head
            if not healthy and " /work " not in head:
                await note(head.splitlines()[0])
            if kind == "reset" and not healthy:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.close()
                return
            if kind == "slow" and not healthy:
                await asyncio.sleep(0.3)
            status = "503 No" if kind == "failing" and not healthy else "200 OK"
            body = f"{port} {head}"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await (echo if kind == "echo" else http)(reader, writer)
        except (OSError, EOFError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await server.serve_forever()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
