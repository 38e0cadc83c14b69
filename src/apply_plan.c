/*-------------------------------------------------------------------------
 *
 * apply_plan.c
 *		What a message of observations comes to.
 *
 * The observations of a message are a sequence in time, but are written as
 * sets: removals, then all moves together, then rows that are new or changed.
 * Where the sequence means something else than this order of sets, it is on a
 * path that several observations touch.  These are worked out here, so that
 * each set touches a path at most once and the outcome is that of the
 * sequence:
 *
 *	- the last one to write a path wins;
 *	- what was written to a path from which a row then moved away is void: the
 *	  move has the newer values;
 *	- a row that moved twice moves once, from its first path to its last;
 *	- a row that moved and was then removed is removed after the moves.
 *
 * Moves themselves are simultaneous: one that begins where another one ends
 * is about the row that was there before the message, unless it names the
 * same row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "apply_plan.h"
#include "compat.h"
#include "path_key.h"
#include "session.h"

/* Operation, scan and an empty path. */
#define OBSERVATION_MIN_SIZE	(1 + 8 + 4)

/* What the message has said of a path so far: indexes of items, or -1. */
typedef struct PathEntry
{
	ProtoStr	path;
	uint32		hash;
	char		status;
	int			upsert;
	int			move_to;
	int			move_from;
	int			problem;
	int			last;			/* observation, or CLEAR, of this path */
} PathEntry;

#define SH_PREFIX pathtable
#define SH_ELEMENT_TYPE PathEntry
#define SH_KEY_TYPE ProtoStr
#define SH_KEY path
#define SH_HASH_KEY(tb, key)	path_hash(key)
#define SH_EQUAL(tb, a, b)	path_equal(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct PlanBuilder
{
	ApplyItem  *items;
	int			n;
	int			room;
	pathtable_hash *paths;
} PlanBuilder;

static PathEntry *
get_entry(PlanBuilder *builder, ProtoStr path)
{
	bool		found;
	PathEntry  *entry = pathtable_insert(builder->paths, path, &found);

	if (!found)
	{
		entry->upsert = -1;
		entry->move_to = -1;
		entry->move_from = -1;
		entry->problem = -1;
		entry->last = -1;
	}
	return entry;
}

/* ---------------------------------------------------------------------
 * Reading
 * ---------------------------------------------------------------------
 */

static bool
valid_name(ProtoStr path)
{
	return pg_verify_mbstr(GetDatabaseEncoding(), path.data, path.len, true);
}

/* Makes room for two items. */
static void
reserve_items(PlanBuilder *builder)
{
	int			room = builder->room;

	if (builder->n + 2 <= room)
		return;
	builder->room += builder->room / 2 + 2;
	builder->items = repalloc_huge(builder->items, sizeof(ApplyItem) * builder->room);
	memset(builder->items + room, 0, sizeof(ApplyItem) * (builder->room - room));
}

/*
 * Adds an observation whose path the database's encoding refuses, as what it
 * means for rows and problems: there is no row of such a name, and a row that
 * took on such a name has lost its own.
 */
static void
add_invalid_name(PlanBuilder *builder, const ProtoObservation *obs)
{
	ProtoObservation *to = &builder->items[builder->n].obs;

	switch (obs->op)
	{
		case PROTO_OP_REMOVED:
			*to = *obs;
			to->op = PROTO_OP_CLEAR;
			builder->n++;
			return;
		case PROTO_OP_MOVED:
			*to = *obs;
			to->op = PROTO_OP_REMOVED;
			to->path = obs->old_path;
			builder->n++;
			to = &builder->items[builder->n].obs;
			pg_fallthrough;
		default:
			*to = *obs;
			to->op = PROTO_OP_PROBLEM;
			to->problem = PROTO_PROBLEM_ENCODING;
			to->message.data = "";
			to->message.len = 0;
			builder->n++;
			return;
	}
}

static void
read_items(PlanBuilder *builder, ProtoReader body)
{
	uint32		count = proto_get_u32(&body);

	/* The count is not believed further than the bytes go. */
	if (body.failed || count > (body.end - body.p) / OBSERVATION_MIN_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_BAD_MESSAGE),
				 errmsg("invalid message from fsync-tree")));
	builder->room = count + 2;
	builder->items = MemoryContextAllocHuge(CurrentMemoryContext,
											sizeof(ApplyItem) * builder->room);
	memset(builder->items, 0, sizeof(ApplyItem) * builder->room);
	builder->n = 0;

	for (uint32 i = 0; i < count; i++)
	{
		ProtoObservation obs;

		if (!proto_get_observation(&body, &obs))
			ereport(ERROR,
					(errcode(ERRCODE_BAD_MESSAGE),
					 errmsg("invalid observation from fsync-tree")));
		reserve_items(builder);


		/* no row has such a path: a file of which none is known */
		if (obs.op == PROTO_OP_MOVED && !valid_name(obs.old_path))
			obs.op = PROTO_OP_ADDED;
		if (obs.op == PROTO_OP_PROBLEM || obs.op == PROTO_OP_CLEAR ||
			valid_name(obs.path))
			builder->items[builder->n++].obs = obs;
		else
			add_invalid_name(builder, &obs);
	}
	if (body.p != body.end)
		ereport(ERROR,
				(errcode(ERRCODE_BAD_MESSAGE),
				 errmsg("invalid message from fsync-tree")));
}

/* ---------------------------------------------------------------------
 * Working out
 * ---------------------------------------------------------------------
 */

static void
supersede(PlanBuilder *builder, int *index)
{
	if (*index >= 0)
		builder->items[*index].superseded = true;
	*index = -1;
}

/*
 * An earlier move of the same row, to where this one begins: make one of both.
 * Whatever row was at the path in between has been overwritten there.
 */
static void
join_moves(PlanBuilder *builder, int first, int second)
{
	ApplyItem  *a = &builder->items[first];
	ApplyItem  *b = &builder->items[second];
	PathEntry  *between = get_entry(builder, a->obs.path);

	between->move_to = -1;
	b->obs.old_path = a->obs.old_path;
	if (between->move_from < 0)
	{
		a->obs.op = PROTO_OP_REMOVED;
		a->obs.id = APPLY_ANY_ID;
	}
	else
		a->superseded = true;
}

static void
work_out_move(PlanBuilder *builder, int i)
{
	ApplyItem  *item = &builder->items[i];
	PathEntry  *source = get_entry(builder, item->obs.old_path);
	PathEntry  *target;

	source->last = i;
	if (source->move_to >= 0 && builder->items[source->move_to].obs.id == item->obs.id)
	{
		supersede(builder, &source->upsert);
		join_moves(builder, source->move_to, i);
		source = get_entry(builder, item->obs.old_path);
	}
	else if (source->move_to < 0)
		supersede(builder, &source->upsert);
	source->move_from = i;

	/* The table may have grown: entries are looked up one at a time. */
	target = get_entry(builder, item->obs.path);
	target->last = i;
	supersede(builder, &target->upsert);
	if (target->move_to >= 0)
	{
		ApplyItem  *overwritten = &builder->items[target->move_to];

		overwritten->obs.op = PROTO_OP_REMOVED;
		overwritten->obs.path = overwritten->obs.old_path;
		target->move_to = i;
		source = get_entry(builder, overwritten->obs.old_path);
		source->move_from = -1;
	}
	else
		target->move_to = i;
}

static void
work_out_item(PlanBuilder *builder, int i)
{
	ApplyItem  *item = &builder->items[i];
	PathEntry  *entry;

	if (item->obs.op == PROTO_OP_MOVED)
	{
		if (!path_equal(item->obs.path, item->obs.old_path))
		{
			work_out_move(builder, i);
			return;
		}
		item->obs.op = PROTO_OP_UPDATED;
	}

	switch (item->obs.op)
	{
		case PROTO_OP_ADDED:
		case PROTO_OP_UPDATED:
		case PROTO_OP_TOUCHED:
			entry = get_entry(builder, item->obs.path);
			supersede(builder, &entry->upsert);
			entry->upsert = i;
			entry->last = i;
			break;
		case PROTO_OP_REMOVED:
			entry = get_entry(builder, item->obs.path);
			supersede(builder, &entry->upsert);
			entry->last = i;
			break;
		case PROTO_OP_PROBLEM:
			entry = get_entry(builder, item->obs.path);
			supersede(builder, &entry->problem);
			entry->problem = i;
			break;
		case PROTO_OP_CLEAR:
			entry = get_entry(builder, item->obs.path);
			supersede(builder, &entry->problem);
			entry->last = i;
			break;
		default:
			break;
	}
}

/* ---------------------------------------------------------------------
 * Lists
 * ---------------------------------------------------------------------
 */

static void
append_item(ApplyList *list, ApplyItem *item)
{
	list->items[list->n++] = item;
}

/*
 * Appends the moves from this one on that have to be written together: each
 * next one begins where the last one ends.
 */
static void
append_chain(PlanBuilder *builder, ApplyList *moves, int first, int chain, bool *done)
{
	int			i = first;

	while (i >= 0 && !done[i])
	{
		ApplyItem  *item = &builder->items[i];

		done[i] = true;
		item->chain = chain;
		append_item(moves, item);
		i = get_entry(builder, item->obs.path)->move_from;
	}
}

static void
list_moves(PlanBuilder *builder, ApplyList *moves)
{
	bool	   *done = palloc0(sizeof(bool) * Max(builder->n, 1));

	for (int i = 0; i < builder->n; i++)
	{
		ApplyItem  *item = &builder->items[i];
		int			before;

		if (item->obs.op != PROTO_OP_MOVED || item->superseded)
		{
			done[i] = true;
			continue;
		}
		before = get_entry(builder, item->obs.old_path)->move_to;
		item->vacate = before >= 0 && before != i;
		if (!item->vacate)
			append_chain(builder, moves, i, i, done);
	}
	/* What is left begins nowhere: rings. */
	for (int i = 0; i < builder->n; i++)
	{
		if (!done[i])
			append_chain(builder, moves, i, i, done);
	}
	pfree(done);
}

/* Problems that nothing later in the message has taken back. */
static void
list_problems(PlanBuilder *builder, ApplyPlan *plan)
{
	for (int i = 0; i < builder->n; i++)
	{
		ApplyItem  *item = &builder->items[i];

		if (item->obs.op == PROTO_OP_PROBLEM && !item->superseded &&
			get_entry(builder, item->obs.path)->last < i)
			append_item(&plan->problems, item);
	}
}

static void
list_clears(PlanBuilder *builder, ApplyPlan *plan)
{
	pathtable_iterator iterator;
	PathEntry  *entry;

	plan->clears = palloc(sizeof(ProtoStr) * Max(builder->paths->members, 1));
	pathtable_start_iterate(builder->paths, &iterator);
	while ((entry = pathtable_iterate(builder->paths, &iterator)) != NULL)
	{
		if (entry->last > entry->problem)
			plan->clears[plan->n_clears++] = entry->path;
	}
}

static void
list_items(PlanBuilder *builder, ApplyPlan *plan)
{
	for (int i = 0; i < builder->n; i++)
	{
		ApplyItem  *item = &builder->items[i];
		PathEntry  *entry;

		if (item->superseded)
			continue;
		item->chain = i;
		switch (item->obs.op)
		{
			case PROTO_OP_ADDED:
			case PROTO_OP_UPDATED:
			case PROTO_OP_TOUCHED:
				append_item(&plan->upserts, item);
				break;
			case PROTO_OP_REMOVED:
				entry = get_entry(builder, item->obs.path);
				if (entry->move_to >= 0 && item->obs.id != APPLY_ANY_ID &&
					builder->items[entry->move_to].obs.id == item->obs.id)
				{
					builder->items[entry->move_to].short_lived = true;
					append_item(&plan->late_removals, item);
				}
				else
					append_item(&plan->removals, item);
				break;
			default:
				break;
		}
	}
}

ApplyPlan *
apply_plan_create(ProtoReader body)
{
	PlanBuilder builder;
	ApplyPlan  *plan = palloc0(sizeof(ApplyPlan));
	Size		room;

	read_items(&builder, body);
	builder.paths = pathtable_create(CurrentMemoryContext, Max(builder.n, 1), NULL);
	for (int i = 0; i < builder.n; i++)
		work_out_item(&builder, i);

	room = sizeof(ApplyItem *) * Max(builder.n, 1);
	plan->removals.items = palloc(room);
	plan->moves.items = palloc(room);
	plan->late_removals.items = palloc(room);
	plan->upserts.items = palloc(room);
	plan->problems.items = palloc(room);
	list_items(&builder, plan);
	list_moves(&builder, &plan->moves);
	list_problems(&builder, plan);
	list_clears(&builder, plan);
	pathtable_destroy(builder.paths);
	return plan;
}
