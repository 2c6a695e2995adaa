"""The first program of every replica: it prepares the process and then becomes the service's command.

`spawn` starts it as a bare interpreter (`-I -S`), so it may import nothing but what costs nothing: `json` or `signal`
alone would nearly double the 12 ms that a start takes. The launch document comes on descriptor 0, written with
`marshal` by the same interpreter, so that no secret of it is ever in an argument list. What is wrong with the program
becomes a sentence in the service's log, and exit code 127 (not there) or 126 (there, but cannot run).

The run is recorded before the command runs, and only a launcher whose daemon still lives goes on. So a daemon that died
while it was starting a replica leaves a recorded process or none, and never one that nobody knows of.
"""

# Importing pathlib costs more than all that this does.
# ruff: noqa: PTH105, PTH113, PTH118, PTH123, PTH208

import _signal  # type: ignore[import-not-found]
import errno
import marshal
import os

NOT_FOUND = 127
CANNOT_RUN = 126


def main() -> None:
    """Prepare this process as the document says, and become the command."""
    document = receive()
    restore_defaults()
    own_log(document["identity"])
    ticks = record(document)
    if os.getppid() != document["daemon_pid"]:
        os._exit(CANNOT_RUN)
    if document["refusal"]:
        give_up(document["refusal"], CANNOT_RUN)
    limit_open_files(document["open_files"])
    become(document["identity"])
    enter(document["directory"])
    mark = {b"PERDURE_PROCESS": b"%d.%d" % (os.getpid(), ticks)}
    run(document["command"], mark | document["environment"])


def receive() -> dict:  # type: ignore[type-arg]
    """Read the document, and put /dev/null in its place."""
    chunks = []
    while chunk := os.read(0, 1 << 20):
        chunks.append(chunk)
    null = os.open(b"/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return marshal.loads(b"".join(chunks))  # type: ignore[no-any-return]


def restore_defaults() -> None:
    """Undo what the interpreter ignores, and drop every descriptor that somebody forgot to mark close-on-exec."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    os.umask(0o022)
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                continue  # the descriptor that listed the directory


def own_log(identity: tuple | None) -> None:  # type: ignore[type-arg]
    """Give the log to the service's user, so that a program may open /dev/stdout anew."""
    try:
        os.fchmod(1, 0o640)
        if identity is not None:
            os.fchown(1, identity[0], identity[1])
    except PermissionError:
        return  # an old log of another user: writing to it works all the same


def record(document: dict) -> int:  # type: ignore[type-arg]
    """Note which process this is, atomically, and return its start ticks."""
    with open("/proc/self/stat", "rb") as stat:
        ticks = int(stat.read().rpartition(b")")[2].split()[19])
    numbers = (os.getpid(), ticks, document["run"], document["port"])
    text = b'{"pid": %d, "started_ticks": %d, "run": %d, "port": %d, ' % numbers
    path = document["record"]
    unfinished = path + b".%d" % os.getpid()
    with open(unfinished, "wb") as file:
        file.write(text + b'"boot_id": "%s"}\n' % document["boot_id"])
    os.replace(unfinished, path)
    return ticks


def limit_open_files(count: int | None) -> None:
    """Set soft and hard limit; only root may raise the hard one."""
    if count is None:
        return
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    except (OSError, ValueError) as error:
        give_up(f"cannot limit open files to {count}: {error}; lower `limits.open_files`, or run as root", CANNOT_RUN)


def become(identity: tuple | None) -> None:  # type: ignore[type-arg]
    """Drop to the user and groups of the document."""
    if identity is None:
        return
    uid, gid, groups = identity
    try:
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
    except PermissionError:
        give_up(f"cannot become user {uid} and group {gid}: only root may; run Perdure as root", CANNOT_RUN)


def enter(directory: bytes) -> None:
    """Change into the working directory."""
    try:
        os.chdir(directory)
    except OSError as error:
        give_up(f"cannot enter the directory {show(directory)}: {explain(error)}", CANNOT_RUN)


def run(command: list[bytes], environment: dict[bytes, bytes]) -> None:
    """Become the command, looked up on the PATH of its own environment unless it names a path."""
    program = command[0]
    named = b"/" in program
    refusal = ""
    for folder in [b""] if named else environment[b"PATH"].split(b":"):
        path = program if named else os.path.join(folder or b".", program)
        try:
            os.execve(path, command, environment)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.isfile(path):
                give_up(f"cannot run {show(path)}: the interpreter that its first line names is missing", NOT_FOUND)
        except (OSError, ValueError) as error:
            refusal = refusal or f"cannot run {show(path)}: {explain(error)}"
    if refusal:
        give_up(refusal, CANNOT_RUN)
    where = "there is no such file" if named else f"it is not on PATH ({show(environment[b'PATH'])})"
    give_up(f"cannot run {show(program)}: {where}", NOT_FOUND)


def explain(error: OSError | ValueError) -> str:
    """Why the system refused, in words."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    if error.errno == errno.ENOEXEC:
        return "it is no program for this machine, and no script that begins with #!"
    return os.strerror(error.errno)


def show(name: bytes) -> str:
    """Bytes as a person reads them."""
    return repr(name.decode("utf-8", "replace"))


def give_up(sentence: str, code: int) -> None:
    """Say why in the log, and end."""
    os.write(2, b"perdure: " + sentence.encode("utf-8", "replace") + b"\n")
    os._exit(code)


if __name__ == "__main__":
    main()
