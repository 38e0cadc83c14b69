/*-------------------------------------------------------------------------
 *
 * judgement.c
 *		Which rule decides about a path, in words; and how a session asks.
 *
 * The decision is made by what decides for watch and walk; only how it came
 * about is put into words here.  A session's question is its standard input,
 * and what is said to it the standard output.
 *
 *-------------------------------------------------------------------------
 */
#include "judgement.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void
judge_names(Judgement *answer, const Filter *filter, const FilterRules *rules,
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

void
judge_refuse(Judgement *answer, const char *source, size_t len,
			 const char *format,...)
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

void
judge_file(Judgement *answer, const Filter *filter, const ProtoInit *init,
		   const FileInfo *info, size_t len)
{
	if (!S_ISREG(info->mode))
		judge_refuse(answer, "type", len, "It is %s, not a regular file.",
					 S_ISLNK(info->mode) ? "a symbolic link" : S_ISFIFO(info->mode) ? "a FIFO" :
					 S_ISSOCK(info->mode) ? "a socket" : "a device");
	else if (!filter_accepts_size(filter, info->stat.size))
	{
		bool		small = info->stat.size < init->min_size;

		judge_refuse(answer, "size", len, "Its size is %" PRId64 " bytes.", info->stat.size);
		snprintf(answer->rule, sizeof(answer->rule), "%s = %" PRId64,
				 small ? "min_size" : "max_size", small ? init->min_size : init->max_size);
	}
}

/* Frames follow each other, so what was read of the next one stays in the buffer. */
bool
question_read(ProtoBuf *buf, ProtoInit *init)
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

bool
answer_write(ProtoBuf *buf)
{
	size_t		done = buf->start;

	while (!buf->failed && done < buf->len)
	{
		ssize_t		n = write(STDOUT_FILENO, buf->data + done, buf->len - done);

		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			done += (size_t) n;
	}
	return !buf->failed && done == buf->len;
}
