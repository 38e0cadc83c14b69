/*-------------------------------------------------------------------------
 *
 * inspect.c
 *		From points to observations: the one place where it is decided what
 *		has become of a path.
 *
 * Points are collected, the worker's beliefs about them asked for
 * (inspect_points.c), and when these have come, each is looked at on disk:
 *
 *	- rows whose file is no longer at their path, and files that no row of
 *	  their path speaks of, are matched by identity: those are renames
 *	  (moves.c);
 *	- rows left over are removed, if the root was the accepted one before and
 *	  after the look;
 *	- files that are new or differ are hashed (hashing.c).
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Looks at what cannot be reached although nothing on the way is closed. */
#define INSPECT_RETRIES		2

/* Where a change waits for longer than that, it is for files to be whole. */
#define INSPECT_LONG_DEBOUNCE_MS	2000

/* From so many points on they are looked at ahead, so many in a turn. */
#define INSPECT_AHEAD_POINTS	1000
#define INSPECT_AHEAD_TURN		1000

/* ---- looking at the disk ---- */

/* The next verdict is of what the tree's rules are then. */
void
inspect_forget_rules(Engine *engine)
{
	if (engine->rules != NULL)
		rules_forget(engine->rules);
}

/* *error is the errno for want of which the rules could not be read, or 0. */
static FilterVerdict
judge(Engine *engine, const char *path, size_t len, const FilterRules **rules, int *error)
{
	bool		failed = false;

	*rules = NULL;
	if (engine->rules != NULL)
		*rules = rules_for(engine->rules, engine->root.fd, path, len, &failed);
	*error = failed ? errno : 0;
	return failed ? FILTER_UNSURE : filter_accepts_file(engine->filter, *rules, path, len);
}

/*
 * Whether the error is none of the path's: it is to be looked at again when
 * there is what lacks.  Where others' file systems are the source, which may
 * give any error for a file for ever, that must be seen here too.
 */
bool
inspect_starved(const Engine *engine, const char *path, size_t len, int error)
{
	return (shortage_is(error) || error == SHORTAGE_OF_THREADS) &&
		(!root_polls(&engine->root, path, len) || shortage_confirmed(error));
}

/*
 * What the filter says of a file's path, and the rules of the tree, as they
 * are now or were since they were last forgotten.
 */
FilterVerdict
inspect_verdict(Engine *engine, const char *path, size_t len)
{
	const FilterRules *rules;
	int			error;

	return judge(engine, path, len, &rules, &error);
}

/* A .fsyncignore that cannot be read: no row is made below it. */
static void
report_unknown(Engine *engine, const FilterRules *rules)
{
	const char *directory = filter_rules_directory(rules);
	int			error = filter_rules_error(rules);
	char	   *path;
	int			len = asprintf(&path, "%s%s" FILTER_RULES_NAME, directory,
							   directory[0] != '\0' ? "/" : "");

	if (len < 0)
		return;
	report_problem(engine, error == EACCES || error == EPERM ?
				   PROTO_PROBLEM_PERMISSION : PROTO_PROBLEM_IO, error, path, len, 0);
	free(path);
}

/*
 * Whether the point is a file that is tracked; else why not.  A name that is
 * refused is so whatever is there, and also where stat fails.
 */
static bool
is_tracked(Engine *engine, Point *p)
{
	const FilterRules *rules;
	int			error;
	FilterVerdict verdict = judge(engine, p->path, p->len, &rules, &error);

	if (error != 0)
	{
		p->error = error;
		return true;
	}

	/* Who knows: then a row stays, and none is made. */
	if (verdict == FILTER_UNSURE && p->error == 0 && !p->has_belief)
	{
		rules = filter_rules_unknown(rules);
		if (rules != NULL && S_ISREG(p->info.mode))
			report_unknown(engine, rules);
		return false;
	}
	if (verdict == FILTER_REFUSED)
		p->gone = PROTO_GONE_EXCLUDED;
	else if (p->error != 0)
		return p->error != ENOENT;
	else if (!S_ISREG(p->info.mode))
		p->gone = PROTO_GONE_TYPE;
	else if (!filter_accepts_size(engine->filter, p->info.stat.size))
		p->gone = PROTO_GONE_EXCLUDED;
	else
		return true;
	return false;
}

int
inspect_stat(const Engine *engine, const char *path, size_t len, FileInfo *info)
{
	if (beneath_stat(engine->root.fd, path, len, info) < 0)
		return -1;
	if (spelling_of(engine->spelling, engine->root.fd, path, len, 0) != SPELLING_OTHER)
		return 0;
	errno = ENOENT;
	return -1;
}

typedef struct OtherSpelling
{
	Engine	   *engine;
	const Point *point;
} OtherSpelling;

static void
look_at_listed_name(void *arg, const char *name, size_t len)
{
	const Point *p = ((OtherSpelling *) arg)->point;
	Engine	   *engine = ((OtherSpelling *) arg)->engine;
	char		path[PROTO_PATH_MAX + 1];
	size_t		at = p->node != 0 ? 0 : spelling_directory(p->path, p->len);

	if (at + len > PROTO_PATH_MAX)
		return;
	memcpy(path, p->path, at);
	memcpy(path + at, name, len);
	pending_retry(&engine->pending, p->node, path, at + len,
				  p->hints & (HINT_CONTENT | HINT_CLOSED | HINT_META), 1, p->since_us,
				  p->epoch, 0);
}

/*
 * Where names fold, what stat finds may be listed by another name.  What
 * happened to it by this one is news of the one that is listed.  A name in a
 * directory of the watch tree, whose place is right, is looked at alone.
 */
static bool
is_as_listed(Engine *engine, const Point *p)
{
	OtherSpelling other = {engine, p};
	size_t		known = p->node != 0 ? spelling_directory(p->path, p->len) : 0;

	if (spelling_of(engine->spelling, engine->root.fd, p->path, p->len, known) != SPELLING_OTHER)
		return true;
	if ((p->hints & HINT_FOUND) == 0)
		spelling_listed(engine->spelling, engine->root.fd, p->path, p->len, &p->info,
						look_at_listed_name, &other);
	return false;
}

static void
stat_point(Engine *engine, Point *p, LastDirectory *last)
{
	p->error = beneath_stat_near(engine->root.fd, p->path, p->len, last, &p->info) < 0 ?
		errno : 0;
	if (p->error != 0)
	{
		/* what was there was most likely on its directory's file system */
		memset(&p->info, 0, sizeof(p->info));
		p->info.dev = last->fd >= 0 ? last->info.dev : 0;
	}

	/*
	 * The event spoke of a name in a directory, which may have moved on since
	 * its path was computed: then this is another file.
	 */
	if (p->node != 0 && engine->watches != NULL &&
		(last->fd >= 0 ?
		 !watch_tree_is_at(engine->watches, p->node, last->info.dev,
						   (ino_t) last->info.stat.inode) :
		 p->error == ENOENT && !(p->hints & HINT_DELETED)))
		p->stale = true;

	if (p->error == 0 && !is_as_listed(engine, p))
		p->error = ENOENT;
	if (!is_tracked(engine, p))
	{
		/* A directory may be news to the watch tree, if this name's events
		 * were mixed up with another's. */
		if (p->error == 0 && S_ISDIR(p->info.mode) && engine->watches &&
			!watch_tree_knows(engine->watches, p->path, p->len))
		{
			watch_tree_touch(engine->watches, p->path, p->len);
			changes_must_resolve(engine);
		}
		p->error = ENOENT;
	}
}

/* ---- decisions ---- */

/* Whether somebody waits for what happened in this epoch. */
static bool
flush_wants(const Engine *engine, uint64_t epoch)
{
	for (const FlushWait *wait = engine->flushes; wait; wait = wait->next)
		if (epoch <= wait->epoch)
			return true;
	return false;
}

/*
 * A file in a directory that has come is found without an event of its own.
 * Where files are waited for until they are whole, this one may not be so yet:
 * it waits as if its last event were now.  Not if somebody waits for it, nor for
 * longer than for a file that never is quiet.
 */
static bool
wait_until_whole(Engine *engine, const Point *p)
{
	int64_t		debounce_ns = (int64_t) engine->config.debounce_ms * 1000000;
	int64_t		longest_us = (int64_t) engine->config.debounce_max_ms * 1000;
	int64_t		age_ns = clock_ns(CLOCK_REALTIME) - p->info.stat.ctime_ns;

	if (engine->config.debounce_ms < INSPECT_LONG_DEBOUNCE_MS || p->scan_id != 0 ||
		(p->hints & HINT_FOUND) == 0 || age_ns < 0 || age_ns >= debounce_ns ||
		flush_wants(engine, p->epoch) ||
		(p->since_us != 0 && p->since_us + longest_us <= monotonic_us()))
		return false;
	return pending_wait(&engine->pending, p->path, p->len, HINT_FOUND, monotonic_us(),
						p->since_us, p->epoch != EPOCH_NONE ? p->epoch : engine->epoch) != NULL;
}

static void
decide_file(Engine *engine, Point *p)
{
	const ProtoBelief *b = &p->belief;
	const ProtoStat *s = &p->info.stat;
	bool		known = p->has_belief && !p->moved_away;
	bool		calculate = engine->config.calculate_hashes;

	/* also where the row is as the file: it may know already what changed */
	if (!known || !scan_belief_matches(b, s) ||
		(p->hints & (HINT_CONTENT | HINT_CLOSED | HINT_META)))
		inspect_links(engine, p);
	if (known && scan_belief_matches(b, s) && (b->has_hash || !calculate))
	{
		bool		written = (p->hints & (HINT_CLOSED | HINT_CONTENT)) != 0;
		int64_t		since_ns = (p->hints & HINT_FOUND) ? changes_doubt_since(engine) : INT64_MAX;
		bool		unseen = calculate &&
			((written && engine->root.volatile_times) || engine->root.replaced ||
			 scan_doubts(b, written ? INT64_MIN : since_ns));

		if (!unseen)
		{
			if (problems_forget(&engine->problems, p->path, p->len))
				report_cured(engine, p->path, p->len, p->scan_id);
			return;
		}
	}
	if (wait_until_whole(engine, p))
		return;
	if (calculate)
	{
		if (!unread_put_off(engine, p))
			hashing_submit(engine, p);
	}
	else
	{
		ProtoOp		op = PROTO_OP_ADDED;

		if (known)
			op = b->size == s->size && b->mtime_ns == s->mtime_ns ?
				PROTO_OP_TOUCHED : PROTO_OP_UPDATED;
		report_file(engine, op, p->path, p->len, s, NULL, 0, 0, p->scan_id);
	}
}

/*
 * What could not be reached for lack of rights, and can be by now, is looked at
 * once more: that it can be is no event if it was so when the watch tree looked.
 */
static bool
look_again(Engine *engine, const Point *p)
{
	const char *slash = memrchr(p->path, '/', p->len);
	const char *name = p->node != 0 && slash ? slash + 1 : p->path;
	PendingName *waiting;

	if ((p->error != EACCES && p->error != EPERM) || p->retries >= INSPECT_RETRIES ||
		changes_closed(engine, p->path, p->len))
		return false;
	waiting = pending_retry(&engine->pending, p->node, name, p->len - (name - p->path),
							p->hints, 1, p->since_us, p->epoch, p->scan_id);
	if (waiting != NULL)
		waiting->retries = p->retries + 1;
	return waiting != NULL;
}

static void
decide(Engine *engine, Point *p)
{
	if (p->settled)
		return;
	if (p->error == 0)
		decide_file(engine, p);
	else if (p->error == ENOENT)
	{
		hashing_gone(engine, p->path, p->len);
		if (p->has_belief && !p->moved_away)
		{
			report_removed(engine, p->belief.id, p->gone, p->path, p->len, p->scan_id);
			(void) report_forget_problem(engine, p->path, p->len);
		}
		else if (report_forget_problem(engine, p->path, p->len))
			report_cured(engine, p->path, p->len, p->scan_id);
	}
	else if (!look_again(engine, p))
		report_problem(engine,
					   p->error == EACCES || p->error == EPERM ?
					   PROTO_PROBLEM_PERMISSION : PROTO_PROBLEM_IO,
					   p->error, p->path, p->len, p->scan_id);
}

static void
clear_points(Engine *engine)
{
	for (size_t i = 0; i < engine->n_points; i++)
		free(engine->points[i].path);
	table_clear(&engine->points_by_name);
	engine->n_points = 0;
	engine->inspecting = false;
	if (engine->points_capacity > 8192)
	{
		free(engine->points);
		engine->points = NULL;
		engine->points_capacity = 0;
	}
}

/*
 * Something could not be looked at for want of what this errno says.  Nothing is
 * concluded from the rest, which may be other halves of it: all points wait.
 */
void
inspect_starve(Engine *engine, int error)
{
	int64_t		due = shortage_note(&engine->shortage, error);

	for (size_t i = 0; i < engine->n_points; i++)
	{
		const Point *p = &engine->points[i];
		const char *slash = memrchr(p->path, '/', p->len);
		const char *name = p->node != 0 && slash ? slash + 1 : p->path;
		PendingName *waiting;

		waiting = pending_starve(&engine->pending, p->node, name, p->len - (name - p->path),
								 p->hints, due, p->since_us, p->epoch, p->scan_id);
		if (waiting == NULL)
			continue;			/* everything is compared instead */
		waiting->retries = p->retries;
		waiting->put_offs = p->put_offs;
		waiting->put_off_us = p->put_off_us;
	}
	clear_points(engine);
}

static bool
mounts_changed(const Root *root)
{
	struct pollfd pfd = {.fd = root->mountinfo_fd, .events = POLLPRI};

	return root->mountinfo_fd >= 0 && poll(&pfd, 1, 0) > 0 &&
		(pfd.revents & (POLLPRI | POLLERR));
}

/*
 * While the worker is busy with what was reported before, it does not answer,
 * and a large load may as well be looked at.  Not where rules of the tree count,
 * for which rows matter, nor names that events spoke of, whose directories may
 * be about to move.
 */
bool
inspect_looks_ahead(const Engine *engine)
{
	return engine->inspecting && engine->points_looked < engine->n_points &&
		engine->n_points >= INSPECT_AHEAD_POINTS && engine->rules == NULL &&
		proto_buf_pending(&engine->out) == 0;
}

void
inspect_look_ahead(Engine *engine)
{
	LastDirectory last;
	size_t		end = engine->points_looked + INSPECT_AHEAD_TURN;

	if (!inspect_looks_ahead(engine))
		return;
	if (engine->points_looked == 0)
	{
		RootTrouble trouble = root_verify(&engine->root);

		if (trouble != ROOT_OK)
		{
			engine_root_trouble(engine, trouble);
			engine->points_looked = engine->n_points;	/* not ahead, then */
			return;
		}
	}
	beneath_begin(&last);
	for (; engine->points_looked < end && engine->points_looked < engine->n_points;
		 engine->points_looked++)
	{
		Point	   *p = &engine->points[engine->points_looked];

		p->looked = p->node == 0;
		if (p->looked)
			stat_point(engine, p, &last);
	}
	beneath_end(&last);
	spelling_forget(engine->spelling);
}

/*
 * What was there when it was looked at ahead may have changed, of which an
 * event will tell; but a row goes only for what is not there now.
 */
static void
look(Engine *engine, Point *p, LastDirectory *last)
{
	if (p->looked && (p->error != ENOENT || !p->has_belief))
		return;
	p->error = 0;
	p->gone = 0;
	p->stale = false;
	stat_point(engine, p, last);
}

/*
 * A row whose file is as the row says, which a scan has noticed all the same:
 * its directory does not list it.
 */
static void
doubt_spelling(Engine *engine, Point *p)
{
	if (p->error == 0 && p->has_belief && (p->hints & HINT_FOUND) &&
		scan_belief_matches(&p->belief, &p->info.stat) &&
		spelling_of_missed(engine->spelling, engine->root.fd, p->path, p->len,
						   &p->info) == SPELLING_OTHER)
		p->error = ENOENT;
}

/*
 * A name is gone of which there is no row.  Where names fold there may be one of
 * another spelling, which only a comparison of the directory finds.
 */
static void
look_for_row(Engine *engine, const Point *p)
{
	size_t		directory = spelling_directory(p->path, p->len);

	if (directory > 0)
		directory--;
	if (p->error == ENOENT && !p->has_belief && (p->hints & (HINT_DELETED | HINT_GONE)) &&
		inspect_verdict(engine, p->path, p->len) != FILTER_REFUSED &&
		spelling_folds(engine->spelling, engine->root.fd, p->path, directory))
		changes_want_subtree(engine, p->path, directory, p->epoch);
}

void
inspect_examine(Engine *engine)
{
	LastDirectory last;
	RootTrouble trouble = root_verify(&engine->root);
	int			error = trouble == ROOT_STARVED ? errno : 0;

	engine->inspections++;
	if (engine->watches != NULL)
		watch_tree_examined(engine->watches);
	inspect_forget_rules(engine);
	beneath_begin(&last);
	for (size_t i = 0; trouble == ROOT_OK && error == 0 && i < engine->n_points; i++)
	{
		Point	   *p = &engine->points[i];
		ProtoProblem problem = inspect_untrackable(engine, p);

		look(engine, p, &last);
		if (inspect_starved(engine, p->path, p->len, p->error))
			error = p->error;
		inspect_doubt(engine, p);
		doubt_spelling(engine, p);
		look_for_row(engine, p);
		inspect_former_links(engine, p);
		if (problem != 0 && p->error == 0)
		{
			report_problem(engine, problem, 0, p->path, p->len, p->scan_id);
			p->settled = true;
		}
	}
	beneath_end(&last);
	spelling_forget(engine->spelling);
	if (mounts_changed(&engine->root))
		changes_read_mounts(engine);
	if (error == 0 && engine->mounts_error != 0)
		error = engine->mounts_error;
	if (trouble == ROOT_OK && error == 0)
	{
		trouble = root_verify(&engine->root);
		if (trouble == ROOT_STARVED)
			error = errno;
	}
	if (error != 0)
	{
		inspect_starve(engine, error);
		return;
	}
	if (trouble != ROOT_OK)
	{
		engine_root_trouble(engine, trouble);
		return;
	}
	for (size_t i = 0; i < engine->n_points; i++)
	{
		if (root_guards(&engine->root, engine->points[i].path, engine->points[i].len))
			engine->points[i].settled = true;
	}

	/* All that was heard before the disk was looked at is known from here. */
	if (engine->reader != NULL)
	{
		events_drain(engine->reader);
		changes_process_events(engine);
	}
	moves_decide(engine);
	for (size_t i = 0; i < engine->n_points; i++)
	{
		engine->cause_us = engine->points[i].since_us;
		decide(engine, &engine->points[i]);
	}
	engine->cause_us = 0;
	engine->statistics.counted.inspections += engine->n_points;
	clear_points(engine);
}

/* ---- who waits for it ---- */

/* As hashing_renew(). */
void
inspect_renew(Engine *engine, uint64_t epoch)
{
	for (size_t i = 0; i < engine->n_points; i++)
	{
		Point	   *p = &engine->points[i];

		p->retries = 0;
		if (p->epoch == EPOCH_NONE && p->scan_id == 0)
			p->epoch = epoch;
	}
}

uint64_t
inspect_min_epoch(const Engine *engine)
{
	uint64_t	min = EPOCH_NONE;

	for (size_t i = 0; i < engine->n_points; i++)
		if (engine->points[i].epoch < min)
			min = engine->points[i].epoch;
	return min;
}

/* The scan waits for no point any more. */
void
inspect_drop_scan(Engine *engine, int64_t scan_id)
{
	for (size_t i = 0; i < engine->n_points; i++)
		if (engine->points[i].scan_id == scan_id)
			engine->points[i].scan_id = 0;
}

bool
inspect_has_scan(const Engine *engine, int64_t scan_id)
{
	for (size_t i = 0; i < engine->n_points; i++)
		if (engine->points[i].scan_id == scan_id)
			return true;
	return false;
}
