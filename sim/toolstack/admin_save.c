/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The commands of xensim(1) that save, checkpoint, migrate and restore a domain. */
#include "config.h"

#include "sim/toolstack/admin_internal.h"

#include <errno.h>

/* What the options of saves and restores mean if they aren't given. */
#define SAVE_DEFAULTS                                                                                        \
	{                                                                                                    \
		.notice_ms = 20, .stale_ms = 0, .seed = 1                                                    \
	}
#define RESTORE_DEFAULTS                                                                                     \
	{                                                                                                    \
		.unaware_ms = 0, .clock_ms = HV_CLOCK_MS                                                     \
	}

static int begin_save(struct command_context *context, enum hv_save_kind kind,
		      const struct number_option *options, size_t count, const struct hv_save_options *save,
		      const struct hv_restore_options *restore)
{
	struct hv_domain *domain;
	int r = hv_parse_options(context, options, count);

	if (r != EXIT_DONE)
		return r;
	domain = hv_named_domain(context, context->word[1], true);
	if (!domain)
		return EXIT_ERROR;
	r = hv_domain_save(domain, kind, save, restore, hv_answer_saved, context->session);
	return r < 0 ? hv_finish(context, context->word[0], r) : EXIT_LATER;
}

int hv_run_suspend(struct command_context *context)
{
	struct hv_save_options save = SAVE_DEFAULTS;
	struct hv_restore_options restore = RESTORE_DEFAULTS;
	const struct number_option known[] = {{"--notice", 60000, &save.notice_ms},
					      {"--stale", 60000, &save.stale_ms},
					      {"--seed", UINT32_MAX, &save.seed}};

	return begin_save(context, HV_SAVE, known, 3, &save, &restore);
}

int hv_run_checkpoint(struct command_context *context)
{
	struct hv_save_options save = SAVE_DEFAULTS;
	struct hv_restore_options restore = RESTORE_DEFAULTS;
	const struct number_option known[] = {{"--notice", 60000, &save.notice_ms},
					      {"--stall", 60000, &save.stale_ms},
					      {"--clock", SIM_RESTORE_CLOCK_MAX, &restore.clock_ms}};

	return begin_save(context, HV_CHECKPOINT, known, 3, &save, &restore);
}

int hv_run_migrate(struct command_context *context)
{
	struct hv_save_options save = SAVE_DEFAULTS;
	struct hv_restore_options restore = RESTORE_DEFAULTS;
	const struct number_option known[] = {{"--notice", 60000, &save.notice_ms},
					      {"--stale", 60000, &save.stale_ms},
					      {"--seed", UINT32_MAX, &save.seed},
					      {"--unaware", 60000, &restore.unaware_ms},
					      {"--clock", SIM_RESTORE_CLOCK_MAX, &restore.clock_ms}};

	return begin_save(context, HV_MIGRATION, known, 5, &save, &restore);
}

int hv_run_resume(struct command_context *context)
{
	struct hv_restore_options options = RESTORE_DEFAULTS;
	const struct number_option known[] = {{"--unaware", 60000, &options.unaware_ms},
					      {"--clock", SIM_RESTORE_CLOCK_MAX, &options.clock_ms},
					      {"--same-domid", 0, &options.same_domid}};
	struct hv_domain *domain;
	int r = hv_parse_options(context, known, 3);

	if (r != EXIT_DONE)
		return r;
	domain = hv_domain_find(context->hv, context->word[1], true);
	if (!domain)
		return hv_answer(context, EXIT_ERROR,
				 "no suspended domain %s: `xensim list` shows those that there are",
				 context->word[1]);
	r = hv_domain_resume(domain, &options);
	if (r == -EEXIST)
		return hv_answer(context, EXIT_ERROR, "resume: others still map pages of domain %u",
				 domain->domid);
	return r < 0 ? hv_finish(context, "resume", r) : hv_answer(context, EXIT_DONE, "%u\n", domain->domid);
}
