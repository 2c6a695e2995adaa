"""Runs a transcript: commands about one service, and every decision that Perdure takes on them, in virtual time.

Deciders, beliefs and the table of states are the real ones, and so is the executor; the processes, the clock and the
balancer's readings are a few lines here. A replica answers half a second after its start unless it was told not to.
"""

import heapq
import itertools
import shlex
from collections.abc import Callable
from dataclasses import replace

from listed import ListedHost, ListedRunner, VirtualClock
from owning import Owning, fresh

from perdure.control import appraise, conditions, news, turn
from perdure.control.execute import Executor
from perdure.control.world import ServiceState, SlotState, World
from perdure.detect import digest, oom, peers, stall, suspect, traffic, vantage
from perdure.model.check import Check, CheckKind, CheckRole
from perdure.model.decision import Begin, Decision, Exchange, Note, Promote, Take
from perdure.model.evidence import Beat, Exited, Held, Outcome, Probed, Served, Sighted
from perdure.model.replica import Exit, Replica, Slot, State
from perdure.model.service import Address, Heartbeat, Limits, Mode, Service, Standby
from perdure.model.snapshot import Keeping, StateKind
from perdure.model.standing import Desired
from perdure.model.traffic import Admin, Backend, Counters, Server

ANSWERS_AFTER_S = 0.5
READ_EVERY_S = 0.1
LOOK_S_MAX = 1.0


class Interpreter(Owning):
    """One service in virtual time; `run` takes one line and returns the trace of what came of it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.world = World(oom_kills=oom.Kills(0))
        self.trace: list[str] = []
        self.in_flight: dict[int, int] = {}
        self.waiting: dict[int, int] = {}
        self.mute: set[int] = set()
        self.silent: set[int] = set()
        self.broken: set[int] = set()
        self.deaf = set()
        self.agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = itertools.count()
        self.runner, self.host = ListedRunner(self._later), ListedHost()
        self.executor = Executor(
            self.clock,
            self.runner,
            self.host,
            self.world,
            lambda: 0.5,
            range(21_000, 22_000),
            lambda slot: (),
            self._exited,
        )

    def run(self, line: str) -> list[str]:
        """Carry out one command, after time has passed to its `at`; returns the decisions since the last one."""
        words = shlex.split(line, comments=True)
        self.trace = []
        if words and words[0] == "at":
            self._advance(float(words[1]))
            words = words[2:]
        if words:
            getattr(self, "do_" + words[0].replace("-", "_"))(*words[1:])
            self._turns()
        return self.trace

    # Commands about the service

    def do_service(self, name: str, *options: str) -> None:
        """`service web replicas=3 heartbeat=1 memory=100 standby=warm`: declare it, and go on when it serves."""
        given = dict(option.split("=") for option in options)
        declared = Service(
            name,
            ("serve",),
            replicas=int(given.get("replicas", "3")),
            listen=Address("127.0.0.1", 8080),
            checks=(Check(CheckKind.HTTP, path="/healthz"),),
            digest=Check(CheckKind.HTTP, "/digest", role=CheckRole.DIGEST) if "digest" in given else None,
            heartbeat=Heartbeat(float(given["heartbeat"])) if "heartbeat" in given else None,
            limits=Limits(memory_bytes=int(given["memory"]) * 1_000_000 if "memory" in given else None),
            mode=Mode.ACTIVE_PASSIVE if "standby" in given else Mode.ACTIVE_ACTIVE,
            standby=Standby(given.get("standby", "cold")),
            state=Keeping(StateKind.FILES, max_loss_s=float(given["loss"])) if "loss" in given else None,
        )
        wanted = Desired(declared, f"{name}@1", declared.replicas)
        self.world.services[name] = fresh(wanted)
        self._advance(10.0)
        self.trace = []

    def do_restart(self, target: str) -> None:
        """`restart web` or `restart web/2`."""
        newest = max([self._wanted.generation, *(one for _, one in self._wanted.slot_generations)]) + 1
        if "/" in target:
            self._want(slot_generations=((Slot.parse(target).number, newest),))
        else:
            self._want(generation=newest)

    def do_release(self, release: str) -> None:
        """`release web@2`: another release is wanted."""
        self._want(release=release)

    def do_drain(self, slot: str) -> None:
        self._want(drained=(*self._wanted.drained, Slot.parse(slot).number))

    def do_undrain(self, slot: str) -> None:
        self._want(drained=tuple(one for one in self._wanted.drained if one != Slot.parse(slot).number))

    def do_scale(self, replicas: str) -> None:
        self._want(replicas=int(replicas))

    def do_stop(self) -> None:
        self._want(stopped=True)

    # Commands about what replicas do

    def do_in_flight(self, slot: str, requests: str) -> None:
        """`in-flight web/1 2`: requests that it still has when it is drained."""
        self.in_flight[Slot.parse(slot).number] = int(requests)

    def do_mute(self, slot: str) -> None:
        """`mute web/1`: its next replicas never answer."""
        self.mute.add(Slot.parse(slot).number)

    def do_broken(self, slot: str) -> None:
        """`broken web/1`: its next replicas end at once."""
        self.broken.add(Slot.parse(slot).number)

    def do_silent(self, slot: str) -> None:
        """`silent web/1`: it sends no heartbeat any more."""
        self.silent.add(Slot.parse(slot).number)

    def do_repaired(self, slot: str) -> None:
        """`repaired web/1`: its next replicas are well, and one that is starting answers now."""
        for ill in (self.broken, self.mute, self.silent):
            ill.discard(Slot.parse(slot).number)
        replica = self._slot(slot).replica
        if replica is not None and replica.state is State.STARTING:
            self._answer(replica.slot, replica.name)

    def do_stubborn(self, slot: str) -> None:
        """`stubborn web/1`: it ends only when it is killed."""
        process = self._replica(slot).process
        assert process is not None
        self.runner.stubborn.add(process.pid)

    def do_exit(self, slot: str, how: str) -> None:
        """`exit web/1 SIGKILL` or `exit web/1 3`."""
        process = self._replica(slot).process
        assert process is not None
        self.runner.end(process, Exit(signal=how) if how.startswith("SIG") else Exit(int(how)))

    def do_killed_for_memory(self, *slots: str) -> None:
        """`killed-for-memory web/1 web/2`: the kernel ends them at once, and counts that."""
        self.host.killed_for_memory += len(slots)
        for slot in slots:
            self.do_exit(slot, "SIGKILL")

    # Commands about what is observed

    def do_probe(self, slot: str, outcome: str, answer: str = "", took: str = "0.01") -> None:
        """`probe web/1 status "503 no database"`; a time-out took a second unless it says otherwise."""
        took_s = 1.0 if outcome == "timeout" and took == "0.01" else float(took)
        now, name = self.clock.now(), self._replica(slot).name
        self._observe(slot, Probed(name, "http /healthz", now - took_s, now, Outcome(outcome), answer))

    def do_sight(self, slot: str, letter: str, memory: str = "") -> None:
        """`sight web/1 T`, or `sight web/1 S 200` with megabytes."""
        held = int(memory) * 1_000_000 if memory else None
        self._observe(slot, Sighted(self._replica(slot).name, self.clock.now(), letter, held))

    def do_backlog(self, slot: str, waiting: str, seconds: str = "0") -> None:
        """`backlog web/1 9 3`: so many connections waited at every look of three seconds; eight may."""
        until_at = self.clock.now() + float(seconds)
        while True:
            self._observe(slot, Held(self._replica(slot).name, self.clock.now(), int(waiting), 8))
            if self.clock.now() + 0.25 > until_at:
                return
            self._advance(self.clock.now() + 0.25)

    def do_descriptors(self, slot: str, used: str) -> None:
        """`descriptors web/1 1020`: of 1024."""
        self._observe(slot, Held(self._replica(slot).name, self.clock.now(), 0, 1, int(used), 1024))

    def do_leaks(self, slot: str, first: str, last: str, seconds: str) -> None:
        """`leaks web/1 100 300 200`: its memory in megabytes grows steadily for so many seconds, seen every ten."""
        begin_at, span_s = self.clock.now(), float(seconds)
        while self.clock.now() < begin_at + span_s:
            grown = (float(last) - float(first)) * (self.clock.now() - begin_at) / span_s
            self.do_sight(slot, "S", str(round(float(first) + grown)))
            self._advance(self.clock.now() + 10.0)

    def do_served(self, *counts: str) -> None:
        """`served 20/4 20/0 20/0`: requests and failures of each slot, in one reading of the balancer."""
        slots = [self._service.slots[number] for number in range(1, len(counts) + 1)]
        served = []
        for slot, count in zip(slots, counts, strict=True):
            requests, failures = (int(one) for one in count.split("/"))
            served.append(Served(str(slot.slot), self.clock.now(), requests, failures))
            slot.belief = replace(slot.belief, seen=traffic.count(slot.belief.seen, served[-1]))
        without = peers.leave_one_out([traffic.summary(slot.belief.seen, self.clock.now()) for slot in slots])
        for slot, one, others in zip(slots, served, without, strict=True):
            slot.belief = replace(slot.belief, seen=traffic.observe(slot.belief.seen, one, others))

    def do_waits(self, slot: str, requests: str = "1") -> None:
        """`waits web/1 2`: it is handed so many requests, and answers none from now on; a moment ago it had none."""
        state, before_at = self._slot(slot), self.clock.now() - 0.1
        if state.belief.stalled.answered_at is None:
            state.belief = replace(state.belief, stalled=stall.Stall(before_at, seen_at=before_at))
        self.waiting[Slot.parse(slot).number] = int(requests)
        self._flown(self._slot(slot), int(requests), 0)

    def do_answers(self, slot: str, requests: str) -> None:
        """`answers web/1 9`: since the last reading it was handed so many requests and answered them well."""
        self._flown(self._slot(slot), int(requests), int(requests))

    def do_down(self, slot: str, soon: str = "") -> None:
        """`down web/1`: HAProxy's own checks hold it down; `down web/1 soon`: the last one has failed."""
        self._slot(slot).check_fails, self._slot(slot).down_seen_at = bool(soon), None if soon else self.clock.now()

    def do_digests(self, *said: str) -> None:
        """`digests a a b`: what each slot says of its data in one round; `-` says nothing."""
        slots = [self._service.slots[number] for number in range(1, len(said) + 1)]
        answers = {str(slot.slot): one for slot, one in zip(slots, said, strict=True) if one != "-"}
        self._service.digests = digest.observe(self._service.digests, answers)
        for slot in slots:
            compared = digest.compare(slot.belief.compared, self._service.digests, str(slot.slot))
            slot.belief = replace(slot.belief, compared=compared)

    def do_paused(self, seconds: str) -> None:
        """`paused 10`: the monitor itself did not run for ten seconds, until now."""
        pause_s = float(seconds)
        self.clock.at += pause_s
        self.agenda = [(at + pause_s, number, act) for at, number, act in self.agenda]
        for slot in self._service.slots.values():
            slot.belief = suspect.shifted(slot.belief, pause_s)

    # Time

    def _advance(self, to_at: float) -> None:
        assert to_at >= self.clock.at, f"time does not go back from {self.clock.at} to {to_at}"
        if not self.world.services:
            self.clock.at = to_at
            return
        while True:
            look_at = self._turns()
            next_at = min(look_at, self.agenda[0][0] if self.agenda else to_at, to_at)
            self.clock.at = max(self.clock.at, next_at)
            while self.agenda and self.agenda[0][0] <= self.clock.at:
                heapq.heappop(self.agenda)[2]()
            if self.clock.at >= to_at:
                self._turns()
                return

    def _turns(self) -> float:
        """Take turns until nothing is due; returns when to look again."""
        for _ in range(100):
            service, now = self._service, self.clock.now()
            self._read()
            standings, undecided = appraise.standings(service, now), conditions.undecided(service)
            facts = turn.Facts(
                service.desired,
                standings,
                True,
                service.bucket,
                service.shared_at,
                service.notes,
                undecided,
                term=service.term,
            )
            plan = turn.decide(facts, now)
            assert plan == turn.decide(facts, now)
            service.bucket, service.shared_at = plan.bucket, plan.shared_at
            for decision in news.of(service, plan.decisions, now):
                self._carry_out(decision)
            if not any(not isinstance(decision.change, Note) for decision in plan.decisions):
                return self._look_again_at(plan)
        raise AssertionError(f"the turns do not come to rest: {self.trace[-3:]}")

    def _look_again_at(self, plan: turn.Plan) -> float:
        now, service = self.clock.now(), self._service
        live = [slot for slot in service.slots.values() if slot.live]
        instants = [suspect.look_again_at(slot.belief, now, service.rules) for slot in live]
        draining = any(slot.replica and slot.replica.state is State.DRAINING for slot in live)
        look_at = min(plan.look_again_at, now + (READ_EVERY_S if draining else LOOK_S_MAX), *instants)
        return look_at if look_at > now else now + LOOK_S_MAX

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.agenda, (self.clock.now() + delay_s, next(self.numbers), act))

    # What comes of it

    def _carry_out(self, decision: Decision) -> None:
        change = decision.change
        before = self._state(change)
        self.executor.prepare(self._service, decision)
        self.executor.act(self._service, decision)
        if isinstance(change, Begin):
            self._begun(change.slot)
        if isinstance(change, Take | Promote | Exchange):
            self._occupied(change)
        after = self._state(change)
        self._tell(
            decision.rule, decision.subject, decision.sentence, f"{before} -> {after}" if after != before else ""
        )

    def _begun(self, slot: Slot) -> None:
        name = self._service.slots[slot.number].replica
        assert name is not None and name.process is not None
        process = name.process
        self.waiting.pop(slot.number, None)
        if slot.number in self.broken:
            self._later(0.1, lambda: self.runner.end(process, Exit(1)))
        elif slot.number not in self.mute:
            self._later(ANSWERS_AFTER_S, lambda: self._answer(slot, name.name))

    def _answer(self, slot: Slot, name: str) -> None:
        state = self._service.slots[slot.number]
        if state.replica is None or state.replica.name != name or state.exited:
            return
        state.port_checked = True
        self.do_probe(str(slot), "good")
        if self._service.rules.service.heartbeat is not None:
            self._beat(slot, name)

    def _beat(self, slot: Slot, name: str) -> None:
        """A heartbeat, and the next one after it, while this replica lives and is not silent."""
        state, heartbeat = self._service.slots[slot.number], self._service.rules.service.heartbeat
        if state.replica is None or state.replica.name != name or state.exited or heartbeat is None:
            return
        if slot.number not in self.silent:
            self._observe(str(slot), Beat(name, self.clock.now()))
        self._later(heartbeat.every_s, lambda: self._beat(slot, name))

    def _exited(self, exited: Exited) -> None:
        slot = Slot.parse(exited.replica.partition("#")[0])
        state = self._service.slots[slot.number]
        assert state.replica is not None
        before = state.replica.state
        sentence = self.executor.exited(self._service, state, exited.exit)
        self._tell("R10", str(slot), sentence, f"{before} -> {state.replica.state}")

    def _tell(self, rule: str, subject: str, sentence: str, moved: str) -> None:
        self.trace.append(f"{self.clock.now():8.3f} {rule} {subject}: {sentence}" + (f" [{moved}]" if moved else ""))

    def _state(self, change: object) -> str:
        slot = getattr(change, "slot", None)
        state = self._service.slots[slot.number] if slot is not None else None
        return str(state.replica.state) if state is not None and state.replica is not None else "empty"

    def _read(self) -> None:
        """A reading of the balancer, later than anything that happened before this instant."""
        service, servers = self._service, []
        for number, slot in service.slots.items():
            if slot.replica is not None and slot.live:
                admin = Admin.READY if slot.replica.state in (State.READY, State.SUSPECT) else Admin.DRAIN
                sessions = self.in_flight.get(number, 0)
                servers.append(Server(f"s{number}", slot.replica.port, admin, True, sessions, 0, Counters()))
                if self.waiting.get(number):
                    self._flown(slot, 0, 0)
        service.backend, service.backend_at = Backend(service.name, tuple(servers)), self.clock.now()

    def _flown(self, slot: SlotState, requests: int, answers: int) -> None:
        now, waiting = self.clock.now(), self.waiting.get(slot.slot.number, 0)
        stalled = stall.observe(slot.belief.stalled, now, requests, answers, waiting)
        counted = vantage.observe(slot.belief.answers, now, answers, waiting)
        slot.belief = replace(slot.belief, stalled=stalled, answers=counted)

    def _observe(self, slot: str, evidence: Probed | Sighted | Beat) -> None:
        state = self._slot(slot)
        state.belief = suspect.observe(state.belief, evidence, self._service.rules)
        if isinstance(evidence, Probed) and evidence.outcome is Outcome.GOOD:
            self._service.hearing = vantage.hear(self._service.hearing, evidence.started_at, 1.0)

    def _want(self, **changed: object) -> None:
        self._service.desired = replace(self._wanted, **changed)  # type: ignore[arg-type]

    def _slot(self, slot: str) -> SlotState:
        return self._service.slots[Slot.parse(slot).number]

    def _replica(self, slot: str) -> Replica:
        replica = self._slot(slot).replica
        assert replica is not None, f"{slot} has no replica"
        return replica

    @property
    def _service(self) -> ServiceState:
        [service] = self.world.services.values()
        return service

    @property
    def _wanted(self) -> Desired:
        return self._service.desired
