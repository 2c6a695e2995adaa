"""The releases that the rollout bench deploys, and what should become of each."""

from dataclasses import dataclass

BACKGROUND = 0.002
"""Share of the requests that the healthy release fails."""
REAL = '[service.web.deploy]\nwarm = "5s"\nwatch = "20s"\n'
"""The default steps: a bad release does not get far."""
SCALED = (
    '[service.web.deploy]\nsteps = [{ share = "5%", for = "2s" }, { share = "25%", for = "2s" },'
    ' { share = "50%", for = "4s" }]\nbake = "20s"\nstable = "1s"\nexposure = 30\nwarm = "60s"\nwatch = "120s"\n'
)
"""A thirtieth of the default times."""
SLOW_START = REAL + 'deadline = "30s"\nstable = "5s"\n'
UNTRUE = REAL + '[service.web.deploy.test]\nhttp = "/pay"\nexpect = { body = "nowhere" }\n'
HEALTHY = ("--fails", str(BACKGROUND))


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of release: the options of `bench/app.py` for the old and the new one."""

    name: str
    new: tuple[str, ...] = HEALTHY
    old: tuple[str, ...] = HEALTHY
    fault: str = ""
    """Given to each new replica before it gets traffic, as `bench/app.py` takes faults."""
    later: str = ""
    """Given to replicas when the rollout is `at` this phase for `after_s`; `whom`: new, or all."""
    at: str = "watching"
    after_s: float = 20.0
    lasts_s: float = 0.0
    """0: for ever."""
    whom: str = "new"
    deploy: str = REAL
    rate: float = 50.0
    bad: bool = True
    limit_s: float = 400.0
    share: float | None = None
    """Which share of its requests fails, for the rivals."""


CASES = (
    Case("100 % of the requests fail", ("--fails", "1"), share=1.0),
    Case("20 % fail", ("--fails", "0.2"), share=0.2),
    Case("5 % fail", ("--fails", "0.05"), share=0.05, limit_s=900.0),
    Case("2 % fail", ("--fails", "0.02"), share=0.02, limit_s=1200.0),
    Case("20 % fail, of 500 requests/s", ("--fails", "0.2"), rate=500.0),
    Case("three times as slow", (*HEALTHY, "--work", "0.03"), (*HEALTHY, "--work", "0.01")),
    Case("one endpoint of three fails", fault="error&share=1&on=/pay"),
    Case("crashes when it starts", ("--exit-at-start", "3")),
    Case("is never ready", ("--start-delay", "1000"), deploy=SLOW_START),
    Case("fails its test", deploy=UNTRUE),
    Case("leaks: fails from 10 s after its start on, wholly after 20 s", (*HEALTHY, "--leaks", "10"), deploy=SCALED),
    Case("30 % fail from 20 s after the end on", later="error&share=0.3", deploy=SCALED),
    Case("healthy", deploy=SCALED, bad=False),
    Case("healthy, 500 requests/s", deploy=SCALED, rate=500.0, old=(), new=(), bad=False),
    Case(
        "a dependency breaks both for 5 s",
        later="error&share=0.6",
        at="sharing",
        after_s=3.0,
        lasts_s=5.0,
        whom="all",
        deploy=SCALED,
        bad=False,
    ),
)
