"""Records of releases for tests: of services without files, in any store."""

from collections.abc import Callable

from perdure.control.release_records import Records
from perdure.ports.store import Store
from perdure.sim.bundles import NoBundles


def records(store: Store, wall: Callable[[], float] = lambda: 1_700_000_000.0) -> Records:
    """Those that `store` holds."""
    return Records(store, NoBundles(), wall, lambda service: None)
