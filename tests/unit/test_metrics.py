"""The page for Prometheus: every family has its lines, and a counter is written to the last digit."""

import re

from facts import desired, replica, service

from perdure.control import metrics
from perdure.control.world import ServiceState, SlotState, Totals, World
from perdure.detect import suspect
from perdure.model.replica import Slot, State
from perdure.model.service import Address

DAEMON = {"uptime_s": 1.5, "loop_age_s": 0.1, "cpu_s": 2.25, "memory_bytes": 77_000_001, "store_up": 1.0}
LINE = re.compile(r'(perdure_[a-z_]+)(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+]+')


def page(*declared_listen: Address | None) -> list[str]:
    services = {}
    for number, listen in enumerate(declared_listen, start=1):
        declared = service(listen=listen)
        slot = SlotState(Slot("web", number), replica(number, State.READY), totals=Totals(12_345_678, 9, 3))
        services[f"web{number}"] = ServiceState(desired(declared), suspect.policy(declared), {number: slot})
    return metrics.render(World(services), DAEMON, balancer_up=True).splitlines()


def test_every_line_is_one_that_prometheus_reads() -> None:
    lines = page(Address("127.0.0.1", 80))
    assert [line for line in lines if not line.startswith("# ") and not LINE.fullmatch(line)] == []
    kinds = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE")}
    assert all((kind == "counter") == name.endswith("_total") for name, kind in kinds.items())


def test_a_counter_is_exact_and_a_worker_has_none() -> None:
    lines = [line for line in page(Address("127.0.0.1", 80), None) if line.startswith("perdure_requests_total")]
    assert lines == ['perdure_requests_total{service="web",slot="web/1"} 12345678']
