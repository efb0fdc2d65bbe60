/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How each mistake in policy files is reported, and what is none.
 */
#include "tests/unit/policy_rig.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#define REFUSE_BYTES(fixture, text, line, message)                                                           \
	refuse_bytes(fixture, text, sizeof(text) - 1, line, message)

static int lookup_error;

/* In place of libc's: the directory of users and groups knows nobody, or fails. */
struct passwd *getpwnam(const char *name)
{
	errno = lookup_error;
	return NULL;
}

struct group *getgrnam(const char *name)
{
	errno = lookup_error;
	return NULL;
}

POLICY_TEST(unknown_sections_and_keys_are_errors)
{
	refuse(fixture, "[rules]\nfrom = 3\n", 1,
	       "only the sections [rule], [bind], [see], [relay] and [out]");
	refuse(fixture, "\n[RULE]\n", 2, "only the sections [rule], [bind], [see], [relay] and [out]");
	refuse(fixture, "[rule]\nform = 3\n", 2, "[rule] has no key 'form'; it has from, uid, to and action");
	refuse(fixture, "[bind]\nto = print\n", 2, "[bind] has no key 'to'; it has name, uid and action");
	refuse(fixture, "[rule]\nname = print\n", 2, "[rule] has no key 'name'");
	refuse(fixture, "from = 3\n[rule]\n", 1,
	       "from stands outside of a [rule], [bind], [see], [relay] or [out]");
	refuse(fixture, "[rule] from = 3\nto = *\naction = allow\n", 1, "behind [rule]");
	refuse(fixture, "[rule]]\nfrom = 3\nto = *\naction = allow\n", 1, "behind [rule]");
}

POLICY_TEST(lines_that_are_not_ini_are_errors)
{
	char text[600];

	refuse(fixture, "[rule]\nfrom = 3\nto print\naction = allow\n", 3,
	       "neither a [section] nor KEY = VALUE");
	refuse(fixture, "[rule\nfrom = 3\n", 1, "");
	/* It is to blame, and not what is missing or wrong further down because of it. */
	refuse(fixture, "[rule]\nfrom 3\nto = print\naction = allow\n", 2,
	       "neither a [section] nor KEY = VALUE");
	refuse(fixture, "[rule]\nfrom 3\nto = print\naction = allow\n[rule]\n", 2,
	       "neither a [section] nor KEY = VALUE");
	refuse(fixture, "[rule]\nfrom 3\nto = print\naction = alow\n", 2,
	       "neither a [section] nor KEY = VALUE");
	refuse(fixture, "# first\n[rule]\nfrom 3\nto = print\n[end]\n", 3,
	       "neither a [section] nor KEY = VALUE");
	refuse(fixture, "from 3\n[rule]\n", 1, "neither a [section] nor KEY = VALUE");
	refuse(fixture, "[rule]\nfrom = 3\nto = print\naction = allow\n[bind\nname = a\n", 5, "");
	refuse(fixture, "[rule]\nfrom = a b\nto print\n", 2, "'a b'");
	REFUSE_BYTES(fixture, "[rule]\nfrom = 3\nto = print\naction = al\0low\n", 4, "NUL");
	REFUSE_BYTES(fixture, "[rule]\nfrom = 3\nto = print\naction = allow\0", 4, "NUL");
	REFUSE_BYTES(fixture, "[rule]\n\0from = 3\nto = print\naction = allow\n", 2, "NUL");
	snprintf(text, sizeof(text), "[rule]\nfrom = %0500d\n", 3);
	refuse(fixture, text, 2, "too long");
}

POLICY_TEST(what_a_rule_lacks_is_named_with_its_line)
{
	refuse(fixture, "\n[rule]\nto = print\naction = allow\n", 2, "this [rule] has no from");
	refuse(fixture, "[rule]\nfrom = 3\naction = allow\n[rule]\n", 1, "this [rule] has no to");
	refuse(fixture, "[rule]\nfrom = 3\nto = print\n", 1, "this [rule] has no action");
	refuse(fixture, "[bind]\nuid = 0\naction = allow\n", 1, "this [bind] has no name");
	refuse(fixture, "[bind]\nname = print\naction = allow\n", 1, "this [bind] has no uid");
	refuse(fixture, "[rule]\nfrom = 3\nto = a\naction = deny\n[rule]", 5, "this [rule] has no from");
}

POLICY_TEST(keys_that_come_twice_are_errors)
{
	refuse(fixture, "[rule]\nfrom = 3\nfrom = 4\n", 3, "from comes twice");
	refuse(fixture, "[rule]\nto = 3\nto = 4\n", 3, "to comes twice");
	refuse(fixture, "[rule]\nuid = 3\nuid = 4\n", 3, "uid comes twice");
	refuse(fixture, "[rule]\naction = deny\naction = deny\n", 3, "action comes twice");
}

POLICY_TEST(bad_entries_of_lists_are_quoted)
{
	refuse(fixture, "[rule]\nfrom = 3, 32752\n", 2, "'32752': a domain is a domid from 0 to 32751");
	refuse(fixture, "[rule]\nfrom = 3,,4\n", 2, "from: an empty entry");
	refuse(fixture, "[rule]\nfrom =\n", 2, "from: an empty entry");
	refuse(fixture, "[rule]\nfrom = a b\n", 2, "'a b': several entries are separated by commas");
	refuse(fixture, "[rule]\nto = a, b # who\n", 2,
	       "'b # who': a comment behind a value begins with ';'");
	refuse(fixture, "[bind]\nuid = nobodyhere\n", 2, "'nobodyhere': there is no such user");
	refuse(fixture, "[rule]\nuid = root\n", 2, "'root': a uid of another domain is a number");
	refuse(fixture, "[rule]\nuid = -1\n", 2, "'-1'");
	refuse(fixture, "[rule]\nuid = 4294967295\n", 2, "a uid is below 4294967295");
	refuse(fixture, "[rule]\nuid = 99999999999\n", 2, "'99999999999'");
	refuse(fixture, "[rule]\nuid = @root\n", 2, "'@root'");
	refuse(fixture, "[bind]\nuid = @no-such-group\n", 2, "'@no-such-group': there is no such group");
	refuse(fixture, "[bind]\nuid = no-such-user\n", 2, "'no-such-user'");
	refuse(fixture, "[rule]\nto = a.b\n", 2, "'a.b': an endpoint is a name or shell pattern");
	refuse(fixture, "[rule]\nto = a b\n", 2, "'a b'");
	refuse(fixture, "[rule]\naction = Allow\n", 2, "action 'Allow': must be allow or deny");
	refuse(fixture, "[rule]\naction =\n", 2, "action '': must be allow or deny");
}

/* Stands before libc's: the folder can't be read to its end. */
static int read_error;

struct dirent *readdir(DIR *dir)
{
	struct dirent *(*real)(DIR * dir);

	*(void **)&real = dlsym(RTLD_NEXT, "readdir");
	errno = read_error;
	return read_error ? NULL : real(dir);
}

POLICY_TEST(half_a_folder_is_no_policy)
{
	put(fixture, "50-test.conf", "[rule]\nfrom = *\nto = *\naction = deny\n");
	read_error = EIO;
	assert_int_equal(load(fixture), -EIO);
	read_error = 0;
	assert_int_equal(load(fixture), 0);
}

POLICY_TEST(what_can_mean_nobody_is_an_error_with_what_was_meant)
{
	static const struct {
		const char *key, *value, *why;
	} bad[] = {
		{"from", "web*", "a domain has no pattern"},
		{"from", "3, dom?", "'dom?': a domain has no pattern"},
		{"from", "hostb/web[12]", "a domain has no pattern"},
		{"from", "@web", "only the host's policy"},
		{"from", "!web", "a rule has no exceptions"},
		{"from", "\"web\"", "a name stands without quotes"},
		{"from", "0f0e0d0c-0b0a-4908-8706-05040302010", "a UUID is 32 hexadecimal digits"},
		{"from", "0f0e0d0c-0b0a-4908-8706-0504030201000", "a UUID is 32"},
		{"from", "0f0e0d0c0b0a49088706050403020100", "a UUID is 32"},
		{"from", "{" UUID "}", "a UUID is 32"},
		{"from", "OfOe0d0c-0b0a-4908-8706-050403020100", "a UUID is 32"},
		{"to", "secret[", "no endpoint can match"},
		{"to", "!secret", "no endpoint can match"},
		{"to", "a]", "no endpoint can match"},
		{"to", "[_-]a", "no endpoint can match"},
		{"to", "a[!a-zA-Z0-9_-]", "no endpoint can match"},
		{"to", "?????????????????????????????????????????????????????????????????", "no endpoint"},
	};
	static const char *const good[] = {"*_x", "[!a]b", "a[-_]*", "a[]b]", "s[a-z]?", "*"};
	char text[200];

	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(text, sizeof(text), "[rule]\n%s = %s\n", bad[i].key, bad[i].value);
		refuse(fixture, text, 2, bad[i].why);
	}
	for (unsigned i = 0; i < sizeof(good) / sizeof(*good); i++) {
		snprintf(text, sizeof(text), "[rule]\nfrom = " UUID ", web-1\nto = %s\naction = deny\n",
			 good[i]);
		rules(fixture, text);
	}
	refuse(fixture, "[relay]\nfrom = hostb/1\nto = hostb/web\n", 3, "only domains of this host");
	refuse(fixture, "[see]\nfrom = hostb/1\ndomain = hostb/1\n", 3, "only domains of this host");
	refuse(fixture, "[out]\nfrom = */*\n", 2, "only domains of this host");
}

POLICY_TEST(comments_and_spaces_do_no_harm)
{
	rules(fixture,
	      "; a comment\n# another one\n"
	      "[rule]   ; with one\n"
	      "from=3,4 ; the workers\n"
	      "\tto\t=\tprint\t\n"
	      "  action : allow\n"
	      "  [rule] # indented\n"
	      "  from = 5\n  to = x\n  action = allow");
	assert_int_equal(policy_rules(fixture->policy), 2);
	assert_true(allowed(fixture, &guest, "print"));
	assert_int_equal(reach(fixture, &guest, "print").line, 3);
	rules(fixture, "[rule]\r\nfrom = 3\r\nto = print\r\naction = allow\r\n");
	assert_true(allowed(fixture, &guest, "print"));
	rules(fixture, "\xEF\xBB\xBF[rule]\nfrom = 3\nto = print\naction = allow\n");
	assert_true(allowed(fixture, &guest, "print"));
	rules(fixture, "");
	assert_int_equal(policy_rules(fixture->policy), 0);
}

POLICY_TEST(users_who_cannot_be_looked_up_now_are_no_mistake)
{
	static const char *const texts[] = {
		"[bind]\nname = a\nuid = 0, somebody\naction = allow\n",
		"[bind]\nname = a\nuid = @some-group\naction = allow\n",
	};

	for (unsigned i = 0; i < 2; i++) {
		put(fixture, "50-test.conf", texts[i]);
		lookup_error = EIO;
		assert_int_equal(load(fixture), -EAGAIN);
		assert_null(fixture->policy);
		assert_non_null(strstr(fixture->error, "50-test.conf:3: '"));
		assert_non_null(strstr(fixture->error, "' can't be looked up now: "));
		assert_non_null(strstr(fixture->error, strerror(EIO)));
		/* Memory and descriptors come back as well. */
		lookup_error = EMFILE;
		assert_int_equal(load(fixture), -EAGAIN);
		lookup_error = ENOENT; /* as some directories say it */
		assert_int_equal(load(fixture), -EINVAL);
		lookup_error = 0;
		assert_int_equal(load(fixture), -EINVAL);
	}
	/* What is a mistake stays one. */
	lookup_error = EIO;
	refuse(fixture, "[bind]\nname a\nuid = somebody\n", 2, "neither a [section] nor KEY = VALUE");
	lookup_error = 0;
}

POLICY_TEST(what_others_may_write_is_not_trusted)
{
	char path[96];
	int fd;

	rules(fixture, "[rule]\nfrom = *\nto = *\naction = allow\n");
	for (unsigned i = 0; i < 2; i++) {
		const char *what = i ? fixture->directory : fixture->files[fixture->count - 1];

		assert_int_equal(chmod(what, i ? 0707 : 0602), 0);
		assert_int_equal(load(fixture), -EPERM);
		assert_non_null(strstr(fixture->error, "isn't trusted"));
		assert_non_null(strstr(fixture->error, what));
		assert_int_equal(chmod(what, 0700), 0);
		assert_int_equal(load(fixture), 0);
	}
	if (geteuid() == 0) {
		assert_int_equal(chown(fixture->files[fixture->count - 1], 1234, 0), 0);
		assert_int_equal(load(fixture), -EPERM);
		assert_int_equal(chown(fixture->files[fixture->count - 1], 0, 0), 0);
	}
	/* Nobody waits for who writes a FIFO, and a file has an end. */
	snprintf(path, sizeof(path), "%s/60-fifo.conf", fixture->directory);
	strcpy(fixture->files[fixture->count++], path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(load(fixture), -EINVAL);
	assert_non_null(strstr(fixture->error, "isn't a regular file"));
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(ftruncate(fd, 1048577), 0);
	close(fd);
	assert_int_equal(load(fixture), -EFBIG);
}

POLICY_TEST(an_unreadable_file_is_an_error)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/50-gone.conf", fixture->directory);
	assert_int_equal(symlink("/nonexistent/file", path), 0);
	strcpy(fixture->files[fixture->count++], path);
	assert_int_equal(load(fixture), -ENOENT);
	assert_non_null(strstr(fixture->error, path));
	assert_null(fixture->policy);
	unlink(path);
	assert_int_equal(symlink("/tmp", path), 0);
	assert_true(load(fixture) < 0);
	assert_non_null(strstr(fixture->error, path));
}
