/*-------------------------------------------------------------------------
 *
 * why.c
 *		Which rule decides about a path, whether or not there is such a file.
 *
 * The decision is made by what decides for watch and walk; only how it came
 * about is put into words here.  What is not there, or cannot be looked at, is
 * judged by its name.
 *
 *-------------------------------------------------------------------------
 */
#include "why.h"

#include "judgement.h"
#include "rules.h"
#include "sandbox.h"
#include "settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ProtoStr
text(const char *string)
{
	ProtoStr	s = {string, (uint32_t) (string != NULL ? strlen(string) : 0)};

	return s;
}

/* The one frame that there is. */
static bool
write_answer(const Judgement *answer, const char *path)
{
	ProtoBuf	out;
	ProtoWhy	why = {
		.known = answer->known, .tracked = answer->tracked,
		.source = text(answer->source), .rule = text(answer->rule),
		.rule_file = text(answer->rule_file), .detail = text(answer->detail),
		.decided = {path, (uint32_t) answer->decided_len}
	};

	proto_buf_init(&out);
	proto_begin(&out, PROTO_WHY);
	proto_put_why(&out, &why);
	proto_end(&out);
	return answer_write(&out);
}

static void
judge(Judgement *answer, const Filter *filter, const ProtoInit *init, int rootfd,
	  const char *path, size_t len, bool is_directory)
{
	Rules	   *rules = NULL;
	FilterRules *of_tree = NULL;
	FileInfo	info;
	int			error = rootfd < 0 ? errno : 0;

	if (error == 0 && filter_uses_rules(filter))
	{
		bool		failed = false;

		rules = rules_create(filter);
		if (rules != NULL)
			of_tree = rules_for(rules, rootfd, path, len, &failed);
		if (rules == NULL || failed)
			exit(EXIT_FAILURE);
	}
	if (error == 0 && beneath_stat(rootfd, path, len, &info) < 0)
		error = errno;
	if (error == 0 && S_ISDIR(info.mode))
		is_directory = true;
	judge_names(answer, filter, of_tree, path, len, is_directory);
	if (answer->tracked || !answer->known)
	{
		if (len > PROTO_PATH_MAX)
			judge_refuse(answer, "name", len, "The path is longer than %d bytes.", PROTO_PATH_MAX);
		else if (is_directory)
			judge_refuse(answer, "type", len, "It is a directory: files in it may be tracked.");
		else if (error == 0)
			judge_file(answer, filter, init, &info, len);
	}
	if (error == ENOENT)
		snprintf(answer->detail + strlen(answer->detail),
				 sizeof(answer->detail) - strlen(answer->detail),
				 "%sThere is no such %s.", answer->detail[0] ? " " : "",
				 is_directory ? "directory" : "file");
	else if (error != 0)
		snprintf(answer->detail + strlen(answer->detail),
				 sizeof(answer->detail) - strlen(answer->detail),
				 "%sIt could not be looked at (%s): this is what its name says.",
				 answer->detail[0] ? " " : "", strerror(error));
	rules_free(rules);
}

int
why_answer(const char *root, const char *path, bool must_be_complete)
{
	Sandbox		sandbox;
	int			rootfd = beneath_open_root(root);
	int			error = errno;
	Judgement	answer = {.source = "none"};
	size_t		len = strlen(path);
	bool		is_directory = len > 0 && path[len - 1] == '/';
	ProtoBuf	in;
	ProtoInit	init;
	Filter	   *filter;

	sandbox_process();
	sandbox_enter(rootfd, &sandbox);
	if (must_be_complete && !sandbox.complete)
		return PROTO_EXIT_UNCONFINED;
	proto_buf_init(&in);
	if (!question_read(&in, &init))
		return EXIT_FAILURE;
	filter = settings_filter(&init);
	if (filter == NULL)
		return EXIT_FAILURE;
	errno = error;
	judge(&answer, filter, &init, rootfd, path, len - is_directory, is_directory);
	return write_answer(&answer, path) ? EXIT_SUCCESS : EXIT_FAILURE;
}
