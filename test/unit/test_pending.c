/*-------------------------------------------------------------------------
 *
 * test_pending.c
 *		A name becomes due when it has been quiet, at the latest after
 *		debounce_max, and at once for a flush; nothing is lost or held for ever.
 *
 * The clock is a number: no test here waits.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "pending.h"

#define DEBOUNCE			500
#define DEBOUNCE_MAX		1500

static Pending pending;
static PendingRule rule;

/* Names that were taken, with a space behind each. */
static char taken[4096];

/* The name that take() leaves where it is. */
static const char *refused;

static void
reset(void)
{
	pending_clear(&pending);
	memset(&rule, 0, sizeof(rule));
	rule.debounce_us = DEBOUNCE;
	rule.debounce_max_us = DEBOUNCE_MAX;
	refused = NULL;
}

static PendingName *
note(const char *name, unsigned hints, int64_t now_us, uint64_t epoch)
{
	PendingName *p = pending_note(&pending, 1, name, strlen(name), hints, now_us, epoch);

	FILES_MUST(p != NULL);
	return p;
}

static PendingName *
retry(const char *name, unsigned hints, int64_t due_us, uint64_t epoch, int64_t scan_id)
{
	PendingName *p = pending_retry(&pending, 1, name, strlen(name), hints, due_us,
								   0, epoch, scan_id);

	FILES_MUST(p != NULL);
	return p;
}

static bool
take(void *arg, const PendingName *p)
{
	(void) arg;
	if (refused != NULL && strcmp(p->name, refused) == 0)
		return false;
	strcat(taken, p->name);
	strcat(taken, " ");
	return true;
}

static const char *
collect_max(int64_t now_us, size_t max)
{
	rule.now_us = now_us;
	taken[0] = '\0';
	pending_collect(&pending, &rule, max, take, NULL);
	return taken;
}

static const char *
collect(int64_t now_us)
{
	return collect_max(now_us, SIZE_MAX);
}

/* Fails if a file that is being written is looked at between two writes. */
static void
test_restarted(void)
{
	reset();
	EQUALS(pending_due(&pending, &rule), INT64_MAX);
	note("a", HINT_CONTENT, 1000, EPOCH_NONE);
	note("b", HINT_CONTENT, 1100, EPOCH_NONE);
	note("a", HINT_CLOSED, 1400, EPOCH_NONE);
	EQUALS(pending_hints(&pending, 1, "a", 1), HINT_CONTENT | HINT_CLOSED);
	EQUALS(pending_due(&pending, &rule), 1600);
	CHECK_EQ_STR(collect(1599), "", "nothing is due before its interval has passed");
	CHECK_EQ_STR(collect(1600), "b ", "an event of one name does not hold another");
	EQUALS(pending_due(&pending, &rule), 1900);
	CHECK_EQ_STR(collect(1899), "", "an event restarts its name's interval");
	CHECK_EQ_STR(collect(1900), "a ", "a quiet name is due");
	CHECK_EQ_STR(collect(9999), "", "a name is taken once");
	EQUALS(pending_hints(&pending, 1, "a", 1), 0);
	EQUALS(pending_due(&pending, &rule), INT64_MAX);
}

/* Fails if a file that is written without end is never looked at. */
static void
test_bounded(void)
{
	int64_t		now;

	reset();
	note("busy", HINT_CONTENT, 1000, EPOCH_NONE);
	for (now = 1100; now < 2500; now += 100)
	{
		note("other", HINT_CONTENT, now, EPOCH_NONE);
		note("busy", HINT_CONTENT, now, EPOCH_NONE);
		if (collect(now)[0] != '\0')
			break;
	}
	EQUALS(now, 2500);
	EQUALS(pending_due(&pending, &rule), 2500);
	CHECK_EQ_STR(collect(2499), "", "debounce_max is counted from the first event");
	CHECK_EQ_STR(collect(2500), "busy ", "debounce_max makes a busy name due");
	EQUALS(pending_due(&pending, &rule), 2600);
	CHECK_EQ_STR(collect(2600), "other ", "and the next one in its turn");

	/* which starts anew with the next event */
	note("busy", HINT_CONTENT, 2700, EPOCH_NONE);
	EQUALS(pending_due(&pending, &rule), 3200);
}

/* Fails if a flush returns before what preceded it was looked at. */
static void
test_epochs(void)
{
	reset();
	EQUALS(pending_min_epoch(&pending), EPOCH_NONE);
	note("a", HINT_CONTENT, 1000, 5);
	note("b", HINT_CONTENT, 1000, 3);
	note("c", HINT_CONTENT, 1000, 4);
	note("n", HINT_CONTENT, 1000, EPOCH_NONE);
	retry("r", HINT_CONTENT, 99999, 3, 0);
	retry("s", HINT_CONTENT, 99999, EPOCH_NONE, 0);
	note("b", HINT_CONTENT, 1010, 9);
	note("a", HINT_CONTENT, 1020, 2);
	EQUALS(pending_min_epoch(&pending), 2);
	rule.flush_epoch = 1;
	CHECK_EQ_STR(collect(1030), "", "a flush takes nothing that came after it");
	rule.flush_epoch = 2;
	CHECK_EQ_STR(collect(1030), "a ", "an earlier epoch replaces a later one");
	EQUALS(pending_min_epoch(&pending), 3);
	rule.flush_epoch = 3;
	CHECK_EQ_STR(collect(1030), "r b ", "a later event does not lift a name's epoch; "
				 "retries are flushed too");
	EQUALS(pending_min_epoch(&pending), 4);
	rule.flush_epoch = 1000;
	CHECK_EQ_STR(collect(1030), "c ", "what no flush waits for stays");
	EQUALS(pending_min_epoch(&pending), EPOCH_NONE);
	rule.flush_epoch = 0;
	CHECK_EQ_STR(collect(1500), "n ", "and becomes due in its own time");
}

/*
 * Fails if half a rename is looked at while the other half may still come, or
 * if a rename's halves are not taken together.
 */
static void
test_moves(void)
{
	reset();
	note("from", HINT_GONE, 1000, 1);
	note("to", HINT_ARRIVED, 1000, 1);
	note("half", HINT_HALF, 1000, 1);
	note("plain", HINT_CONTENT, 1000, 1);
	rule.hold_moves = true;
	rule.flush_epoch = 1;
	rule.moves = true;
	CHECK_EQ_STR(collect(99999), "plain ",
				 "moves that are held wait, whatever the time or the flush");
	EQUALS(pending_due(&pending, &rule), INT64_MAX);
	EQUALS(pending_min_epoch(&pending), 1);
	retry("later", HINT_GONE, 1500, EPOCH_NONE, 0);
	EQUALS(pending_due(&pending, &rule), INT64_MAX);
	CHECK_EQ_STR(collect(99999), "", "a retry of a move is held as well");
	rule.hold_moves = false;
	rule.flush_epoch = 0;
	CHECK_EQ_STR(collect(1001), "from to half ", "a rule can make all moves due");
	rule.moves = false;
	CHECK_EQ_STR(collect(1500), "later ", "but not what is looked at again for a reason of its own");

	/* a name that was only written becomes a move with the event */
	note("x", HINT_CONTENT, 2000, EPOCH_NONE);
	note("y", HINT_CONTENT, 2000, EPOCH_NONE);
	note("x", HINT_ARRIVED, 2001, EPOCH_NONE);
	rule.hold_moves = true;
	CHECK_EQ_STR(collect(2500), "y ", "a name that was moved to is held from then on");
	rule.hold_moves = false;
	EQUALS(pending_due(&pending, &rule), 2501);
	CHECK_EQ_STR(collect(2501), "x ", "and is debounced like any other when not held");

	/* debounce_max of moves */
	note("m", HINT_GONE, 3000, EPOCH_NONE);
	note("k", HINT_GONE, 4400, EPOCH_NONE);
	note("m", HINT_GONE, 4410, EPOCH_NONE);
	CHECK_EQ_STR(collect(4499), "", "neither is due");
	CHECK_EQ_STR(collect(4500), "m ", "debounce_max holds for moves");
}

/* Fails if a file that could not be read is tried without pause, or never. */
static void
test_retries(void)
{
	PendingName *p;

	reset();
	p = retry("a", HINT_CONTENT, 5000, EPOCH_NONE, 7);
	p->retries = 3;
	retry("b", HINT_CONTENT, 3000, EPOCH_NONE, 0)->retries = 2;
	EQUALS(pending_due(&pending, &rule), 3000);
	CHECK_EQ_STR(collect(2999), "", "a retry waits for its time");
	CHECK(pending_has_scan(&pending, 7), "the scan that waits for a retry is known");
	CHECK(!pending_has_scan(&pending, 8), "no other scan waits");

	/* an event keeps what the retry knows */
	p = note("a", HINT_CLOSED, 3000, 12);
	EQUALS(p->retries, 3);
	EQUALS(p->scan_id, 7);
	EQUALS(p->due_us, 5000);
	EQUALS(p->epoch, 12);
	EQUALS(p->hints, HINT_CONTENT | HINT_CLOSED);
	CHECK_EQ_STR(collect(3000), "b ", "in order of time, not of asking");
	CHECK_EQ_STR(collect(4999), "", "an event does not hasten a retry");
	EQUALS(retry("a", 0, 6000, 11, 0)->scan_id, 7);
	CHECK_EQ_STR(collect(5999), "", "a retry can be put off");
	CHECK_EQ_STR(collect(6000), "a ", "and comes");
	CHECK(!pending_has_scan(&pending, 7), "a scan does not wait for what was taken");

	/* a name that waits for its debounce becomes a retry */
	note("c", HINT_CONTENT, 7000, EPOCH_NONE);
	retry("c", 0, 9000, EPOCH_NONE, 0);
	CHECK_EQ_STR(collect(8999), "", "a retry is not debounced");
	CHECK_EQ_STR(collect(9000), "c ", "but has its own time");
	retry("now", 0, 0, EPOCH_NONE, 0);
	CHECK_EQ_STR(collect(1), "now ", "a retry without delay is due");

	/* a flush wants one more attempt of what was given up, as of its epoch */
	retry("d", HINT_CONTENT, 20000, EPOCH_NONE, 0)->retries = 5;
	retry("e", HINT_CONTENT, 20000, EPOCH_NONE, 3)->retries = 5;
	p = retry("f", HINT_CONTENT, 20000, 2, 0);
	p->retries = 5;
	pending_renew(&pending, 4);
	EQUALS(p->retries, 0);
	EQUALS(p->epoch, 2);
	rule.flush_epoch = 3;
	CHECK_EQ_STR(collect(10000), "f ", "what has an epoch keeps it");
	rule.flush_epoch = 4;
	CHECK_EQ_STR(collect(10000), "d ", "a flush waits for what was given up, not for a scan's");
}

/* Fails if a change of a name's own passes for one of another name, which tells
 * nobody. */
static void
test_other_names(void)
{
	reset();
	pending_retry(&pending, 0, "a/b", 3, HINT_LINK | HINT_CONTENT, 1, 0, 1, 0);
	EQUALS(pending_hints(&pending, 0, "a/b", 3), HINT_LINK | HINT_CONTENT);
	pending_note(&pending, 0, "a/b", 3, HINT_CLOSED, 5, 1);
	EQUALS(pending_hints(&pending, 0, "a/b", 3), HINT_CONTENT | HINT_CLOSED);
	pending_retry(&pending, 0, "a/b", 3, HINT_LINK, 1, 0, 1, 0);
	EQUALS(pending_hints(&pending, 0, "a/b", 3), HINT_CONTENT | HINT_CLOSED);
	pending_note(&pending, 0, "c", 1, 0, 5, 1);
	pending_retry(&pending, 0, "c", 1, HINT_LINK, 1, 0, 1, 0);
	EQUALS(pending_hints(&pending, 0, "c", 1), 0);
}

/* Fails if a limit or a refusal loses names, or offers one twice at once. */
static void
test_limits(void)
{
	reset();
	note("a", HINT_CONTENT, 1000, EPOCH_NONE);
	note("b", HINT_CONTENT, 1001, EPOCH_NONE);
	note("c", HINT_GONE, 1002, EPOCH_NONE);
	note("d", HINT_GONE, 1003, EPOCH_NONE);
	retry("e", 0, 900, EPOCH_NONE, 0);
	refused = "a";
	CHECK_EQ_STR(collect_max(2000, 0), "", "none when none is wanted");
	CHECK_EQ_STR(collect_max(2000, 2), "e b ", "a refused name does not stop the others");
	CHECK_EQ_STR(collect_max(2000, 1), "c ", "the limit is for all lists together");
	refused = NULL;
	CHECK_EQ_STR(collect(2000), "a d ", "what was refused is offered again");

	/* the same name in two directories, and one that begins like another */
	note("x", HINT_CONTENT, 3000, EPOCH_NONE);
	FILES_MUST(pending_note(&pending, 2, "x", 1, HINT_META, 3001, EPOCH_NONE) != NULL);
	FILES_MUST(pending_note(&pending, 1, "xy", 2, HINT_LINK, 3002, EPOCH_NONE) != NULL);
	EQUALS(pending_hints(&pending, 1, "x", 1), HINT_CONTENT);
	EQUALS(pending_hints(&pending, 2, "x", 1), HINT_META);
	EQUALS(pending_hints(&pending, 1, "xy", 2), HINT_LINK);
	EQUALS(pending_hints(&pending, 3, "x", 1), 0);
	CHECK_EQ_STR(collect(4000), "x x xy ", "a name is known by its directory and all its bytes");
}

/* ---------------------------------------------------------------------
 * Against a model
 * ---------------------------------------------------------------------
 */

#define NAMES				12

typedef struct Model
{
	bool		waits;
	int64_t		first_us;
	int64_t		last_us;
	int64_t		due_us;
	uint64_t	epoch;
	unsigned	hints;
} Model;

static Model model[NAMES];
static bool offered[NAMES];

static bool
offer(void *arg, const PendingName *p)
{
	(void) arg;
	offered[p->name[0] - 'a'] = true;
	return true;
}

static bool
model_due(const Model *m)
{
	bool		moved = (m->hints & HINT_MOVES) != 0;

	if (!m->waits || (moved && rule.hold_moves))
		return false;
	return m->epoch <= rule.flush_epoch || (moved && rule.moves && m->last_us > 0) ||
		(m->due_us > 0 ? m->due_us <= rule.now_us :
		 m->last_us + DEBOUNCE <= rule.now_us || m->first_us + DEBOUNCE_MAX <= rule.now_us);
}

/* Fails if who waits for the end of a rename does not learn of an older one. */
static void
test_news(void)
{
	pending.news = 5;
	note("plain", HINT_CONTENT, 1, EPOCH_NONE);
	CHECK(pending_min_news(&pending) == UINT64_MAX, "what was not renamed is no news");
	note("moved", HINT_ARRIVED, 1, EPOCH_NONE);
	pending.news = 7;
	note("moved", HINT_GONE, 2, EPOCH_NONE);
	note("later", HINT_GONE, 2, EPOCH_NONE);
	CHECK_EQ_INT(pending_min_news(&pending), 5, "a name keeps its oldest news");
	retry("hashed", HINT_HALF, 100, EPOCH_NONE, 0);
	CHECK_EQ_INT(pending_min_news(&pending), 5, "one that is looked at again is no news");
	pending_clear(&pending);
	CHECK_EQ_INT(pending.news, 7, "their number goes on");
}

/*
 * Fails if in some order of events, rules and times a name is taken too early
 * or too late, or the engine would sleep past a name or not sleep at all.
 */
static void
test_random(void)
{
	static const unsigned hints[] = {HINT_CONTENT, HINT_CLOSED, HINT_GONE, HINT_ARRIVED, HINT_HALF};
	int64_t		now = 1000;
	size_t		wrong = 0;
	size_t		overslept = 0;
	size_t		restless = 0;
	size_t		n_taken = 0;

	reset();
	for (int round = 0; round < 100000; round++)
	{
		size_t		i = unit_below(NAMES);
		char		name[2] = {(char) ('a' + i), '\0'};
		unsigned	hint = hints[unit_below(5)];
		uint64_t	epoch = unit_below(3) ? EPOCH_NONE : 1 + unit_below(20);
		Model	   *m = &model[i];
		int64_t		next = INT64_MAX;

		now += (int64_t) unit_below(120);
		if (unit_below(10) < 8)
		{
			note(name, hint, now, epoch);
			if (!m->waits)
				*m = (Model) {.waits = true, .epoch = EPOCH_NONE};
			if (m->last_us == 0)
				m->first_us = now;
			m->last_us = now;
		}
		else
		{
			int64_t		due = now + (int64_t) unit_below(2000);

			retry(name, hint, due, epoch, 0);
			if (!m->waits)
				*m = (Model) {.waits = true, .epoch = EPOCH_NONE};
			m->due_us = due;
		}
		m->hints |= hint;
		m->epoch = epoch < m->epoch ? epoch : m->epoch;
		if (unit_below(3) > 0)
			continue;

		rule.now_us = now;
		rule.hold_moves = unit_below(3) == 0;
		rule.moves = unit_below(3) == 0;
		rule.flush_epoch = unit_below(3) ? 0 : unit_below(20);
		memset(offered, 0, sizeof(offered));
		pending_collect(&pending, &rule, SIZE_MAX, offer, NULL);
		for (i = 0; i < NAMES; i++)
		{
			wrong += offered[i] != model_due(&model[i]);
			n_taken += offered[i];
			if (offered[i])
				model[i].waits = false;
		}

		/* asleep until then */
		for (i = 0; i < NAMES; i++)
		{
			int64_t		at = model[i].last_us + DEBOUNCE;

			if (!model[i].waits || ((model[i].hints & HINT_MOVES) && rule.hold_moves))
				continue;
			if (model[i].first_us + DEBOUNCE_MAX < at)
				at = model[i].first_us + DEBOUNCE_MAX;
			if (model[i].due_us > 0)
				at = model[i].due_us;
			next = at < next ? at : next;
		}
		overslept += pending_due(&pending, &rule) > next;
		restless += pending_due(&pending, &rule) <= now;
	}
	EQUALS(wrong, 0);
	EQUALS(overslept, 0);
	EQUALS(restless, 0);
	HOLDS(n_taken > 10000);
}

/*
 * Fails if a flush is answered while something is put off for want of anything,
 * or has it tried again without a pause.
 */
static void
test_starved(void)
{
	reset();
	FILES_MUST(pending_starve(&pending, 1, "a", 1, HINT_CONTENT, 2000, 0, 3, 0) != NULL);
	FILES_MUST(pending_starve(&pending, 1, "scan", 4, HINT_FOUND, 2000, 0, EPOCH_NONE, 0) != NULL);
	EQUALS(pending.starved, 2);
	EQUALS(pending_min_epoch(&pending), 3);
	EQUALS(pending_due(&pending, &rule), 2000);
	rule.flush_epoch = 5;
	CHECK_EQ_STR(collect(1999), "", "a flush does not have it tried before its time");
	pending_renew(&pending, 4);
	EQUALS(pending_min_epoch(&pending), 3);
	note("a", HINT_CLOSED, 1500, 5);
	CHECK_EQ_STR(collect(1999), "", "nor does an event");
	FILES_MUST(pending_starve(&pending, 1, "a", 1, 0, 2500, 0, EPOCH_NONE, 0) != NULL);
	EQUALS(pending.starved, 2);
	EQUALS(pending_min_epoch(&pending), 3);
	CHECK_EQ_STR(collect(2000), "scan ", "it is tried when it is time");
	EQUALS(pending_min_epoch(&pending), 3);
	CHECK_EQ_STR(collect(2500), "a ", "and each for itself");
	EQUALS(pending.starved, 0);
	EQUALS(pending_min_epoch(&pending), EPOCH_NONE);
	HOLDS(!pending.lost);
}

/*
 * Fails if a file of which only the ctime moved is taken before others, more of
 * them than there is room for, or twice; or if something is forgotten of it.
 */
static void
test_low(void)
{
	reset();
	FILES_MUST(pending_low(&pending, 1, "l1", 2, HINT_META, 7, 3, 0) != NULL);
	FILES_MUST(pending_low(&pending, 1, "l2", 2, HINT_FOUND, 0, EPOCH_NONE, 9) != NULL);
	FILES_MUST(pending_low(&pending, 1, "l3", 2, HINT_META, 0, 5, 0) != NULL);
	EQUALS(pending.n_low, 3);
	EQUALS(pending_due(&pending, &rule), INT64_MAX);
	CHECK_EQ_STR(collect(1000), "", "there is no room for them");
	EQUALS(pending_min_epoch(&pending), 3);
	CHECK(pending_has_scan(&pending, 9), "a scan waits for one");
	HOLDS(pending_hints(&pending, 1, "l1", 2) == (HINT_META | HINT_UNREAD));
	rule.flush_epoch = 10;
	CHECK_EQ_STR(collect(1000), "", "whoever waits for them");
	rule.flush_epoch = 0;

	/* another chmod, a write, a rename: as any event */
	note("l3", HINT_META, 1000, 6);
	EQUALS(pending.n_low, 2);
	EQUALS(pending_min_epoch(&pending), 3);
	CHECK_EQ_STR(collect(1000 + DEBOUNCE), "l3 ", "an event takes it out of the list");
	note("l1", HINT_CONTENT, 2000, 6);
	FILES_MUST(pending_low(&pending, 1, "l1", 2, HINT_META, 0, 6, 0) != NULL);
	EQUALS(pending.n_low, 1);
	CHECK_EQ_STR(collect(2000 + DEBOUNCE), "l1 ", "what was written is not low");

	FILES_MUST(pending_low(&pending, 1, "l4", 2, HINT_META, 0, 6, 0) != NULL);
	note("new", HINT_CONTENT, 3000, 6);
	rule.low = 1;
	rule.now_us = 4000;
	EQUALS(pending_due(&pending, &rule), 4000);
	CHECK_EQ_STR(collect(3000 + DEBOUNCE), "new l2 ", "others first, then as many as there is room for");
	CHECK_EQ_STR(collect(3000 + DEBOUNCE), "l4 ", "and the next");
	EQUALS(pending.n_low, 0);
	EQUALS(pending_due(&pending, &rule), INT64_MAX);

	/* a scan that is cancelled leaves it to the next barrier */
	FILES_MUST(pending_low(&pending, 1, "l5", 2, HINT_FOUND, 0, EPOCH_NONE, 9) != NULL);
	pending_drop_scan(&pending, 9);
	CHECK(!pending_has_scan(&pending, 9), "no scan waits any more");
	pending_renew(&pending, 12);
	EQUALS(pending_min_epoch(&pending), 12);
	CHECK(pending_has_name(&pending, "l5", 2), "its name is known");
	pending_clear(&pending);
	EQUALS(pending.n_low, 0);
	HOLDS(!pending.lost);
}

int
main(void)
{
	pending_init(&pending);
	test_restarted();
	test_bounded();
	test_epochs();
	test_moves();
	test_retries();
	test_other_names();
	test_limits();
	test_starved();
	test_low();
	test_news();
	test_random();
	pending_clear(&pending);
	return unit_done();
}
