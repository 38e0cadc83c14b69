/*-------------------------------------------------------------------------
 *
 * test_halves.c
 *		Ends of renames that wait are found by their files, and in order.
 *
 *-------------------------------------------------------------------------
 */
#include "halves.h"
#include "pending.h"
#include "protocol.h"
#include "unit.h"

static Halves halves;

static Half *
add(uint64_t node, const char *name, int64_t left, int64_t came, uint64_t news)
{
	HalfFile	files[HALF_KINDS] = {{left, 1, 2, 3}, {came, 1, 2, 3}};
	const HalfFile *const ends[HALF_KINDS] = {
		left ? &files[HALF_LEFT] : NULL, came ? &files[HALF_CAME] : NULL
	};

	return halves_add(&halves, node, name, strlen(name), ends, news);
}

static Half *
find(HalfKind kind, int64_t inode)
{
	HalfFile	file = {inode, 1, 2, 3};

	return halves_find(&halves, kind, &file);
}

static void
test_finding(void)
{
	Half	   *a = add(0, "d/a", 10, 0, 1);
	Half	   *b = add(7, "b", 0, 11, 1);
	Half	   *both = add(7, "c", 12, 13, 2);
	HalfFile	unborn = {20, PROTO_NO_TIME, 2, 3};
	HalfFile	other = {20, PROTO_NO_TIME, 2, 4};
	HalfFile	reused = {10, 9, 2, 3};

	CHECK(find(HALF_LEFT, 10) == a && find(HALF_CAME, 10) == NULL, "a row's file that left");
	CHECK(find(HALF_CAME, 11) == b && find(HALF_LEFT, 11) == NULL, "a file that came");
	CHECK(find(HALF_LEFT, 12) == both && find(HALF_CAME, 13) == both, "a name that is both ends");
	CHECK(halves_find(&halves, HALF_LEFT, &reused) == NULL, "another file has the inode number");
	CHECK(!halves_same_file(&unborn, &other) && halves_same_file(&unborn, &unborn),
		  "without a birth time size and mtime count");
	CHECK(halves_of_name(&halves, 7, "b", 1) == b && halves_of_name(&halves, 8, "b", 1) == NULL,
		  "a name is one of its directory");
	CHECK(halves_has_name(&halves, "a", 1) && !halves_has_name(&halves, "x", 1),
		  "the last part of a path is a name");

	b->epoch = 5;
	b->scan_id = 3;
	CHECK(add(7, "b", 0, 14, 3) == b && find(HALF_CAME, 11) == NULL && find(HALF_CAME, 14) == b,
		  "a name that waits again has the file of now");
	CHECK(b->epoch == 5 && b->scan_id == 3, "and who waited for it still does");
	CHECK_EQ_INT(halves_min_epoch(&halves), 5, "the oldest epoch");
	CHECK(halves_has_scan(&halves, 3) && !halves_has_scan(&halves, 4), "the scan waits");
	halves_drop_scan(&halves, 3);
	CHECK(!halves_has_scan(&halves, 3), "until it is dropped");
	halves_clear(&halves);
	CHECK(halves.waiting.first == NULL && halves_min_epoch(&halves) == EPOCH_NONE, "all are gone");
}

static void
test_meeting(void)
{
	Half	   *a = add(0, "a", 10, 0, 1);
	Half	   *b = add(0, "b", 0, 10, 2);
	Half	   *link = add(0, "link", 0, 10, 2);

	halves_meet(&halves, a, b);
	CHECK(halves.met.first == a && a->next == b && halves.waiting.first == link,
		  "two that met are taken first");
	CHECK(find(HALF_LEFT, 10) == NULL && find(HALF_CAME, 10) == link,
		  "what has met is no other name's end");
	halves_remove(&halves, a);
	CHECK(halves.met.first == b && b->partner == NULL, "one whose partner went is taken all the same");
	add(0, "b", 0, 10, 3);
	CHECK(halves.met.first == NULL && halves.waiting.last == b, "and waits anew");
	halves_clear(&halves);
}

static void
test_order(void)
{
	Half	   *a = add(0, "a", 10, 0, 1);
	Half	   *b = add(0, "b", 11, 0, 2);
	HalfFile	file = {10, 1, 2, 3};

	CHECK(halves.waiting.first == a && a->next == b, "in order of news");
	halves_renew(&halves, HALF_CAME, &file, 3);
	CHECK(halves.waiting.first == a && a->news == 1, "news of another end are none");
	halves_renew(&halves, HALF_LEFT, &file, 3);
	CHECK(halves.waiting.first == b && b->next == a && a->news == 3, "who has to wait anew goes last");
	halves_clear(&halves);
}

/*
 * A file has as many names as somebody likes to give it: half a million take a
 * moment; were each of them compared with all others, it would be hours.
 */
static void
test_many_names(void)
{
	enum {MANY = 500000};
	HalfFile	file = {10, 1, 2, 3};
	char		name[16];
	Half	   *last = NULL;

	for (int i = 0; i < MANY; i++)
	{
		snprintf(name, sizeof(name), "%d", i);
		last = add(0, name, 10, 0, 2);
		if (i % 2 == 0)
			halves_meet(&halves, last, add(0, strcat(name, "b"), 0, 10, 2));
		halves_renew(&halves, HALF_LEFT, &file, 2);
		if (find(HALF_LEFT, 10) == NULL && i > 0)
			break;
	}
	CHECK(last != NULL && find(HALF_LEFT, 10) == last, "the one without a partner is found");
	while (halves.met.first != NULL)
		halves_remove(&halves, halves.met.first);
	while (halves.waiting.first != NULL)
		halves_remove(&halves, halves.waiting.first);
	CHECK(find(HALF_LEFT, 10) == NULL && find(HALF_CAME, 10) == NULL, "all are gone");
}

int
main(void)
{
	halves_init(&halves);
	test_finding();
	test_meeting();
	test_order();
	test_many_names();
	return unit_done();
}
