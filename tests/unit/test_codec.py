"""What is stored is read back as it was; what cannot be understood is named, never dropped."""

import json
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model import codec
from perdure.model.check import Check, CheckKind
from perdure.model.errors import CorruptionError
from perdure.model.event import Event
from perdure.model.replica import Exit, Process, Replica, Slot, State
from perdure.model.service import Address, Deployment, Heartbeat, Limits, Log, Restart, Retry, Service

# from_type fills every field, defaults too; floats that JSON cannot hold are not values of the model.
FINITE = st.floats(allow_nan=False, allow_infinity=False)
st.register_type_strategy(float, FINITE)
ADDRESSES = st.builds(Address, st.text(), st.integers(1, 65_535))
SERVICES = st.builds(
    Service,
    name=st.text(),
    command=st.lists(st.text()).map(tuple),
    listen=st.none() | ADDRESSES,
    checks=st.lists(st.from_type(Check), max_size=3).map(tuple),
    heartbeat=st.none() | st.from_type(Heartbeat),
    retry=st.from_type(Retry),
    restart=st.from_type(Restart),
    limits=st.from_type(Limits),
    log=st.from_type(Log),
    environment=st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple),
    user=st.none() | st.text(),
    depends_on=st.lists(st.text(), max_size=3).map(tuple),
)
RANGES = st.builds(range, st.integers(), st.integers(), st.integers().filter(bool))
VALUES = st.one_of(
    SERVICES,
    st.builds(Deployment, st.lists(SERVICES, max_size=2).map(tuple), RANGES, st.none() | st.text()),
    st.from_type(Replica),
    st.from_type(Slot),
    st.from_type(Exit),
    st.from_type(Process),
    st.from_type(Event),
)
WEB = Service("web", ("serve", "--port", "$PORT"), checks=(Check(CheckKind.HTTP), Check(CheckKind.TCP)))


def stored(value: object) -> object:
    return json.loads(json.dumps(codec.encode(value), allow_nan=False))


@given(VALUES)
def test_every_value_comes_back_as_it_was_through_json_text(value: object) -> None:
    back = codec.decode(type(value), stored(value))
    assert back == value
    assert type(back) is type(value)


def test_enums_tuples_and_nested_values_get_their_own_types_back() -> None:
    back = codec.decode(Service, stored(WEB))
    assert back.checks[0].kind is CheckKind.HTTP
    assert isinstance(back.command, tuple)
    assert isinstance(back.restart, Restart)
    assert codec.decode(Deployment, stored(Deployment((WEB,)))).ports == range(21_000, 30_000)


def test_a_text_that_no_encoding_can_hold_survives() -> None:
    service = replace(WEB, environment=(("ODD", "caf\udce9\x00"),))
    assert codec.decode(Service, stored(service)) == service


def test_defaults_are_written_so_that_a_new_default_does_not_change_what_was_stored() -> None:
    assert codec.encode(WEB)["restart"]["backoff_s"] == 0.1


def test_a_missing_field_gets_its_default() -> None:
    assert codec.decode(Service, {"name": "web", "command": ["serve"]}) == Service("web", ("serve",))


def test_a_whole_number_is_read_as_a_float_where_a_float_is_meant() -> None:
    back = codec.decode(Heartbeat, {"every_s": 2})
    assert type(back.every_s) is float


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        ({"user": 7}, "user: must be a string (got an integer)"),
        ({"replica": 3}, "replica: is unknown"),
        ({"mode": "active-absent"}, "mode: 'active-absent' is unknown"),
        ({"restart": {"jitter": 1}}, "restart.jitter: is unknown"),
        ({"checks": [{"kind": "tcp"}, {"kind": "udp"}]}, "checks[1].kind: 'udp' is unknown"),
        ({"checks": [{}]}, "checks[0].kind: is missing"),
        ({"replicas": "3"}, "replicas: must be an integer (got a string)"),
        ({"replicas": True}, "replicas: must be an integer (got a boolean)"),
        ({"command": "serve"}, "command: must be an array (got a string)"),
        ({"environment": [["A"]]}, "environment[0]: must have 2 items (got 1)"),
        ({"listen": {"host": "::1", "port": None}}, "listen.port: must be an integer (got null)"),
        ({"port": 1.5}, "port: must be an integer (got a number)"),
        ({"name": None}, "name: must be a string (got null)"),
        ({"log": []}, "log: must be an object (got an array)"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(damage: dict[str, object], place: str) -> None:
    document = codec.encode(WEB) | damage
    with pytest.raises(CorruptionError) as caught:
        codec.decode(Service, document)
    assert caught.value.sentence.startswith(f"stored Service: {place}")
    assert caught.value.hint


@pytest.mark.parametrize("ports", [[1, 2], [1, 2, 0], [1, 2, "3"], {"start": 1}])
def test_a_broken_range_is_refused(ports: object) -> None:
    with pytest.raises(CorruptionError, match="stored Deployment: ports"):
        codec.decode(Deployment, {"services": [], "ports": ports})


def test_a_document_that_is_no_object_is_refused() -> None:
    with pytest.raises(CorruptionError, match="the document: must be an object"):
        codec.decode(Service, [])


def test_an_error_never_repeats_a_secret() -> None:
    with pytest.raises(CorruptionError) as caught:
        codec.decode(Service, codec.encode(WEB) | {"environment": "hunter2"})
    assert "hunter2" not in caught.value.sentence + caught.value.hint


@pytest.mark.parametrize("value", [object(), {1: "a"}, {"a": {1, 2}}, b"bytes", Service])
def test_a_value_without_json_form_is_a_bug_not_an_operating_error(value: object) -> None:
    with pytest.raises(TypeError):
        codec.encode(value)


def test_a_union_whose_members_cannot_be_told_apart_is_a_bug() -> None:
    @dataclass(frozen=True)
    class Either:
        one: Slot | Exit = field(default_factory=Exit)

    with pytest.raises(TypeError):
        codec.decode(Either, {"one": {}})


def test_the_state_of_a_replica_is_read_back_as_a_state() -> None:
    replica = Replica(Slot("web", 2), 5, "r1", 1, 21_000, State.STOPPING, 1.5, Process(7, 8), 11.5)
    back = codec.decode(Replica, stored(replica))
    assert back == replica
    assert back.state is State.STOPPING
