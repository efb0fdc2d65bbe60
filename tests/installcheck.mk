# SPDX-License-Identifier: LGPL-2.1-or-later
# The integration tests run the installed programs, on simulated hosts, and tests/store compares xensim's XenStore with a real one:
# `make install && make installcheck`. What xensim is by itself needs only its own.
PYTEST_FLAGS =
if WITH_XENMSG
PYTEST_TESTS = "$(srcdir)/tests/integration" "$(srcdir)/tests/store"
else
PYTEST_TESTS = "$(srcdir)"/tests/integration/test_conformance.py "$(srcdir)"/tests/integration/test_sim_*.py
endif

if HAVE_PYTEST
# What they start, and none of the unit tests, whose compilation takes longer than all of them.
installcheck-local: $(filter-out $(TESTS),$(check_PROGRAMS)) $(check_LTLIBRARIES)
	XENMSG_BINDIR="$(DESTDIR)$(bindir)" XENMSG_SBINDIR="$(DESTDIR)$(sbindir)" \
	XENMSG_BUILDDIR="$(abs_top_builddir)" XENMSG_SRCDIR="$(abs_top_srcdir)" \
	XENMSG_PYTHONDIR="$(DESTDIR)$(pyexecdir)" XENSIM_LIBRARY="$${XENSIM_LIBRARY:-$(DESTDIR)$(pkglibdir)/libxensim.so}" LD_LIBRARY_PATH="$(DESTDIR)$(libdir):$$LD_LIBRARY_PATH" \
	$(PYTHON3) -m pytest -p no:cacheprovider $(PYTEST_FLAGS) $(PYTEST_TESTS)
endif
