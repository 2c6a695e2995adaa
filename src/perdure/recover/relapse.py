"""Whether a release that has all the traffic has turned bad since its rollout, when there is nothing to compare with.

What failed of it and of the old release during the rollout is what is usual; `surge` notices when it is clearly more.
That alone rolls nothing back, since a dependency that fails looks the same: the old release is recalled for a share,
and compared again.
Neighbours: `compare` says what is usual; `recover.roll_out` recalls.
"""

from dataclasses import dataclass

from perdure.recover import observed, surge
from perdure.recover.observed import Clients, Observed
from perdure.recover.surge import Surge


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of the release that has all the traffic; `usual` is the share of its requests that may fail."""

    usual: float
    surge: Surge = surge.NOTHING
    requests: int = 0
    failures: int = 0
    """Since the first failure of the present suspicion."""
    clients: Clients = observed.NOBODY


def observe(watch: Watch, seen: Observed) -> Watch:
    """Add one reading; only the new release counts."""
    failures = [one for one in seen.failures if one.new]
    clients, first = observed.first_of_second(watch.clients, seen.at, failures)
    requests = max(seen.requests_new, len(failures))
    sums = surge.observe(watch.surge, requests, len(first), watch.usual)
    if sums.quiet:
        return Watch(watch.usual, sums, clients=clients)
    return Watch(watch.usual, sums, watch.requests + requests, watch.failures + len(failures), clients)


def suspicious(watch: Watch) -> str:
    """Why the old release should be asked, with the name of the new one as the subject, which is left out; or empty."""
    if not surge.lasts(watch.surge):
        return ""
    return f"failed {watch.failures:,} of its last {watch.requests:,} requests; usual are {watch.usual:.1%}"
