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

#include "beneath.h"
#include "protocol.h"
#include "rules.h"
#include "sandbox.h"
#include "settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Answer
{
	bool		known;
	bool		tracked;
	const char *source;
	char		rule[2048];
	char	   *rule_file;
	size_t		decided_len;
	char		detail[512];
} Answer;

/* Reads the one frame that there is. */
static bool
read_init(ProtoBuf *buf, ProtoInit *init)
{
	ProtoReader body;
	uint8_t		type;
	int			found;

	while ((found = proto_next(buf, &type, &body)) == 0)
	{
		char	   *space = proto_buf_reserve(buf, 65536);
		ssize_t		n = space != NULL ? read(STDIN_FILENO, space, 65536) : 0;

		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return false;
		buf->len += (size_t) n;
	}
	return found == 1 && type == PROTO_INIT && proto_get_init(&body, init) &&
		init->version == PROTO_VERSION;
}

static ProtoStr
text(const char *string)
{
	ProtoStr	s = {string, (uint32_t) (string != NULL ? strlen(string) : 0)};

	return s;
}

static bool
write_answer(const Answer *answer, const char *path)
{
	ProtoBuf	out;
	ProtoWhy	why = {
		.known = answer->known, .tracked = answer->tracked,
		.source = text(answer->source), .rule = text(answer->rule),
		.rule_file = text(answer->rule_file), .detail = text(answer->detail),
		.decided = {path, (uint32_t) answer->decided_len}
	};
	size_t		done = 0;

	proto_buf_init(&out);
	proto_begin(&out, PROTO_WHY);
	proto_put_why(&out, &why);
	proto_end(&out);
	while (!out.failed && done < out.len)
	{
		ssize_t		n = write(STDOUT_FILENO, out.data + done, out.len - done);

		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			done += (size_t) n;
	}
	return !out.failed && done == out.len;
}

/* What the names say. */
static void
judge_names(Answer *answer, const Filter *filter, const FilterRules *rules,
			const char *path, size_t len, bool is_directory)
{
	static const char *const sources[] = {
		[FILTER_BY_NOTHING] = "none",
		[FILTER_BY_DEFAULT] = "default",
		[FILTER_BY_HIDDEN] = "hidden",
		[FILTER_BY_EXCLUDE] = "exclude",
		[FILTER_BY_RULES] = "ignore file",
		[FILTER_BY_INCLUDE] = "include",
	};
	FilterReason reason;

	filter_explain(filter, rules, path, len, is_directory, &reason);
	answer->known = reason.verdict != FILTER_UNSURE;
	answer->tracked = reason.verdict == FILTER_ACCEPTED;
	answer->source = sources[reason.source];
	answer->decided_len = reason.decided_len;
	if (reason.rule != NULL)
		snprintf(answer->rule, sizeof(answer->rule), "%s", reason.rule);
	if (reason.source == FILTER_BY_RULES &&
		asprintf(&answer->rule_file, "%s%s" FILTER_RULES_NAME, reason.directory,
				 reason.directory[0] != '\0' ? "/" : "") < 0)
		answer->rule_file = NULL;
	if (reason.verdict == FILTER_UNSURE)
		snprintf(answer->detail, sizeof(answer->detail),
				 "What the file of rules says is not known, as it cannot be read.");
	else if (reason.source == FILTER_BY_INCLUDE && reason.rule == NULL)
		snprintf(answer->detail, sizeof(answer->detail), "No pattern of include matches.");
	else if (answer->tracked && reason.source == FILTER_BY_NOTHING)
		snprintf(answer->detail, sizeof(answer->detail), "No rule excludes it.");
}

/* The path as a whole is refused, for what no pattern says. */
__attribute__((format(printf, 4, 5)))
static void
refuse(Answer *answer, const char *source, size_t len, const char *format,...)
{
	va_list		args;

	answer->known = true;
	answer->tracked = false;
	answer->source = source;
	answer->rule[0] = '\0';
	free(answer->rule_file);
	answer->rule_file = NULL;
	answer->decided_len = len;
	va_start(args, format);
	vsnprintf(answer->detail, sizeof(answer->detail), format, args);
	va_end(args);
}

/* What there is at the path, where the names do not refuse it. */
static void
judge_file(Answer *answer, const Filter *filter, const ProtoInit *init,
		   const FileInfo *info, size_t len)
{
	if (!S_ISREG(info->mode))
		refuse(answer, "type", len, "It is %s, not a regular file.",
			   S_ISLNK(info->mode) ? "a symbolic link" : S_ISFIFO(info->mode) ? "a FIFO" :
			   S_ISSOCK(info->mode) ? "a socket" : "a device");
	else if (!filter_accepts_size(filter, info->stat.size))
	{
		bool		small = info->stat.size < init->min_size;

		refuse(answer, "size", len, "Its size is %" PRId64 " bytes.", info->stat.size);
		snprintf(answer->rule, sizeof(answer->rule), "%s = %" PRId64,
				 small ? "min_size" : "max_size", small ? init->min_size : init->max_size);
	}
}

static void
judge(Answer *answer, const Filter *filter, const ProtoInit *init, int rootfd,
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
			refuse(answer, "name", len, "The path is longer than %d bytes.", PROTO_PATH_MAX);
		else if (is_directory)
			refuse(answer, "type", len, "It is a directory: files in it may be tracked.");
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
	Answer		answer = {.source = "none"};
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
	if (!read_init(&in, &init))
		return EXIT_FAILURE;
	filter = settings_filter(&init);
	if (filter == NULL)
		return EXIT_FAILURE;
	errno = error;
	judge(&answer, filter, &init, rootfd, path, len - is_directory, is_directory);
	return write_answer(&answer, path) ? EXIT_SUCCESS : EXIT_FAILURE;
}
