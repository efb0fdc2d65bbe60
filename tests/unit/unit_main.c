/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

int main(void)
{
	return unit_run();
}
