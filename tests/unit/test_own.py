"""Owning: a term is begun, a replica is told of it, and what fails is told and tried again."""

from dataclasses import dataclass, field, replace

from facts import replica, service
from heard import Heard
from test_claim import Hand, Shelf

from perdure.control.own import CATCH_UP_AGAIN_S, Owners
from perdure.control.world import ServiceState, SlotState, World
from perdure.detect import suspect
from perdure.model.decision import Decision, Exchange, Promote, Take
from perdure.model.errors import UnavailableError
from perdure.model.owner import Term, Terms
from perdure.model.replica import Slot, State
from perdure.model.rollback import Rollback
from perdure.model.service import Mode, Role, Service, Standby
from perdure.model.standing import Desired
from perdure.ports.role import Duty, Listener

WEB = service(mode=Mode.ACTIVE_PASSIVE, standby=Standby.WARM, role=Role(http="/role"))


@dataclass
class Told:
    """Roles that are written down; `deaf` does not take them."""

    deaf: bool = False
    duties: list[Duty] = field(default_factory=list)

    def prepare(self, service: Service, slot: str) -> str:
        return f"/slots/{slot}/state"

    def write(self, duty: Duty) -> None:
        self.duties.append(duty)

    async def tell(self, duty: Duty, listener: Listener) -> None:
        self.write(duty)
        if self.deaf:
            raise UnavailableError("it did not take its role: HTTP 500", "perdure logs")

    def variables(self, service: str, slot: str) -> tuple[tuple[str, str], ...]:
        return (("PERDURE_STATE", f"/slots/{slot}"),)


class Case:
    """One service with a warm replica that stands by in slot 2."""

    def __init__(self) -> None:
        self.clock, self.shelf, self.roles = Hand(), Shelf(), Told()
        self.touched: list[str] = []
        self.told = Heard()
        self.readable = self.whole = True
        self.heirs: list[int | None] = []
        self.outcomes: list[bool | None] = []
        slot = SlotState(Slot("web", 2), replica(2, State.PASSIVE))
        self.service = ServiceState(Desired(WEB, "web@1", 3), suspect.policy(WEB), {2: slot})
        self.slot = slot
        self.world = World({"web": self.service})
        self.words = iter(range(1000))
        self.owners = self.again(Terms(rivals=False))

    def again(self, terms: Terms) -> Owners:
        """What a daemon has that has just started."""
        return Owners(
            self.clock,
            self.shelf,  # type: ignore[arg-type]  # a claim needs no more of a store
            self.world,
            self.roles,
            "here",
            terms,
            lambda: str(next(self.words)),
            self.touched.append,
            self.told,
            self.catch_up,
            self.exchange,
        )

    async def catch_up(self, service: ServiceState, slot: Slot) -> bool:
        self.heirs.append(service.heir)
        return self.whole if service.lossy else self.readable

    async def exchange(self, service: ServiceState, slot: SlotState, rollback: Rollback) -> bool | None:
        return self.outcomes.pop(0)

    async def do(self, change: Take | Promote | Exchange) -> None:
        self.owners.act(self.service, Decision("T01", "web/2", "it is so", change))
        assert self.owners.term(self.service).busy
        await self.owners.rest()
        self.service.term = self.owners.term(self.service)


async def test_before_the_record_was_read_nothing_may_be_taken() -> None:
    case = Case()
    assert not case.owners.term(case.service).takeable
    await case.owners.step()
    assert case.owners.term(case.service).takeable


async def test_until_a_right_of_an_earlier_daemon_is_renewed_nothing_is_said_of_it() -> None:
    case = Case()
    await case.owners.step()
    await case.do(Take(Slot("web", 2)))
    later = case.again(Terms())
    meanwhile: list[Term] = []
    case.shelf.on_commit = lambda: meanwhile.append(later.term(case.service))
    await later.step()
    assert meanwhile == [Term(known=False)]
    term = later.term(case.service)
    assert (term.owner, term.holds) == (2, True)


async def test_without_rivals_the_right_of_an_earlier_daemon_is_known_though_the_store_takes_no_write() -> None:
    case = Case()
    await case.owners.step()
    await case.do(Take(Slot("web", 2)))
    case.shelf.fates = ["lost"]
    later = case.again(Terms(rivals=False))
    await later.step()
    term = later.term(case.service)
    assert (term.owner, term.holds) == (2, True)


async def test_a_term_is_begun_and_the_replica_is_told_its_epoch() -> None:
    case = Case()
    await case.owners.step()
    await case.do(Take(Slot("web", 2), 5))
    term = case.service.term
    assert (term.owner, term.epoch, term.handover, term.holds) == (2, 1, 5, True)
    await case.do(Promote(Slot("web", 2)))
    assert case.slot.told == 1 and case.roles.duties[-1].role == "active" and case.roles.duties[-1].epoch == 1
    assert "web" in case.touched


async def test_a_takeover_is_counted_and_the_first_term_is_none() -> None:
    case = Case()
    await case.owners.step()
    await case.do(Take(Slot("web", 1)))
    assert case.service.takeovers == 0
    await case.do(Take(Slot("web", 2)))
    await case.do(Take(Slot("web", 2)))
    assert case.service.takeovers == 1
    await case.do(Take(Slot("web", 1)))
    assert case.service.takeovers == 2


async def test_when_the_last_state_cannot_be_copied_it_is_decided_anew_what_may_be_lost() -> None:
    case = Case()
    await case.owners.step()
    case.readable = False
    await case.do(Take(Slot("web", 2)))
    assert case.service.lossy and case.service.term.owner is None
    await case.do(Take(Slot("web", 2)))
    assert not case.service.lossy and case.service.term.owner == 2


async def test_a_slot_whose_state_is_not_whole_does_not_become_the_owner_and_is_tried_again_later() -> None:
    case = Case()
    await case.owners.step()
    case.readable = case.whole = False
    await case.do(Take(Slot("web", 2)))
    began_at = case.clock.at
    await case.do(Take(Slot("web", 2)))
    assert case.service.term.owner is None and case.clock.at == began_at + CATCH_UP_AGAIN_S
    case.whole = True
    await case.do(Take(Slot("web", 2)))
    assert case.service.term.owner == 2
    assert case.heirs == [2, 2, 2] and case.service.heir is None, "nobody else writes to it meanwhile"


async def test_who_does_not_take_its_role_is_told_of_and_counted() -> None:
    case = Case()
    case.roles.deaf = True
    await case.owners.step()
    await case.do(Take(Slot("web", 2)))
    await case.do(Promote(Slot("web", 2)))
    assert (case.slot.told, case.slot.refusals, case.told.rules) == (0, 1, ["T10"])


async def test_a_replica_is_told_its_role_when_it_starts() -> None:
    case = Case()
    case.owners.introduce(case.service, case.slot)
    assert case.roles.duties[-1].role == "passive"
    assert dict(case.owners.variables(case.service, case.slot))["PERDURE_ROLE"] == "passive"


async def test_a_service_that_is_active_active_has_no_term_and_no_role() -> None:
    case = Case()
    plain = service()
    case.service.desired = Desired(plain, "web@1", 3)
    await case.owners.step()
    case.owners.introduce(case.service, case.slot)
    assert not case.owners.tenures and not case.roles.duties
    assert case.owners.variables(case.service, case.slot) == ()


async def test_a_term_with_other_data_begins_when_they_were_exchanged_and_one_with_the_old_ones_when_not() -> None:
    case = Case()
    await case.owners.step()
    await case.do(Take(Slot("web", 2)))
    before = case.owners.term(case.service)
    case.outcomes = [None, True, False]
    for number, (history, epoch, settled) in enumerate([(0, 0, 0), (1, 1, 1), (1, 2, 2)], 1):
        wanted = Rollback(max(1, number - 1), 2, "new", "old", 1, "s-0001")
        case.service.desired = replace(case.service.desired, rollback=wanted)
        await case.do(Exchange(Slot("web", 2)))
        term = case.owners.term(case.service)
        assert (term.data_epoch, term.epoch - before.epoch, term.rollback) == (history, epoch, settled)
    assert case.owners.term(case.service).owner == 2
