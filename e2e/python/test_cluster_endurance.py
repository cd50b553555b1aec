"""Three nodes on one engine behind HAProxy: whatever happens, nobody loses or doubles an event.

`TIDINGS_CLUSTER_SEED` repeats runs, `TIDINGS_CLUSTER_RUNS` says how many; for longer ones see
`cluster/chaos.py`.
"""

from collections.abc import Iterator

import pytest

from cluster.chaos import Endurance, Fault, check, first_seed, plan, run_count
from cluster.engines import ENGINES

SEED = first_seed()

# An engine that shares its disk with others may take a minute to start after a crash.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=sorted(ENGINES))
def endurance(request: pytest.FixtureRequest) -> Iterator[Endurance]:
    endurance = Endurance(request.param)
    yield endurance
    endurance.close()


@pytest.mark.parametrize("number", range(run_count()))
def test_run_loses_and_doubles_nothing(endurance, number):
    check(endurance, plan(SEED + number))


@pytest.mark.parametrize("number", range(2))
def test_run_in_which_the_engine_loses_everything_tells_so(endurance, number):
    # Another seed than those of the runs before: keys follow from it, and the engine knows those still.
    made = plan(SEED + run_count() + number, clients=100)
    made.faults = [Fault("empty engine", 1.0, 1.1, 0, 0.0)]
    check(endurance, made)
