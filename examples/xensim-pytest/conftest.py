# SPDX-License-Identifier: LGPL-2.1-or-later
# Gives the tests beside it a simulated Xen host each: xensim.py, which is installed with xensim.
pytest_plugins = ["xensim"]
