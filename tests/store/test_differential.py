# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim's XenStore answers as Debian's oxenstored does, request by request, to random requests.

A difference is printed as the fewest requests that show it. XENMSG_STORE_SEED=N replays one seed.
"""

import functools
import os

import pytest

from daemons import RealStore, SimulatedStore, real_daemon
from differential import Chance, first_difference, minimised, report

SEEDS = [int(os.environ["XENMSG_STORE_SEED"])] if os.environ.get("XENMSG_STORE_SEED") else range(20)
STORES = functools.partial(RealStore, "oxenstored"), SimulatedStore

pytestmark = pytest.mark.skipif(not real_daemon("oxenstored"), reason="needs Debian's xen-utils")


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_answers_and_events(seed):
    requests = list(Chance(seed).requests(1000))
    if first_difference(STORES, requests):
        pytest.fail(f"seed {seed}\n" + report(*minimised(STORES, requests), ["oxenstored", "xensim"]))
