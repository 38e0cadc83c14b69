/*-------------------------------------------------------------------------
 *
 * apply_arrays.c
 *		Sets of observations as arrays, for the statements of apply_rows.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "apply_arrays.h"

static Datum
int8_array(Datum *elements, bool *nulls, int n)
{
	int			dims[1] = {n};
	int			lbs[1] = {1};

	return PointerGetDatum(construct_md_array(elements, nulls, 1, dims, lbs, INT8OID,
											  sizeof(int64), FLOAT8PASSBYVAL,
											  TYPALIGN_DOUBLE));
}

Datum
apply_ordinals(int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		elements[i] = Int32GetDatum(i);
	return PointerGetDatum(construct_array(elements, n, INT4OID, sizeof(int32), true,
										   TYPALIGN_INT));
}

Datum
apply_ids(ApplyItem **items, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(items[i]->obs.id);
	return int8_array(elements, NULL, n);
}

static Datum
text_of(ProtoStr s)
{
	return PointerGetDatum(cstring_to_text_with_len(s.data, s.len));
}

static Datum
text_array(Datum *elements, int n)
{
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

Datum
apply_paths(ApplyItem **items, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		elements[i] = text_of(items[i]->obs.path);
	return text_array(elements, n);
}

Datum
apply_gone_words(ApplyItem **items, int n)
{
	static const char *const words[] = {
		[PROTO_GONE_ABSENT] = "missing",
		[PROTO_GONE_TYPE] = "type change",
		[PROTO_GONE_EXCLUDED] = "excluded",
	};
	Datum	   *elements = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		elements[i] = CStringGetTextDatum(words[items[i]->obs.gone]);
	return text_array(elements, n);
}

Datum
apply_old_paths(ApplyItem **items, int n, bool aside)
{
	Datum	   *elements = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
	{
		if (aside && items[i]->vacate)
			elements[i] = CStringGetTextDatum(psprintf("/" INT64_FORMAT,
													   items[i]->obs.id));
		else
			elements[i] = text_of(items[i]->obs.old_path);
	}
	return text_array(elements, n);
}

/* File systems store times that the type does not reach. */
Datum
apply_mod_time(const ProtoStat *st)
{
	const int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	const int64 end = END_TIMESTAMP / USECS_PER_SEC + epoch;
	const int64 begin = MIN_TIMESTAMP / USECS_PER_SEC + epoch;
	TimestampTz t;

	if (st->mtime_sec >= end)
		TIMESTAMP_NOEND(t);
	else if (st->mtime_sec < begin)
		TIMESTAMP_NOBEGIN(t);
	else
		t = (st->mtime_sec - epoch) * USECS_PER_SEC + st->mtime_nsec / 1000;
	return TimestampTzGetDatum(t);
}

Datum
apply_last_scanned(const ProtoObservation *obs, TimestampTz now)
{
	const int64 epoch_us = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	if (!obs->has_hash || obs->hashed_us < MIN_TIMESTAMP + epoch_us ||
		obs->hashed_us > now + epoch_us)
		return TimestampTzGetDatum(now);
	return TimestampTzGetDatum(obs->hashed_us - epoch_us);
}

static Datum
time_array(Datum *elements, int n)
{
	return PointerGetDatum(construct_array(elements, n, TIMESTAMPTZOID,
										   sizeof(int64), FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

Datum
apply_hash(const ProtoObservation *obs)
{
	bytea	   *hash = palloc(VARHDRSZ + PROTO_HASH_LEN);

	SET_VARSIZE(hash, VARHDRSZ + PROTO_HASH_LEN);
	memcpy(VARDATA(hash), obs->hash, PROTO_HASH_LEN);
	return PointerGetDatum(hash);
}

static Datum
hashes(ApplyItem **items, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * n);
	bool	   *nulls = palloc0(sizeof(bool) * n);
	int			dims[1] = {n};
	int			lbs[1] = {1};

	for (int i = 0; i < n; i++)
	{
		nulls[i] = !items[i]->obs.has_hash;
		if (!nulls[i])
			elements[i] = apply_hash(&items[i]->obs);
	}
	return PointerGetDatum(construct_md_array(elements, nulls, 1, dims, lbs, BYTEAOID,
											  -1, false, TYPALIGN_INT));
}

void
apply_stat_columns(Datum *values, ApplyItem **items, int n, TimestampTz now)
{
	Datum	   *sizes = palloc(sizeof(Datum) * n);
	Datum	   *mod_times = palloc(sizeof(Datum) * n);
	Datum	   *scanned = palloc(sizeof(Datum) * n);
	Datum	   *inodes = palloc(sizeof(Datum) * n);
	Datum	   *mtimes = palloc(sizeof(Datum) * n);
	Datum	   *ctimes = palloc(sizeof(Datum) * n);
	Datum	   *btimes = palloc(sizeof(Datum) * n);
	bool	   *no_btime = palloc(sizeof(bool) * n);

	for (int i = 0; i < n; i++)
	{
		const ProtoStat *st = &items[i]->obs.stat;

		sizes[i] = Int64GetDatum(st->size);
		mod_times[i] = apply_mod_time(st);
		scanned[i] = apply_last_scanned(&items[i]->obs, now);
		inodes[i] = Int64GetDatum(st->inode);
		mtimes[i] = Int64GetDatum(st->mtime_ns);
		ctimes[i] = Int64GetDatum(st->ctime_ns);
		btimes[i] = Int64GetDatum(st->btime_ns);
		no_btime[i] = st->btime_ns == PROTO_NO_TIME;
	}
	values[0] = apply_paths(items, n);
	values[1] = int8_array(sizes, NULL, n);
	values[2] = time_array(mod_times, n);
	values[3] = hashes(items, n);
	values[4] = time_array(scanned, n);
	values[5] = int8_array(inodes, NULL, n);
	values[6] = int8_array(mtimes, NULL, n);
	values[7] = int8_array(ctimes, NULL, n);
	values[8] = int8_array(btimes, no_btime, n);
}
