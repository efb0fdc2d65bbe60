/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* units.h in the daemon itself: it passes all on to units_module.h. */
#include <config.h>

#include "daemon/activation/units.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "daemon/activation/units_module.h"

const bool units_are_supported = true;

/* Returns it, or NULL: it can't be loaded now. */
static const struct units_module *loaded_module(void)
{
	static const struct units_module *module;
	const struct units_module *found;
	void *object;

	if (module)
		return module;
	object = dlopen(PKGLIBEXECDIR "/" UNITS_MODULE, RTLD_NOW | RTLD_LOCAL);
	found = object ? dlsym(object, "units_module") : NULL;
	if (found && !strcmp(found->version, PACKAGE_VERSION))
		return module = found;
	log_error("can't load what talks to systemd: %s", found ? "it is of another version" : dlerror());
	if (object)
		dlclose(object);
	return NULL;
}

bool units_service_is_restarted(void)
{
	const struct units_module *module = loaded_module();

	return module && module->service_is_restarted();
}

int units_new(struct units **units, struct event_base *base)
{
	const struct units_module *module = loaded_module();

	return module ? module->new_units(units, base) : -ELIBACC;
}

void units_free(struct units *units)
{
	if (units)
		loaded_module()->free_units(units);
}

struct unit_start *unit_start_new(struct units *units, const char *unit, unit_failed_fn failed,
				  void *userdata, int *error)
{
	return loaded_module()->new_start(units, unit, failed, userdata, error);
}

void unit_start_free(struct unit_start *start)
{
	loaded_module()->free_start(start);
}
