"""The sections about releases: how a new one is let in, and how it is tested before it gets any traffic.

Part of `schema`, which says what fields are. What of it fits which service is in `relations_deploy`; what is left out
and follows from other keys is filled in by `build`.
"""

from typing import Annotated

from pydantic import Field

from perdure.config import kinds
from perdure.config.schema_checks import METHODS, Expect
from perdure.config.schema_section import ONE_OR_SEVERAL, Section
from perdure.model import check as checks
from perdure.model import deploy as model

DAY_S = 86_400.0

_CHECK = checks.Check(checks.CheckKind.HTTP)
_DEPLOY = model.Deploy()
_TEST = model.DeployTest()


class Step(Section):
    """One step of a canary rollout."""

    share: Annotated[float, kinds.SHARE_BETWEEN] = Field(
        description="Which share of the requests the new release gets; it grows from step to step."
    )
    for_s: Annotated[float, kinds.duration(0, DAY_S)] = Field(
        alias="for", description="How long it has that share at least."
    )


class DeployTest(Section):
    """One test of a new release, asked of one of its replicas on that replica's own port."""

    command: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="Run a command with PERDURE_URL and PERDURE_RELEASE; exit code 0 is good."
    )
    http: Annotated[str | None, kinds.URL_PATH] = Field(
        default=None, description="Send a request for this path to the replica's port."
    )
    method: Annotated[str, METHODS] = Field(
        default=_CHECK.method, description="How it asks; it has no body. Only for http."
    )
    expect: Expect | None = Field(default=None, description="What counts as a good answer; only for http.")
    timeout: Annotated[float, kinds.duration(0.01, 3600)] = Field(
        default=_TEST.timeout_s, description="How long one try may take."
    )
    tries: Annotated[int, kinds.whole(1, 10)] = Field(
        default=_TEST.tries, description="A test has failed when that many tries did."
    )


class Deploy(Section):
    """How releases of a service are let in."""

    strategy: Annotated[str | None, kinds.choice(*(one.value for one in model.Strategy))] = Field(
        default=None,
        description="Whether the new release gets a growing share (`canary`, the default), everything at once"
        " (`blue-green`), or the places of the old replicas (`rolling`, where two releases cannot run side by side).",
    )
    steps: Annotated[list[Step] | None, ONE_OR_SEVERAL] = Field(
        default=None,
        description="Only for canary: the shares that the new release gets, one after the other;"
        " none given: 5% for 60s, 25% for 60s, 50% for 120s.",
    )
    bake: Annotated[float, kinds.duration(0, DAY_S)] = Field(
        default=_DEPLOY.bake_s,
        description="The last step: the new release has 90% (with blue-green all) for so long; 0s leaves it out.",
    )
    stable: Annotated[float, kinds.duration(0, 3600)] = Field(
        default=_DEPLOY.stable_s, description="A new replica answers its checks for so long before it is tested."
    )
    exposure: Annotated[int, kinds.whole(0, 1_000_000)] = Field(
        default=_DEPLOY.exposure,
        description="Requests that the new release must have had in a step before the next one.",
    )
    test: Annotated[list[DeployTest], ONE_OR_SEVERAL] = Field(
        default_factory=list,
        description="What is tried on the new release before it gets traffic, and in each step; one table, or"
        " `[[service.NAME.deploy.test]]` for each of several.",
    )
    max_errors: Annotated[float | None, kinds.SHARE] = Field(
        default=None,
        description="A step that ends with a larger share of failed requests is rolled back, whatever the old release"
        " does; none given: the two are only compared.",
    )
    deadline: Annotated[float, kinds.duration(1, DAY_S)] = Field(
        default=_DEPLOY.deadline_s, description="A rollout that makes no progress for so long is rolled back."
    )
    warm: Annotated[float, kinds.duration(0, DAY_S)] = Field(
        default=_DEPLOY.warm_s, description="For so long after the end the old replicas go on running without traffic."
    )
    watch: Annotated[float, kinds.duration(0, 30 * DAY_S)] = Field(
        default=_DEPLOY.watch_s, description="For so long after the end a release that turns bad is taken back."
    )
    keep: Annotated[int, kinds.whole(1, 1000)] = Field(
        default=_DEPLOY.keep,
        description="How many of the newest releases are kept to go back to; what runs is kept as well.",
    )
    data: Annotated[str, kinds.choice("compatible", "breaking")] = Field(
        default="breaking" if _DEPLOY.breaks_data else "compatible",
        description="Whether the release before can read what this one writes; `breaking` only for active-passive.",
    )
