/*-------------------------------------------------------------------------
 *
 * dependents.c
 *		Rows of other tables that go with rows of the extension's.
 *
 * A foreign key with ON DELETE CASCADE takes rows of an application along, and
 * theirs may take more.  So the foreign keys are followed here as a removal
 * would follow them: from the rows of one table, by the values of the columns
 * that a key refers to, to the rows of the next, each of which counts once, by
 * whatever way and however often it is met.
 *
 * A query on a table can run code of the table's owner: casts to the type of
 * the referenced column, functions in the predicate of an index.  Therefore
 * each one reads one table only, and runs as the owner of that table, as the
 * queries of foreign keys themselves do: nobody's code runs as somebody who
 * only wants to know.  That is also why a partition's rows are read once more
 * for what refers to them, by their ctid, and never joined.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/attnum.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/itemptr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "compat.h"
#include "dependents.h"

/* Rows that are counted one by one; beyond that it is "at least". */
#define MAX_ROWS			1000000
#define FETCH_ROWS			10000

/* The longest wait for a table that somebody has locked. */
#define LOCK_WAIT			"500ms"

/* Tables that are named; of more there is only their number. */
#define MAX_NAMED			20

/* A foreign key. */
typedef struct Link
{
	Oid			from;			/* the table that refers */
	Oid			to;				/* the one that is referred to */
	char		action;			/* confdeltype */
	int			n;
	AttrNumber *from_columns;
	AttrNumber *to_columns;
	Oid		   *operators;		/* to = from */
} Link;

typedef enum Effect
{
	EFFECT_KEEPS,				/* what it refers to cannot be removed */
	EFFECT_CHANGED,				/* its reference is cleared */
	EFFECT_REMOVED,
	EFFECTS
} Effect;

/* What is known of a table that refers. */
typedef struct TableCount
{
	Oid			relid;
	int64		rows[EFFECTS];
} TableCount;

typedef struct RowKey
{
	Oid			relid;			/* a partition, not the table above it */
	ItemPointerData tid;
} RowKey;

typedef struct RowEntry
{
	RowKey		key;			/* zero bytes between its fields */
	Effect		effect;
	int			table;			/* in Count.tables */
} RowEntry;

/* Rows whose dependents are to be found. */
typedef struct Pending
{
	Oid			relid;
	const char *condition;
	Oid			type;
	Datum		value;
	bool		root;
} Pending;

typedef struct Count
{
	MemoryContext context;
	List	   *pending;		/* Pending * */
	HTAB	   *rows;			/* RowEntry */
	TableCount *tables;
	int			n_tables;
	int64		total;
	bool		cut;			/* there are more */
} Count;

/* The new rows of one leaf. */
typedef struct LeafRows
{
	Oid			relid;
	Datum	   *tids;
	int			n;
	int			room;
} LeafRows;

/* ---------------------------------------------------------------------
 * Foreign keys
 * ---------------------------------------------------------------------
 */

static AttrNumber *
copy_attnums(Datum array, int *n)
{
	Datum	   *elements;
	bool	   *nulls;
	AttrNumber *result;

	deconstruct_array(DatumGetArrayTypeP(array), INT2OID, sizeof(int16), true, TYPALIGN_SHORT,
					  &elements, &nulls, n);
	result = palloc(sizeof(AttrNumber) * *n);
	for (int i = 0; i < *n; i++)
		result[i] = DatumGetInt16(elements[i]);
	return result;
}

static Oid *
copy_oids(Datum array)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	Oid		   *result;

	deconstruct_array(DatumGetArrayTypeP(array), OIDOID, sizeof(Oid), true, TYPALIGN_INT,
					  &elements, &nulls, &n);
	result = palloc(sizeof(Oid) * n);
	for (int i = 0; i < n; i++)
		result[i] = DatumGetObjectId(elements[i]);
	return result;
}

/*
 * The foreign keys that refer to a table, or to one that it is a partition of.
 * Those of the partitions of a table that refers say the same again.
 */
static List *
links_to(Count *count, Oid relid)
{
	const char *sql = "SELECT conrelid, confrelid, confdeltype, conkey, confkey, conpfeqop"
		" FROM pg_constraint WHERE contype = 'f' AND conparentid = 0"
		" AND confrelid = ANY ($1)"
#if PG_VERSION_NUM >= 180000
		" AND conenforced"
#endif
		" ORDER BY conrelid, conname";
	Oid			type = OIDARRAYOID;
	List	   *relids = list_make1_oid(relid);
	Datum	   *elements;
	Datum		value;
	int			n = 0;
	ListCell   *lc;
	List	   *links = NIL;

	if (get_rel_relispartition(relid))
		relids = list_concat(relids, get_partition_ancestors(relid));
	elements = palloc(sizeof(Datum) * list_length(relids));
	foreach(lc, relids)
		elements[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	value = PointerGetDatum(construct_array(elements, n, OIDOID, sizeof(Oid), true,
											TYPALIGN_INT));
	if (SPI_execute_with_args(sql, 1, &type, &value, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_constraint");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext old_context = MemoryContextSwitchTo(count->context);
		Link	   *link = palloc0(sizeof(Link));
		bool		isnull;

		link->from = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
		link->to = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull));
		link->action = DatumGetChar(SPI_getbinval(tuple, desc, 3, &isnull));
		link->from_columns = copy_attnums(SPI_getbinval(tuple, desc, 4, &isnull), &link->n);
		link->to_columns = copy_attnums(SPI_getbinval(tuple, desc, 5, &isnull), &link->n);
		link->operators = copy_oids(SPI_getbinval(tuple, desc, 6, &isnull));
		links = lappend(links, link);
		MemoryContextSwitchTo(old_context);
	}
	SPI_freetuptable(SPI_tuptable);
	return links;
}

static Effect
effect_of(const Link *link)
{
	switch (link->action)
	{
		case FKCONSTR_ACTION_CASCADE:
			return EFFECT_REMOVED;
		case FKCONSTR_ACTION_SETNULL:
		case FKCONSTR_ACTION_SETDEFAULT:
			return EFFECT_CHANGED;
		default:
			return EFFECT_KEEPS;
	}
}

/* ---------------------------------------------------------------------
 * Queries, each as the owner of the table that it reads
 * ---------------------------------------------------------------------
 */

/* What the table is called in a query. */
static char *
table_name(Oid relid)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	char	   *name = get_rel_name(relid);

	if (schema == NULL || name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	return psprintf("%s%s", get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE ? "" : "ONLY ",
					quote_qualified_identifier(schema, name));
}

static void
become_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			role;
	int			context;
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	GetUserIdAndSecContext(&role, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
}

/*
 * The values of the columns that the foreign key refers to, as an array of each
 * in keys.  False: there are none, or they cannot be put into arrays.
 */
static bool
fetch_keys(const Pending *rows, const Link *link, Datum *keys, Oid *types)
{
	StringInfoData sql;
	Oid			role;
	int			context;
	bool		some = true;
	Oid			argtype = rows->type;
	Datum		value = rows->value;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < link->n; i++)
	{
		types[i] = get_array_type(get_atttype(link->to, link->to_columns[i]));
		if (!OidIsValid(types[i]))
			return false;
		appendStringInfo(&sql, "%sarray_agg(%s)", i > 0 ? ", " : "",
						 quote_identifier(get_attname(link->to, link->to_columns[i], false)));
	}
	appendStringInfo(&sql, " FROM %s WHERE %s", table_name(rows->relid), rows->condition);

	GetUserIdAndSecContext(&role, &context);
	become_owner(rows->relid);
	if (SPI_execute_with_args(sql.data, 1, &argtype, &value, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of \"%s\"", sql.data);
	SetUserIdAndSecContext(role, context);
	for (int i = 0; i < link->n; i++)
	{
		bool		isnull;

		keys[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
		some &= !isnull;
	}
	return some;
}

/* The rows of a table that refer to these keys. */
static char *
referring_query(const Link *link)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT t.tableoid, t.ctid FROM %s t WHERE EXISTS (SELECT FROM unnest(",
					 table_name(link->from));
	for (int i = 0; i < link->n; i++)
		appendStringInfo(&sql, "%s$%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoString(&sql, ") AS u (");
	for (int i = 0; i < link->n; i++)
		appendStringInfo(&sql, "%sk%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoString(&sql, ") WHERE ");
	for (int i = 0; i < link->n; i++)
	{
		Oid			type;
		int32		typmod;
		Oid			collation;
		char	   *left = psprintf("u.k%d", i + 1);
		char	   *right = psprintf("t.%s", quote_identifier(get_attname(link->from,
																		   link->from_columns[i],
																		   false)));

		get_atttypetypmodcoll(link->to, link->to_columns[i], &type, &typmod, &collation);
		if (i > 0)
			appendStringInfoString(&sql, " AND ");
		generate_operator_clause(&sql, left, type, link->operators[i], right,
								 get_atttype(link->from, link->from_columns[i]));
		if (OidIsValid(collation))
			appendStringInfo(&sql, " COLLATE %s", generate_collation_name(collation));
	}
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

/* ---------------------------------------------------------------------
 * Counting
 * ---------------------------------------------------------------------
 */

static int
find_table(Count *count, Oid relid)
{
	for (int i = 0; i < count->n_tables; i++)
	{
		if (count->tables[i].relid == relid)
			return i;
	}
	if (count->tables == NULL)
		count->tables = MemoryContextAlloc(count->context, sizeof(TableCount));
	else
		count->tables = repalloc(count->tables, sizeof(TableCount) * (count->n_tables + 1));
	MemSet(&count->tables[count->n_tables], 0, sizeof(TableCount));
	count->tables[count->n_tables].relid = relid;
	return count->n_tables++;
}

/* A row that is removed goes on to what refers to it. */
static void
add_leaf_row(Count *count, List **leaves, Oid relid, ItemPointer tid)
{
	MemoryContext old_context = MemoryContextSwitchTo(count->context);
	LeafRows   *leaf = NULL;
	ItemPointer copy = palloc(sizeof(ItemPointerData));
	ListCell   *lc;

	foreach(lc, *leaves)
	{
		leaf = lfirst(lc);
		if (leaf->relid == relid)
			break;
		leaf = NULL;
	}
	if (leaf == NULL)
	{
		leaf = palloc0(sizeof(LeafRows));
		leaf->relid = relid;
		leaf->room = 64;
		leaf->tids = palloc(sizeof(Datum) * leaf->room);
		*leaves = lappend(*leaves, leaf);
	}
	if (leaf->n == leaf->room)
	{
		leaf->room *= 2;
		leaf->tids = repalloc_huge(leaf->tids, sizeof(Datum) * leaf->room);
	}
	*copy = *tid;
	leaf->tids[leaf->n++] = PointerGetDatum(copy);
	MemoryContextSwitchTo(old_context);
}

static void
count_row(Count *count, List **leaves, int table, Effect effect, Oid relid, ItemPointer tid)
{
	RowKey		key;
	RowEntry   *entry;
	bool		found;

	MemSet(&key, 0, sizeof(key));
	key.relid = relid;
	key.tid = *tid;
	entry = hash_search(count->rows, &key, HASH_ENTER, &found);
	if (found && entry->effect >= effect)
		return;
	if (found)
		count->tables[entry->table].rows[entry->effect]--;
	else
		count->total++;
	entry->effect = effect;
	entry->table = table;
	count->tables[table].rows[effect]++;
	if (effect == EFFECT_REMOVED)
		add_leaf_row(count, leaves, relid, tid);
}

/* Counts what refers to these keys. */
static void
follow_link(Count *count, const Link *link, Datum *keys, Oid *types)
{
	char	   *sql = referring_query(link);
	int			table = find_table(count, link->from);
	List	   *leaves = NIL;
	Portal		portal;
	Oid			role;
	int			context;
	ListCell   *lc;

	GetUserIdAndSecContext(&role, &context);
	become_owner(link->from);
	portal = SPI_cursor_open_with_args(NULL, sql, link->n, types, keys, NULL, true, 0);
	do
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			HeapTuple	tuple = SPI_tuptable->vals[i];
			TupleDesc	desc = SPI_tuptable->tupdesc;
			bool		isnull;
			Oid			relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
			Datum		tid = SPI_getbinval(tuple, desc, 2, &isnull);

			count_row(count, &leaves, table, effect_of(link), relid,
					  (ItemPointer) DatumGetPointer(tid));
		}
		count->cut = count->total > MAX_ROWS;
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0 && !count->cut);
	SPI_cursor_close(portal);
	SetUserIdAndSecContext(role, context);

	foreach(lc, leaves)
	{
		LeafRows   *leaf = lfirst(lc);
		MemoryContext old_context = MemoryContextSwitchTo(count->context);
		Pending    *next = palloc0(sizeof(Pending));

		next->relid = leaf->relid;
		next->condition = "ctid = ANY ($1)";
		next->type = TIDARRAYOID;
		next->value = PointerGetDatum(construct_array(leaf->tids, leaf->n, TIDOID,
													  sizeof(ItemPointerData), false,
													  TYPALIGN_SHORT));
		count->pending = lappend(count->pending, next);
		MemoryContextSwitchTo(old_context);
	}
}

/*
 * What keeps rows of an application's tables from being removed is left to the
 * removal to find out: here it is only looked for where it keeps files' rows.
 */
static void
follow(Count *count, const Pending *rows)
{
	List	   *links = links_to(count, rows->relid);
	ListCell   *lc;

	foreach(lc, links)
	{
		Link	   *link = lfirst(lc);
		Datum	   *keys = palloc(sizeof(Datum) * link->n);
		Oid		   *types = palloc(sizeof(Oid) * link->n);

		if (count->cut)
			return;
		if (effect_of(link) == EFFECT_KEEPS && !rows->root)
			continue;
		if (fetch_keys(rows, link, keys, types))
			follow_link(count, link, keys, types);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
count_all(const ExtensionObjects *objects, Count *count, const DependentsRoot *roots,
		  int n_roots)
{
	HASHCTL		control = {.keysize = sizeof(RowKey),.entrysize = sizeof(RowEntry),
	.hcxt = count->context};

	count->rows = hash_create("fsync dependents", 1024, &control,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < n_roots; i++)
	{
		MemoryContext old_context = MemoryContextSwitchTo(count->context);
		Pending    *root = palloc0(sizeof(Pending));

		root->relid = get_relname_relid(roots[i].table, objects->schema);
		root->condition = roots[i].condition;
		root->type = roots[i].type;
		root->value = roots[i].value;
		root->root = true;
		if (OidIsValid(root->relid))
			count->pending = lappend(count->pending, root);
		MemoryContextSwitchTo(old_context);
	}
	while (count->pending != NIL && !count->cut)
	{
		Pending    *next = linitial(count->pending);

		count->pending = list_delete_first(count->pending);
		follow(count, next);
	}
}

/* ---------------------------------------------------------------------
 * Words
 * ---------------------------------------------------------------------
 */

static bool
may_read(Oid relid, Oid reader)
{
	return pg_class_aclcheck(relid, reader, ACL_SELECT) == ACLCHECK_OK &&
		check_enable_rls(relid, reader, true) != RLS_ENABLED;
}

static void
begin_line(StringInfo out)
{
	if (out->len > 0)
		appendStringInfoChar(out, '\n');
}

static void
describe_table(const Count *count, const TableCount *table, Oid reader, StringInfo out)
{
	char	   *name = psprintf("%s.%s", get_namespace_name(get_rel_namespace(table->relid)),
								get_rel_name(table->relid));

	if (!may_read(table->relid, reader))
	{
		begin_line(out);
		appendStringInfo(out, "Table \"%s\" refers to them as well; role \"%s\" may not read it.",
						 name, GetUserNameFromId(reader, false));
		return;
	}
	for (int e = EFFECTS - 1; e >= 0; e--)
	{
		int64		n = table->rows[e];

		if (n == 0)
			continue;
		begin_line(out);
		appendStringInfo(out, "%s" INT64_FORMAT " row%s of table \"%s\" ",
						 count->cut ? "At least " : "", n, n == 1 ? "" : "s", name);
		if (e == EFFECT_KEEPS)
			appendStringInfo(out, "refer%s to some of them, which cannot be removed as long as %s.",
							 n == 1 ? "s" : "", n == 1 ? "it does" : "they do");
		else if (e == EFFECT_CHANGED)
			appendStringInfo(out, "lose%s %s reference to them.", n == 1 ? "s" : "",
							 n == 1 ? "its" : "their");
		else
			appendStringInfo(out, "go%s with them.", n == 1 ? "es" : "");
	}
}

static void
describe(const Count *count, Oid reader, StringInfo out)
{
	int			named = Min(count->n_tables, MAX_NAMED);

	for (int i = 0; i < named; i++)
		describe_table(count, &count->tables[i], reader, out);
	if (count->n_tables > named)
	{
		begin_line(out);
		appendStringInfo(out, "There are %d more tables that refer to them.",
						 count->n_tables - named);
	}
}

void
dependents_describe(const ExtensionObjects *objects, Oid reader,
					const DependentsRoot *roots, int n_roots, StringInfo out)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Count		count = {0};

	count.context = AllocSetContextCreate(caller, "fsync dependents", ALLOCSET_DEFAULT_SIZES);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(count.context);
	PG_TRY();
	{
		(void) set_config_option("lock_timeout", LOCK_WAIT, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
		count_all(objects, &count, roots, n_roots);
		/* rolled back, so that no lock on an application's table is left */
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		MemoryContextSwitchTo(caller);
		if (ERRCODE_TO_CATEGORY(code) == ERRCODE_OPERATOR_INTERVENTION)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		count.n_tables = 0;
		begin_line(out);
		appendStringInfoString(out, "Rows of other tables that refer to them could not be counted.");
	}
	PG_END_TRY();
	describe(&count, reader, out);
	MemoryContextDelete(count.context);
}
