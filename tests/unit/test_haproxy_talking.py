"""What is said to HAProxy, what it answers, and what is remembered of it."""

from pathlib import Path

import pytest

from perdure.adapters.balancer import commands, memory, program, statistics
from perdure.adapters.balancer.memory import Memory
from perdure.adapters.balancer.render import Paths
from perdure.model.errors import UnavailableError
from perdure.model.replica import Process
from perdure.model.service import Address
from perdure.model.traffic import Admin, BalancerChange, CloseServer, PutServer, SetEpoch, SetRetry, WeighServer

PATHS = Paths(Path("/run/web shop"), 1)
HEADER = (
    "# pxname,svname,qcur,scur,stot,status,econ,eresp,wretr,wredis,lbtot,hrsp_5xx,addr,srv_icur,"
    "hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_other,weight,end,"
)


def put(server: str, admin: Admin, port: int | None = None) -> PutServer:
    return PutServer("web", server, Address("127.0.0.1", port) if port else None, admin)


def test_removals_come_before_additions_and_otherwise_order_is_kept() -> None:
    changes = [put("s1", Admin.READY, 80), CloseServer("web", "s2"), put("s3", Admin.MAINT), put("s4", Admin.READY)]
    assert list(commands.lines(changes, PATHS, ["api", "web"])) == [
        "shutdown sessions server be-web/s2;set server be-web/s3 state maint;"
        "set server be-web/s1 addr 127.0.0.1 port 80;set server be-web/s1 state ready;set server be-web/s1 health up;"
        "set server be-web/s4 state ready;set server be-web/s4 health up"
    ]


def test_a_path_with_a_space_is_one_word_of_a_command() -> None:
    (line,) = commands.lines([SetRetry("web", allowed=False)], PATHS, ["api", "web"])
    assert line == r"add acl /run/web\ shop/retries-off-1.list 2"
    (line,) = commands.lines([SetRetry("web", allowed=True)], PATHS, ["api", "web"])
    assert line == r"del acl /run/web\ shop/retries-off-1.list 2"


def test_the_epoch_of_a_service_is_set_before_its_new_active_replica_is_let_in() -> None:
    changes = [put("s1", Admin.READY), SetEpoch("web", 7), put("s2", Admin.MAINT)]
    (line,) = commands.lines(changes, PATHS, ["web"])
    assert line.split(";")[:2] == [r"set map /run/web\ shop/epochs-1.map web 7", "set server be-web/s2 state maint"]
    assert commands.epochs("0x5560 web 7\n0x5561 notes 0\n\n") == {"web": 7, "notes": 0}


def test_the_services_whose_retries_are_off_are_read_from_the_list() -> None:
    assert commands.numbers("0x5560 2\n0x5561 13\n\n") == {2, 13}
    assert commands.numbers("\n") == set()


def test_a_server_gets_a_weight() -> None:
    (line,) = commands.lines([put("s1", Admin.READY), WeighServer("web", "s1", 10)], PATHS, ["web"])
    assert line.startswith("set server be-web/s1 weight 10;set server be-web/s1 state ready")


def test_many_changes_are_sent_in_small_batches() -> None:
    lines = list(
        commands.lines([put(f"s{number}", Admin.READY, 80) for number in range(1, 100)], PATHS, ["api", "web"])
    )
    assert len(lines) == 5
    assert max(len(line) for line in lines) < 4096


@pytest.mark.parametrize(
    "change",
    [CloseServer("web", "s1;quit"), CloseServer("We b", "s1"), CloseServer("web", "wait"), put("s0", Admin.MAINT)],
)
def test_a_name_that_is_none_reaches_no_command(change: BalancerChange) -> None:
    with pytest.raises(AssertionError):
        list(commands.lines([change], PATHS, ["api", "web"]))


@pytest.mark.parametrize(
    "answer",
    [
        "\n\n",
        "no need to change the addr, port changed from '1' to '2' by 'stats socket command'\n\n",
        "IP changed from '127.0.0.1' to '127.0.0.2', no need to change the port by 'stats socket command'\n",
    ],
)
def test_the_answers_of_a_command_that_was_done_are_known(answer: str) -> None:
    commands.check(answer)


@pytest.mark.parametrize("answer", ["No such server.\n\n", "\n\nInvalid address\n", "Unknown command: 'x'\n"])
def test_any_other_answer_is_an_error(answer: str) -> None:
    with pytest.raises(UnavailableError, match=answer.strip().split()[0]):
        commands.check(answer)


def line(server: str, status: str, sessions: int = 0, idle: int = 0, port: int = 9, weight: int = 100) -> str:
    return f"be-web,{server},0,{sessions},5,{status},1,2,3,4,6,7,127.0.0.1:{port},{idle},0,90,9,1,0,{weight},x,"


def test_what_haproxy_reports_becomes_servers() -> None:
    reader = statistics.Reader({"web": 3})
    assert "no-maint" in reader.begin()
    rows = [
        HEADER,
        line("s1", "UP 1/3", sessions=2, idle=1, weight=25),
        line("s2", "DOWN 1/2"),
        "be-web,wait,,,,no check" + "," * 16,
    ]
    reader.take("\n".join([*rows, "be-web,BACKEND,4,,,UP" + "," * 16, "", ""]))
    assert reader.missing() == "show stat be-web 4 3"
    reader.take("\n".join([HEADER, line("s3", "MAINT", sessions=1, port=1)]))
    (backend,) = reader.backends()
    first, second, third = backend.servers
    assert backend.queued == 4
    assert (first.port, first.admin, first.up, first.sessions, first.idle_connections) == (9, Admin.READY, True, 2, 1)
    assert (first.counters.requests, first.weight) == (6, 25)
    assert (first.counters.connect_errors, first.counters.response_errors, first.counters.responses_5xx) == (1, 2, 7)
    assert (first.counters.retries, first.counters.redispatches) == (3, 4)
    assert first.counters.responses == 107
    assert (first.failing, second.failing) == (True, False)
    assert (second.admin, second.up) == (Admin.READY, False)
    assert (third.port, third.admin, third.up, third.sessions) == (0, Admin.MAINT, False, 1)


def test_a_server_that_an_error_of_a_request_has_marked_down_keeps_its_port() -> None:
    """HAProxy quotes what it says of its check then, for there is a comma in it; the columns behind must not move."""
    columns = HEADER.removeprefix("# ").split(",")
    cells = line("s1", "DOWN", sessions=7).split(",")
    at = columns.index("status") + 1
    header = ",".join([*columns[:at], "last_chk", *columns[at:]])
    said = '"Detected 1 consecutive errors, last one was: L4 unsuccessful connection"'
    reader = statistics.Reader({"web": 1})
    reader.begin()
    reader.take(f"# {header}\n{','.join([*cells[:at], said, *cells[at:]])}")
    (server,) = reader.backends()[0].servers
    assert (server.port, server.up, server.sessions) == (9, False, 7)


def test_a_server_in_maintenance_is_asked_about_until_it_has_nothing_left() -> None:
    reader = statistics.Reader({"web": 1})
    for sessions, asked in ((1, True), (0, True), (0, False)):
        reader.begin()
        reader.take(HEADER)
        assert (reader.missing() is not None) is asked
        if asked:
            reader.take(f"{HEADER}\n{line('s1', 'MAINT', sessions)}")
        assert reader.backends()[0].servers[0].sessions == sessions
    reader.put("web", "s1", Admin.MAINT)
    reader.begin()
    assert reader.missing() is not None, "a change may have given it another port"


def test_a_drained_server_that_is_down_is_still_drained() -> None:
    state = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n3 be-web 1 s1 127.0.0.1 0 8\n"
    reader = statistics.Reader({"web": 1}, statistics.drained_servers(state))
    reader.begin()
    reader.take(f"{HEADER}\n{line('s1', 'DOWN')}")
    assert reader.backends()[0].servers[0].admin is Admin.DRAIN
    reader.put("web", "s1", Admin.READY)
    reader.begin()
    reader.take(f"{HEADER}\n{line('s1', 'DOWN')}")
    assert reader.backends()[0].servers[0].admin is Admin.READY


def test_an_answer_that_is_no_statistics_is_an_error() -> None:
    with pytest.raises(UnavailableError, match="Permission denied"):
        statistics.Reader({"web": 1}).take("Permission denied\n")


def test_a_server_that_haproxy_does_not_have_is_an_error() -> None:
    reader = statistics.Reader({"web": 2})
    reader.begin()
    reader.take(f"{HEADER}\n{line('s1', 'UP')}")
    with pytest.raises(UnavailableError, match="s2"):
        reader.backends()


def test_what_is_remembered_comes_back(tmp_path: Path) -> None:
    kept = Memory(3, "abc", Process(7, 8), {"web": 4}, (Process(1, 2),))
    memory.save(tmp_path, kept)
    assert memory.load(tmp_path) == kept


@pytest.mark.parametrize("text", ["", "[]", "{}", "\x00", '{"generation": "x"}'])
def test_a_memory_that_cannot_be_read_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / memory.FILE).write_text(text)
    assert memory.load(tmp_path) == Memory()


def test_versions_are_read_from_haproxys_own_words() -> None:
    found = program.parse(Path("/x"), "HAProxy version 2.8.25-5cf5d0683 2026/06/26\nBuilt with Lua version : Lua 5.4\n")
    assert found == program.Program(Path("/x"), "2.8.25", lua=True)
    older = program.parse(Path("/x"), "HA-Proxy version 2.2.9-2+deb11u6 2023/12/10 - https://haproxy.org/\n")
    assert older == program.Program(Path("/x"), "2.2.9", lua=False)
    assert program.parse(Path("/x"), "nginx version: 1.24\n") is None
