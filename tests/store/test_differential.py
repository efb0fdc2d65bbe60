# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim's XenStore answers random requests as Debian's oxenstored does, and differs from C xenstored only as it is known to.

A difference is printed as the fewest requests that show it. XENMSG_STORE_SEED=N replays one seed.
"""

import functools
import os

import pytest

from daemons import RealStore, SimulatedStore, real_daemon
from differential import Chance, as_oxenstored, first_difference, minimised, report
from portable import PortableChance, as_imitated, as_xenstored

# The first five for each change, the others for --all.
SEEDS = [int(os.environ["XENMSG_STORE_SEED"])] if os.environ.get("XENMSG_STORE_SEED") else [
    *range(5), *(pytest.param(seed, marks=pytest.mark.more) for seed in range(5, 20))]

pytestmark = pytest.mark.skipif(not real_daemon("oxenstored"), reason="needs Debian's xen-utils")


def compare(name, requests, verdict, *options):
    """Fails with the fewest requests that show a difference."""
    stores = functools.partial(RealStore, name), functools.partial(SimulatedStore, *options)
    if first_difference(stores, requests, verdict):
        found = minimised(stores, requests, verdict)
        pytest.fail(report(*found, [name, "xensim"]) if found else f"a difference from {name} that does not come again")


@pytest.mark.parametrize("seed", SEEDS)
def test_oxenstored_answers_the_same(seed):
    compare("oxenstored", list(Chance(seed).requests(1000)), as_oxenstored)


@pytest.mark.parametrize("seed", SEEDS)
def test_xenstored_differs_as_it_is_known_to(seed):
    compare("xenstored", list(PortableChance(seed).requests(1000)), as_xenstored)


@pytest.mark.parametrize("seed", SEEDS)
def test_xenstored_answers_the_same_when_it_is_imitated(seed):
    compare("xenstored", list(PortableChance(seed).requests(1000)), as_imitated, "like-xenstored")
