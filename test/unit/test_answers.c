/*-------------------------------------------------------------------------
 *
 * test_answers.c
 *		What fsync-tree says to a session about a whole tree: it arrives as it was
 *		sent, and nothing else is taken.
 *
 *-------------------------------------------------------------------------
 */
#include "unit.h"

#include "answers.h"

#include <stdlib.h>

#define TEXT(s) {s, (uint32_t) (sizeof(s) - 1)}

static ProtoBuf buf;

static void
begin(char type)
{
	proto_buf_free(&buf);
	proto_buf_init(&buf);
	proto_begin(&buf, (ProtoType) type);
}

/* The body of the one frame. */
static ProtoReader
body(void)
{
	ProtoReader r = {0};
	uint8_t		type;

	proto_end(&buf);
	if (proto_next(&buf, &type, &r) != 1)
		abort();
	return r;
}

static bool
preview_passes(const AnswerPreview *m)
{
	AnswerPreview got;
	ProtoReader r;

	begin(ANSWER_PREVIEW);
	answer_put_preview(&buf, m);
	r = body();
	return answer_get_preview(&r, &got);
}

static bool
ignored_passes(const AnswerIgnored *m)
{
	AnswerIgnored got;
	ProtoReader r;

	begin(ANSWER_IGNORED);
	answer_put_ignored(&buf, m);
	r = body();
	return answer_get_ignored(&r, &got);
}

static ProtoStr
list(ProtoBuf *to, int n, int len)
{
	char		path[PROTO_PATH_MAX + 2];
	ProtoStr	s;

	memset(path, 'x', sizeof(path));
	proto_buf_init(to);
	for (int i = 0; i < n; i++)
		proto_put_str(to, path, (size_t) len);
	s.data = to->data;
	s.len = (uint32_t) to->len;
	return s;
}

static void
test_good(void)
{
	ProtoBuf	paths;
	AnswerPreview preview = {{ANSWER_TIMED_OUT, 0, 3}, 5, 7, {NULL, 0}, {NULL, 0}};
	AnswerPreview got_preview;
	AnswerIgnored ignored = {true, TEXT("a\xff\n"), TEXT("exclude"), TEXT("*"), TEXT("d/.fsyncignore"),
	TEXT("why")};
	AnswerIgnored got_ignored;
	AnswerEnd	end = {ANSWER_NO_ROOT, 2, 0};
	AnswerEnd	got_end;
	ProtoReader r;

	preview.first_added = list(&paths, 100, PROTO_PATH_MAX);
	begin(ANSWER_PREVIEW);
	answer_put_preview(&buf, &preview);
	r = body();
	CHECK(answer_get_preview(&r, &got_preview) && got_preview.added == 5 &&
		  got_preview.removed == 7 && got_preview.end.result == ANSWER_TIMED_OUT &&
		  got_preview.end.unreadable == 3 && got_preview.first_added.len == preview.first_added.len &&
		  got_preview.first_removed.len == 0, "a preview arrives");
	proto_buf_free(&paths);

	begin(ANSWER_IGNORED);
	answer_put_ignored(&buf, &ignored);
	r = body();
	CHECK(answer_get_ignored(&r, &got_ignored) && got_ignored.directory &&
		  got_ignored.path.len == 3 && memcmp(got_ignored.path.data, "a\xff\n", 3) == 0 &&
		  got_ignored.detail.len == 3, "what is ignored arrives");

	begin(ANSWER_END);
	answer_put_end(&buf, &end);
	r = body();
	CHECK(answer_get_end(&r, &got_end) && got_end.result == ANSWER_NO_ROOT && got_end.error == 2,
		  "an end arrives");
}

static void
test_bad(void)
{
	static char long_text[8 * 1024 + 1];
	ProtoBuf	paths;
	AnswerPreview preview = {{ANSWER_COMPLETE, 0, 0}, 0, 0, {NULL, 0}, {NULL, 0}};
	AnswerIgnored ignored = {false, TEXT("a"), TEXT("type"), {NULL, 0}, {NULL, 0}, {NULL, 0}};
	ProtoStr	zero = TEXT("a\0b");
	ProtoStr	too_long = {long_text, sizeof(long_text)};

	memset(long_text, 'x', sizeof(long_text));
	CHECK(preview_passes(&preview), "an empty preview");
	preview.added = -1;
	CHECK(!preview_passes(&preview), "a negative number is refused");
	preview.added = 0;
	preview.end.result = ANSWER_OTHER_ROOT + 1;
	CHECK(!preview_passes(&preview), "a result that there is not is refused");
	preview.end.result = ANSWER_COMPLETE;
	preview.first_added = list(&paths, ANSWER_MAX_PATHS + 1, 1);
	CHECK(!preview_passes(&preview), "too many paths are refused");
	proto_buf_free(&paths);
	preview.first_added = list(&paths, 1, PROTO_PATH_MAX + 1);
	CHECK(!preview_passes(&preview), "a path that is too long is refused");
	proto_buf_free(&paths);
	preview.first_added = list(&paths, 1, 0);
	CHECK(!preview_passes(&preview), "an empty path is refused");
	preview.first_added.len--;
	CHECK(!preview_passes(&preview), "a list that ends early is refused");
	proto_buf_free(&paths);

	CHECK(ignored_passes(&ignored), "an entry");
	ignored.path = zero;
	CHECK(!ignored_passes(&ignored), "a zero byte in a path is refused");
	ignored.path.len = 0;
	CHECK(!ignored_passes(&ignored), "no path is refused");
	ignored.path.len = 1;
	ignored.rule = too_long;
	CHECK(!ignored_passes(&ignored), "a rule that is too long is refused");
}

/* Each frame cut short, and with each byte changed: never more than a refusal. */
static void
test_damaged(void)
{
	AnswerIgnored ignored = {true, TEXT("some/path"), TEXT("exclude"), TEXT("path"), {NULL, 0}, {NULL, 0}};
	AnswerIgnored got;
	ProtoReader r;
	char		copy[256];
	size_t		len;
	int			taken = 0;

	begin(ANSWER_IGNORED);
	answer_put_ignored(&buf, &ignored);
	r = body();
	len = (size_t) (r.end - r.p);
	memcpy(copy, r.p, len);
	for (size_t cut = 0; cut < len; cut++)
	{
		ProtoReader part = proto_reader(copy, cut);

		taken += answer_get_ignored(&part, &got);
	}
	CHECK_EQ_INT(taken, 0, "what is cut short is refused");
	for (size_t i = 0; i < len * 256; i++)
	{
		char		was = copy[i / 256];
		ProtoReader part;

		copy[i / 256] = (char) i;
		part = proto_reader(copy, len);
		if (answer_get_ignored(&part, &got))
			taken += (int) got.path.len;
		copy[i / 256] = was;
	}
	CHECK(taken > 0, "changed bytes are read within their bounds");
}

int
main(void)
{
	proto_buf_init(&buf);
	test_good();
	test_bad();
	test_damaged();
	proto_buf_free(&buf);
	return unit_done();
}
