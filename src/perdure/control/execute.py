"""Acting: one decision at a time, on the runner; every act may be repeated, and its result is a new observation.

`agent` calls `apply` after it has recorded the decisions of a turn. States change here and nowhere else, through the
one table in `model.replica`.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from perdure.control.world import Capsule, ServiceState, SlotState, World
from perdure.detect import oom, readmit, suspect
from perdure.model import replica as states
from perdure.model.decision import Advance, Begin, Decision, End, Kill, Note
from perdure.model.errors import UnavailableError
from perdure.model.evidence import Exited
from perdure.model.replica import Event, Exit, Process, Replica, Slot, State
from perdure.model.standing import History
from perdure.model.verdict import Conviction
from perdure.ports.clock import Clock
from perdure.ports.host import Host
from perdure.ports.runner import Launch, Runner
from perdure.recover import restart

CAPSULE_LINES = 20

log = structlog.get_logger()


@dataclass(slots=True)
class Executor:
    """Starts, advances and ends replicas; `jitter` gives uniform numbers in [0, 1)."""

    clock: Clock
    runner: Runner
    host: Host
    world: World
    jitter: Callable[[], float]
    ports: range
    environment: Callable[[SlotState], tuple[tuple[str, str], ...]]
    on_exit: Callable[[Exited], None]
    introduce: Callable[[ServiceState, SlotState], None] = lambda service, slot: None
    """Writes the role of a replica that is about to start, where it can read it."""

    def prepare(self, service: ServiceState, decision: Decision) -> None:
        """Change what is known, as the decision says; nothing outside the daemon changes yet."""
        match decision.change:
            case Begin(slot):
                self._new_replica(service, self.world.slot(slot))
            case Advance(slot, event):
                self._advance(service, self.world.slot(slot), event, decision)
            case End(slot, grace_s, failed):
                state = self.world.slot(slot)
                state.end_wanted = not failed
                if failed:
                    state.capsule = self.capsule(state, decision.sentence, None)
                self._move(state, Event.STOP_WANTED)
                self._deadline(state, self.clock.now() + (grace_s or restart.KILL_AGAIN_S))
            case Kill(slot):
                self._deadline(self.world.slot(slot), self.clock.now() + restart.KILL_AGAIN_S)
            case Note():
                return
        state = self.world.slot(decision.change.slot)
        state.last_rule, state.last_sentence = decision.rule, decision.sentence

    def act(self, service: ServiceState, decision: Decision) -> None:
        """Do what the decision says to the process; what was prepared is recorded by now."""
        match decision.change:
            case Begin(slot):
                self._start(service, self.world.slot(slot))
            case End(slot, grace_s, _):
                signal = service.desired.service.restart.stop_signal if grace_s > 0.0 else "SIGKILL"
                self._signal(self.world.slot(slot), signal)
            case Kill(slot):
                self._signal(self.world.slot(slot), "SIGKILL")

    def exited(self, service: ServiceState, slot: SlotState, exit_: Exit) -> str:
        """The first process of a replica has ended: end the rest of its group; returns the sentence for the event."""
        replica = slot.replica
        assert replica is not None and replica.process is not None
        slot.exited = True
        planned = replica.state is State.STOPPING and slot.end_wanted
        out_of_memory = exit_.signal == "SIGKILL" and not planned and self._memory_ran_out()
        why = " (the kernel killed a process of this host for memory just now)" if out_of_memory else ""
        sentence = f"ended as it was told ({exit_})" if planned else f"ended by itself: {exit_}{why}"
        if replica.state is State.STOPPING and not planned:
            sentence = f"ended ({exit_})"
        if not planned:
            # One that Perdure ended has a better reason than the signal that it was ended with.
            ended = slot.capsule if replica.state is State.STOPPING else None
            why = ended.sentence if ended is not None and ended.replica == replica.name else sentence
            slot.capsule = self.capsule(slot, why, exit_)
        if replica.state is not State.STOPPING:
            self._remember_end(service, slot)
            if self.runner.group_alive(replica.process):
                self.runner.signal(replica.process, "SIGKILL")
        self.bury(service, slot)
        return sentence

    def _memory_ran_out(self) -> bool:
        now = self.clock.now()
        self.world.oom_kills = oom.observe(self.world.oom_kills, self.host.oom_kills(), now)
        return oom.just_now(self.world.oom_kills, now)

    def bury(self, service: ServiceState, slot: SlotState) -> bool:
        """Enter that a replica is over, if its whole group is gone; else see to it that it will be."""
        replica = slot.replica
        assert replica is not None
        if replica.process is not None and self.runner.group_alive(replica.process):
            if replica.state is not State.STOPPING:
                self._move(slot, Event.STOP_WANTED)
                self._deadline(slot, self.clock.now())
            return False
        if replica.state is State.STOPPING:
            self._remember_end(service, slot)
        self._move(slot, Event.EXITED)
        return True

    def capsule(self, slot: SlotState, sentence: str, exit_: Exit | None) -> Capsule:
        """The failure capsule of a slot's replica as it is now."""
        assert slot.replica is not None
        answers = [asked.last_answer for asked in slot.belief.asked.values() if asked.misses]
        kept = slot.capsule.answer if slot.capsule and slot.capsule.replica == slot.replica.name else ""
        lines = tuple(self.runner.last_lines(slot.slot, CAPSULE_LINES))
        ended = str(exit_) if exit_ is not None else None
        return Capsule(slot.replica.name, self.clock.wall(), sentence, ended, lines, next(iter(answers), kept))

    def _new_replica(self, service: ServiceState, slot: SlotState) -> None:
        desired, before = service.desired, slot.replica
        release = desired.release_of(slot.slot.number)
        fixed = desired.service_of(release).port
        port = fixed if fixed is not None else self.runner.free_port(self.ports, self.world.ports())
        run = before.run + 1 if before is not None else 1
        if before is not None and not slot.end_wanted:
            slot.history = replace(slot.history, restarts=slot.history.restarts + 1)
        if before is not None and before.release != release:
            slot.history, slot.capsule = History(), None  # a new release has not failed yet
        slot.replica = Replica(
            slot.slot,
            run,
            release,
            desired.generation_of(slot.slot.number),
            port,
            State.STARTING,
            self.clock.now(),
            epoch=service.term.epoch if service.term.owner == slot.slot.number and service.term.holds else 0,
            token=secrets.token_urlsafe(16),
        )
        slot.told = slot.refusals = 0
        slot.belief, slot.verdict, slot.verdict_since_at = suspect.Belief(), None, None
        slot.conviction, slot.port_checked, slot.ready_at = None, False, None
        slot.end_wanted, slot.exited, slot.down_seen_at, slot.check_fails = False, False, None, False

    def _start(self, service: ServiceState, slot: SlotState) -> None:
        replica = slot.replica
        assert replica is not None
        declared = service.desired.service_of(replica.release)
        given = (*self.environment(slot), ("PERDURE_RELEASE", replica.release))
        launch = Launch(declared, slot.slot, replica.run, replica.port, given)
        name = replica.name

        def ended(process: Process, exit_: Exit) -> None:
            self.on_exit(Exited(name, self.clock.now(), exit_))

        try:
            self._evict(slot.slot)
            self.introduce(service, slot)
            process = self.runner.start(launch, ended)
        except UnavailableError as error:
            log.error("a replica could not be started", replica=name, cause=error.sentence)
            self._remember_end(service, slot)
            slot.capsule = self.capsule(slot, error.sentence, None)
            self._move(slot, Event.EXITED)
            return
        slot.replica = replace(replica, process=process)

    def _evict(self, slot: Slot) -> None:
        """End what an earlier daemon left in a slot of which the store knew nothing, as after a lost store; raises
        UnavailableError when there was something: the slot is tried again after the back-off.
        """
        left = self.runner.recorded(slot)
        if left is not None and self.runner.group_alive(left):
            self.runner.signal(left, "SIGKILL")
            raise UnavailableError(f"an earlier process of {slot} (pid {left.pid}) still ran: it is ended first")

    def _advance(self, service: ServiceState, slot: SlotState, event: Event, decision: Decision) -> None:
        since_at = slot.replica.since_at if slot.replica is not None else 0.0
        self._move(slot, event)
        now = self.clock.now()
        if event in (Event.ANSWERED, Event.STOOD_BY, Event.PROMOTED):
            slot.ready_at = now
            if event is not Event.PROMOTED:
                slot.start_s = now - since_at
            slot.belief = suspect.started(slot.belief)
            if event is Event.PROMOTED and slot.replica is not None:
                slot.replica = replace(slot.replica, epoch=slot.told)
        elif event is Event.CONVICTED:
            verdict = slot.verdict
            assert verdict is not None
            slot.conviction = Conviction(verdict.evidence, verdict.sign, verdict.endpoint, now, verdict.sentence)
            slot.verdict_since_at = now
            slot.history = restart.convicted(slot.history, now)
        elif event is Event.READMITTED:
            if slot.conviction is not None:
                slot.belief = readmit.on_trial(slot.belief, slot.conviction, now, service.rules_of(slot))
                slot.history = replace(slot.history, readmitted_at=now)
            slot.conviction = None

    def _remember_end(self, service: ServiceState, slot: SlotState) -> None:
        now = self.clock.now()
        served_until_at = slot.conviction.at if slot.conviction is not None else now
        ready_s = served_until_at - slot.ready_at if slot.ready_at is not None else None
        jitter = None if slot.end_wanted else self.jitter()
        slot.history = restart.ended(slot.history, service.desired.service.restart, ready_s, now, jitter)

    def _move(self, slot: SlotState, event: Event) -> None:
        assert slot.replica is not None
        to = states.advance(slot.replica.state, event).to
        slot.replica = replace(slot.replica, state=to, since_at=self.clock.now())

    def _deadline(self, slot: SlotState, at: float) -> None:
        assert slot.replica is not None
        slot.replica = replace(slot.replica, stop_deadline_at=at)

    def _signal(self, slot: SlotState, signal: str) -> None:
        if slot.replica is not None and slot.replica.process is not None:
            self.runner.signal(slot.replica.process, signal)
