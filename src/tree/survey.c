/*-------------------------------------------------------------------------
 *
 * survey.c
 *		What of a whole tree is tracked, would be, and is not.
 *
 * A preview is two walks side by side, one with the settings as they are and
 * one with the others, merged in path order as a scan merges a walk and the
 * table; what is not tracked is what a walk passes over.  So it is the code that
 * a scan goes by which decides, and memory does not grow with the tree.  Nothing
 * is read of any file but .fsyncignore.
 *
 *-------------------------------------------------------------------------
 */
#include "survey.h"

#include "answers.h"
#include "clock.h"
#include "judgement.h"
#include "path_order.h"
#include "root.h"
#include "sandbox.h"
#include "settings.h"
#include "walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Entries between two looks at the clock, and bytes that are written together. */
#define ENTRIES_A_LOOK	256
#define WRITE_BYTES		(64 * 1024)

typedef struct Survey
{
	ProtoBuf	in;
	ProtoInit	init;			/* the one that was read last */
	Filter	   *filter;			/* of the repository's settings */
	Root		root;
	AnswerEnd	end;
	int64_t		deadline_ms;
	unsigned	entries;
} Survey;

/*
 * Confines the process, reads the repository's settings and opens its root.  The
 * exit status, or -1: all is well, or survey->end says why the root is not open.
 */
static int
begin(Survey *survey, const char *path, int ms, bool must_be_complete)
{
	Sandbox		sandbox;
	int			rootfd = beneath_open_root(path);
	RootTrouble trouble;

	memset(survey, 0, sizeof(*survey));
	survey->end.error = rootfd < 0 ? errno : 0;
	sandbox_process();
	sandbox_enter(rootfd, &sandbox);
	if (must_be_complete && !sandbox.complete)
		return PROTO_EXIT_UNCONFINED;
	survey->deadline_ms = monotonic_us() / 1000 + ms;
	proto_buf_init(&survey->in);
	if (!question_read(&survey->in, &survey->init) ||
		root_init(&survey->root, &survey->init, -1) < 0)
		return EXIT_FAILURE;
	survey->filter = settings_filter(&survey->init);
	if (survey->filter == NULL)
		return EXIT_FAILURE;
	if (rootfd < 0)
	{
		survey->end.result = ANSWER_NO_ROOT;
		return -1;
	}
	close(rootfd);
	trouble = root_open(&survey->root, false);
	if (trouble == ROOT_REPLACED || trouble == ROOT_OF_SERVER)
		survey->end.result = ANSWER_OTHER_ROOT;
	else if (trouble != ROOT_OK)
	{
		survey->end.result = ANSWER_NO_ROOT;
		survey->end.error = errno;
	}
	return -1;
}

static Walk *
open_walk(const Survey *survey, const Filter *filter, bool refused)
{
	WalkOptions options = {
		.filter = filter,
		.utf8 = survey->init.utf8,
		.names_only = filter_accepts_size(filter, 0) && filter_accepts_size(filter, INT64_MAX),
		.refused = refused
	};

	return walk_open(survey->root.fd, "", 0, &options);
}

static bool
time_is_over(Survey *survey)
{
	if (survey->entries++ % ENTRIES_A_LOOK == 0 && monotonic_us() / 1000 >= survey->deadline_ms)
		survey->end.result = ANSWER_TIMED_OUT;
	return survey->end.result == ANSWER_TIMED_OUT;
}

/* ---- what other settings would come to ---- */

/* A walk, at one of its files. */
typedef struct Side
{
	Walk	   *walk;
	WalkEntry	entry;
	bool		more;
	int64_t		unreadable;
	ProtoBuf	first;			/* list of paths that only this side has */
	int64_t		only;
} Side;

/* Goes on to the next file; false when out of memory. */
static bool
next_file(Survey *survey, Side *side)
{
	int			result;

	while ((result = walk_next(side->walk, &side->entry)) == 1)
	{
		if (side->entry.kind == WALK_FILE || time_is_over(survey))
			break;
		side->unreadable += side->entry.kind == WALK_UNKNOWN_DIRECTORY ||
			side->entry.kind == WALK_UNKNOWN_RULES;
	}
	side->more = result == 1;
	return result >= 0;
}

/*
 * Where a file of rules cannot be read, rows are neither made nor removed; the
 * other side may have no such rules, and then knows the file.
 */
static void
note(Side *side, int max_paths)
{
	if (side->entry.unsure)
		return;
	if (side->only++ < max_paths)
		proto_put_str(&side->first, side->entry.path, side->entry.len);
}

static bool
compare(Survey *survey, Side *now, Side *then, int max_paths)
{
	if (!next_file(survey, now) || !next_file(survey, then))
		return false;
	while ((now->more || then->more) && !time_is_over(survey))
	{
		int			c = !now->more ? 1 : !then->more ? -1 :
			path_order(now->entry.path, now->entry.len, then->entry.path, then->entry.len);

		if (c < 0)
			note(now, max_paths);
		else if (c > 0)
			note(then, max_paths);
		if ((c <= 0 && !next_file(survey, now)) || (c >= 0 && !next_file(survey, then)))
			return false;
	}
	return true;
}

static ProtoStr
list_of(const ProtoBuf *list)
{
	ProtoStr	s = {list->data, (uint32_t) list->len};

	return s;
}

int
survey_preview(const char *root, int max_paths, int ms, bool must_be_complete)
{
	Survey		survey;
	Side		now = {0};
	Side		then = {0};
	Filter	   *other;
	AnswerPreview preview = {0};
	ProtoBuf	out;
	int			status = begin(&survey, root, ms, must_be_complete);

	if (status >= 0)
		return status;
	proto_buf_init(&now.first);
	proto_buf_init(&then.first);
	if (survey.end.result == ANSWER_COMPLETE)
	{
		if (!question_read(&survey.in, &survey.init))
			return EXIT_FAILURE;
		other = settings_filter(&survey.init);
		if (other == NULL)
			return EXIT_FAILURE;
		now.walk = open_walk(&survey, survey.filter, false);
		then.walk = open_walk(&survey, other, false);
		if (now.walk == NULL || then.walk == NULL ||
			!compare(&survey, &now, &then, max_paths))
			return EXIT_FAILURE;
	}
	survey.end.unreadable = then.unreadable;
	preview.end = survey.end;
	preview.added = then.only;
	preview.removed = now.only;
	preview.first_added = list_of(&then.first);
	preview.first_removed = list_of(&now.first);
	proto_buf_init(&out);
	proto_begin(&out, (ProtoType) ANSWER_PREVIEW);
	answer_put_preview(&out, &preview);
	proto_end(&out);
	return answer_write(&out) ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- what is not tracked ---- */

static ProtoStr
text(const char *string)
{
	ProtoStr	s = {string, (uint32_t) (string != NULL ? strlen(string) : 0)};

	return s;
}

/* Why the entry is none that is tracked. */
static void
judge_entry(Judgement *why, const Survey *survey, const WalkEntry *entry, bool *directory)
{
	*directory = entry->directory;
	switch (entry->kind)
	{
		case WALK_REFUSED:
			if (entry->error != 0)
				break;
			*directory = S_ISDIR(entry->info.mode);
			judge_names(why, survey->filter, entry->rules, entry->path, entry->len, *directory);
			if ((why->tracked || !why->known) && !*directory)
				judge_file(why, survey->filter, &survey->init, &entry->info, entry->len);
			return;
		case WALK_BAD_NAME:
			judge_refuse(why, "name", entry->len,
						 "The name is not valid in the database's encoding.");
			return;
		case WALK_TOO_LONG:
			judge_refuse(why, "name", entry->len, "The path is longer than %d bytes.",
						 PROTO_PATH_MAX);
			return;
		case WALK_UNKNOWN_DIRECTORY:
		case WALK_UNKNOWN_RULES:
		case WALK_UNKNOWN_FILE:
		case WALK_FILE:
		case WALK_GUARDED:
		case WALK_REMOTE:
			break;
	}
	judge_refuse(why, "error", entry->len, "It could not be looked at: %s.",
				 strerror(entry->error));
}

static void
put_entry(ProtoBuf *out, const Survey *survey, const WalkEntry *entry)
{
	Judgement	why = {.source = "none"};
	AnswerIgnored ignored = {.path = {entry->path, (uint32_t) entry->len}};

	if (entry->len == 0)
		ignored.path = text(".");	/* the root itself */
	judge_entry(&why, survey, entry, &ignored.directory);
	ignored.source = text(why.source);
	ignored.rule = text(why.rule);
	ignored.rule_file = text(why.rule_file);
	ignored.detail = text(why.detail);
	proto_begin(out, (ProtoType) ANSWER_IGNORED);
	answer_put_ignored(out, &ignored);
	proto_end(out);
	free(why.rule_file);
}

/* False when out of memory, or nobody listens. */
static bool
list_ignored(Survey *survey, ProtoBuf *out, int max_rows)
{
	Walk	   *walk = open_walk(survey, survey->filter, true);
	WalkEntry	entry;
	size_t		written = 0;
	int			rows = 0;
	int			result = -1;

	while (walk != NULL && (result = walk_next(walk, &entry)) == 1 && !time_is_over(survey))
	{
		if (entry.kind == WALK_FILE)
			continue;
		survey->end.unreadable += entry.kind == WALK_UNKNOWN_DIRECTORY ||
			entry.kind == WALK_UNKNOWN_RULES;
		if (rows++ == max_rows || written + out->len > ANSWER_MAX_BYTES - 2 * WRITE_BYTES)
		{
			survey->end.result = ANSWER_CUT;
			break;
		}
		put_entry(out, survey, &entry);
		if (out->len >= WRITE_BYTES)
		{
			if (!answer_write(out))
				return false;
			written += out->len;
			out->len = 0;
		}
	}
	return result >= 0;
}

int
survey_ignored(const char *root, int max_rows, int ms, bool must_be_complete)
{
	Survey		survey;
	ProtoBuf	out;
	int			status = begin(&survey, root, ms, must_be_complete);

	if (status >= 0)
		return status;
	proto_buf_init(&out);
	if (survey.end.result == ANSWER_COMPLETE && !list_ignored(&survey, &out, max_rows))
		return EXIT_FAILURE;
	proto_begin(&out, (ProtoType) ANSWER_END);
	answer_put_end(&out, &survey.end);
	proto_end(&out);
	return answer_write(&out) ? EXIT_SUCCESS : EXIT_FAILURE;
}
