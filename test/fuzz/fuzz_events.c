/*-------------------------------------------------------------------------
 *
 * fuzz_events.c
 *		Any bytes as what was read from inotify: names stay in their buffer,
 *		and what is left over is known to be lost.
 *
 * The first byte says where the input is divided into two reads.
 *
 *-------------------------------------------------------------------------
 */
#include "events.h"

#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* From memory of exactly this size. */
static void
decode(EventBatch *batch, const uint8_t *data, size_t size)
{
	char	   *copy = malloc(size ? size : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, data, size);
	events_decode(batch, copy, size);
	free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	EventBatch	batch = {0};
	size_t		first;
	size_t		end = 0;

	if (size == 0)
		return 0;
	first = data[0] * sizeof(struct inotify_event);
	data++;
	size--;
	if (first > size)
		first = size;
	decode(&batch, data, first);
	if (!batch.lost && batch.count * sizeof(struct inotify_event) > first)
		abort();
	decode(&batch, data + first, size - first);
	if (batch.count > batch.capacity || batch.names_len > batch.names_capacity)
		abort();
	for (size_t i = 0; i < batch.count; i++)
	{
		const Event *e = &batch.events[i];

		/* one behind the other, each with its terminator and no other */
		if (e->name != end || e->name_len >= batch.names_len - e->name ||
			strlen(batch.names + e->name) != e->name_len)
			abort();
		end = e->name + e->name_len + 1;
	}
	if (end != batch.names_len)
		abort();
	events_batch_free(&batch);
	return 0;
}
