/*-------------------------------------------------------------------------
 *
 * filter.c
 *		Which names are tracked: default rules, exclude and include lists, and
 *		the rules of .fsyncignore files.
 *
 * All lists ask the same question, "does this list match the path?", with
 * gitignore's answer: the last pattern that matches decides, and once a
 * directory is matched everything below it is, so a later '!' cannot take
 * back what lies under it.  Excluded is what the exclude list matches, or,
 * where that says nothing, the deepest .fsyncignore that says something;
 * included what the include list matches.
 *
 * The difference is in the directories above.  An excluded directory need not
 * be entered.  A directory that is not included must be, when one of the
 * patterns may match below it.
 *
 *-------------------------------------------------------------------------
 */
#include "filter.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "patterns.h"

struct Filter
{
	PatternList include;
	PatternList exclude;
	bool		ignore_case;
	bool		include_hidden;
	bool		use_rules;
	int64_t		min_size;
	int64_t		max_size;
	atomic_size_t *rules_memory;	/* of all rules that are kept; bytes */
};

/* What the files of a directory and all above it may hold together. */
static const PatternCost rules_most = {
	.count = FILTER_RULES_MAX_PATTERNS,
	.memory = FILTER_RULES_MAX_MEMORY,
	.steps = FILTER_RULES_MAX_STEPS,
};

struct FilterRules
{
	atomic_uint users;
	FilterRules *above;
	PatternList list;
	PatternCost cost;			/* of this list and those above */
	size_t		text;			/* bytes, of this file and those above */
	size_t		memory;			/* of this list alone */
	atomic_size_t *in_use;		/* the filter's */
	int			error;			/* the list is not known */
	size_t		directory_len;
	char		directory[];	/* terminated */
};

/* ---------------------------------------------------------------------
 * Making
 * ---------------------------------------------------------------------
 */

Filter *
filter_create(const FilterSettings *settings, const char **error)
{
	Filter	   *filter = calloc(1, sizeof(*filter));

	*error = NULL;
	if (filter == NULL)
	{
		*error = "out of memory";
		return NULL;
	}
	filter->rules_memory = calloc(1, sizeof(*filter->rules_memory));
	if (filter->rules_memory == NULL)
	{
		*error = "out of memory";
		filter_free(filter);
		return NULL;
	}
	filter->ignore_case = settings->ignore_case;
	filter->include_hidden = settings->include_hidden;
	filter->use_rules = settings->use_rules;
	filter->min_size = settings->min_size;
	filter->max_size = settings->max_size;
	if (!patterns_create(&filter->include, settings->include, settings->n_include,
						 settings->ignore_case, error) ||
		!patterns_create(&filter->exclude, settings->exclude, settings->n_exclude,
						 settings->ignore_case, error))
	{
		filter_free(filter);
		return NULL;
	}
	return filter;
}

void
filter_free(Filter *filter)
{
	if (filter == NULL)
		return;
	patterns_free(&filter->include);
	patterns_free(&filter->exclude);
	free(filter->rules_memory);
	free(filter);
}

const char *
filter_check_pattern(const char *pattern, size_t len)
{
	const char *error;
	Pattern		compiled;

	if (pattern_compile(&compiled, pattern, len, false, &error))
		pattern_free(&compiled);
	return error;
}

bool
filter_accepts_size(const Filter *filter, int64_t size)
{
	return size >= filter->min_size && size <= filter->max_size;
}

bool
filter_uses_rules(const Filter *filter)
{
	return filter->use_rules;
}

bool
filter_depends_on_place(const Filter *filter)
{
	const PatternList *lists[] = {&filter->include, &filter->exclude};

	for (int l = 0; l < 2; l++)
	{
		for (size_t i = 0; i < lists[l]->count; i++)
		{
			const Pattern *pattern = &lists[l]->patterns[i];

			if (pattern->glob != NULL && glob_depends_on_place(pattern->glob))
				return true;
		}
	}

	/* A directory that is included includes what is below it. */
	return filter->use_rules || filter->include.count > 0;
}

/* ---------------------------------------------------------------------
 * Rules of .fsyncignore files
 * ---------------------------------------------------------------------
 */

FilterRules *
filter_rules_add(const Filter *filter, FilterRules *above,
				 const char *directory, size_t directory_len,
				 const char *text, size_t len, int error)
{
	FilterRules *rules = calloc(1, sizeof(*rules) + directory_len + 1);

	if (rules == NULL)
		return NULL;
	rules->users = 1;
	rules->in_use = filter->rules_memory;
	rules->directory_len = directory_len;
	memcpy(rules->directory, directory, directory_len);
	if (above != NULL)
	{
		rules->cost = above->cost;
		rules->text = above->text;
	}
	if (error == 0 && len > filter_rules_room(above))
		error = EFBIG;
	if (error == 0)
		error = patterns_add_lines(&rules->list, text, text + len, filter->ignore_case,
								   &rules->cost, &rules_most);
	if (error == ENOMEM)
	{
		filter_rules_release(rules);
		return NULL;
	}
	rules->error = error;
	if (error == 0)
		rules->text += len;
	else
	{
		patterns_free(&rules->list);
		memset(&rules->list, 0, sizeof(rules->list));
		rules->cost = above != NULL ? above->cost : (PatternCost) {0};
	}
	rules->memory = sizeof(*rules) + directory_len + rules->cost.memory -
		(above != NULL ? above->cost.memory : 0);
	atomic_fetch_add(rules->in_use, rules->memory);
	rules->above = filter_rules_keep(above);
	return rules;
}

size_t
filter_rules_room(const FilterRules *rules)
{
	return FILTER_RULES_MAX_TEXT - (rules != NULL ? rules->text : 0);
}

size_t
filter_rules_memory(const Filter *filter)
{
	return atomic_load(filter->rules_memory);
}

FilterRules *
filter_rules_keep(FilterRules *rules)
{
	if (rules != NULL)
		atomic_fetch_add(&rules->users, 1);
	return rules;
}

void
filter_rules_release(FilterRules *rules)
{
	while (rules != NULL && atomic_fetch_sub(&rules->users, 1) == 1)
	{
		FilterRules *above = rules->above;

		atomic_fetch_sub(rules->in_use, rules->memory);
		patterns_free(&rules->list);
		free(rules);
		rules = above;
	}
}

const FilterRules *
filter_rules_unknown(const FilterRules *rules)
{
	while (rules != NULL && rules->error == 0)
		rules = rules->above;
	return rules;
}

const char *
filter_rules_directory(const FilterRules *rules)
{
	return rules->directory;
}

int
filter_rules_error(const FilterRules *rules)
{
	return rules->error;
}

/* ---------------------------------------------------------------------
 * Deciding
 * ---------------------------------------------------------------------
 */

static bool
ends_with(const char *name, size_t len, const char *suffix)
{
	size_t		n = strlen(suffix);

	return len >= n && memcmp(name + len - n, suffix, n) == 0;
}

/*
 * By which kind of default rule the name is ignored (FILTER_BY_NOTHING: by
 * none), and the rule itself as a pattern.
 */
static FilterSource
ignored_by(const Filter *filter, const char *name, size_t len, const char **rule)
{
	static const char *const names[] = {"Thumbs.db", ".DS_Store"};
	static const char *const endings[] = {"*~", "*.tmp", "*.bak", "*.swp"};

	if (len == 0)
		return FILTER_BY_NOTHING;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		*rule = names[i];
		if (strlen(*rule) == len && memcmp(name, *rule, len) == 0)
			return FILTER_BY_DEFAULT;
	}
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
	{
		*rule = endings[i];
		if (ends_with(name, len, *rule + 1))
			return FILTER_BY_DEFAULT;
	}
	if (name[0] != '.')
		return FILTER_BY_NOTHING;
	*rule = ".*";

	/* In a directory itself these are no names. */
	if (len == 1 || (len == 2 && name[1] == '.'))
		return FILTER_BY_DEFAULT;
	return filter->include_hidden ? FILTER_BY_NOTHING : FILTER_BY_HIDDEN;
}

bool
filter_ignores_name(const Filter *filter, const char *name, size_t len)
{
	const char *rule;

	return ignored_by(filter, name, len, &rule) != FILTER_BY_NOTHING;
}

static const char *
last_name(const char *path, size_t len)
{
	const char *slash = memrchr(path, '/', len);

	return slash != NULL ? slash + 1 : path;
}

static void
set_reason(FilterReason *reason, FilterVerdict verdict, FilterSource source,
		   const Pattern *pattern, size_t decided_len)
{
	reason->verdict = verdict;
	reason->source = source;
	reason->rule = pattern != NULL ? pattern->text : NULL;
	reason->decided_len = decided_len;
	reason->directory = NULL;
}

/*
 * The default rules, the exclude list and the rules of the tree, for the last
 * component only: whether one of them refuses it.  The reason is left alone
 * where nothing speaks of it.
 */
static FilterVerdict
judge_here(const Filter *filter, const FilterRules *rules, const char *path, size_t len,
		   bool is_directory, FilterReason *reason)
{
	const char *name = last_name(path, len);
	const char *rule;
	FilterSource source = ignored_by(filter, name, (size_t) (path + len - name), &rule);
	const Pattern *pattern;

	if (source != FILTER_BY_NOTHING)
	{
		set_reason(reason, FILTER_REFUSED, source, NULL, len);
		reason->rule = rule;
		return FILTER_REFUSED;
	}
	pattern = patterns_decide_here(&filter->exclude, path, len, is_directory);
	if (pattern != NULL)
	{
		set_reason(reason, pattern_negated(pattern) ? FILTER_ACCEPTED : FILTER_REFUSED,
				   FILTER_BY_EXCLUDE, pattern, len);
		return reason->verdict;
	}
	for (; rules != NULL; rules = rules->above)
	{
		size_t		below = rules->directory_len ? rules->directory_len + 1 : 0;

		/* A file says nothing about its own directory, nor of those above. */
		if (below >= len)
			continue;
		if (rules->error != 0)
		{
			set_reason(reason, FILTER_UNSURE, FILTER_BY_RULES, NULL, len);
			reason->directory = rules->directory;
			return FILTER_UNSURE;
		}
		pattern = patterns_decide_here(&rules->list, path + below, len - below, is_directory);
		if (pattern != NULL)
		{
			set_reason(reason, pattern_negated(pattern) ? FILTER_ACCEPTED : FILTER_REFUSED,
					   FILTER_BY_RULES, pattern, len);
			reason->directory = rules->directory;
			return reason->verdict;
		}
	}
	return FILTER_ACCEPTED;
}

/* The same for all directories above. */
static FilterVerdict
judge_above(const Filter *filter, const FilterRules *rules, const char *path, size_t len,
			FilterReason *reason)
{
	FilterVerdict verdict = FILTER_ACCEPTED;

	for (size_t i = 0; i < len; i++)
	{
		FilterReason here;

		if (path[i] != '/')
			continue;
		switch (judge_here(filter, rules, path, i, true, &here))
		{
			case FILTER_REFUSED:
				*reason = here;
				return FILTER_REFUSED;
			case FILTER_UNSURE:
				if (verdict == FILTER_ACCEPTED)
					*reason = here;
				verdict = FILTER_UNSURE;
				break;
			case FILTER_ACCEPTED:
				break;
		}
	}
	return verdict;
}

/* What is added by the last component of a path whose directory is accepted. */
static FilterVerdict
judge_in(const Filter *filter, const FilterRules *rules, const char *path, size_t len,
		 bool is_directory, FilterReason *reason)
{
	FilterVerdict verdict = judge_here(filter, rules, path, len, is_directory, reason);
	const Pattern *by = NULL;
	size_t		by_len = len;

	if (verdict == FILTER_REFUSED)
		return FILTER_REFUSED;
	if (filter_rules_unknown(rules) != NULL)
		verdict = FILTER_UNSURE;

	/*
	 * An accepted directory need not be an included one, so the include list
	 * is asked about the whole path here too.
	 */
	if (filter->include.count == 0)
		return verdict;
	if (patterns_match(&filter->include, path, len, is_directory, &by, &by_len))
	{
		if (verdict == FILTER_ACCEPTED)
			set_reason(reason, FILTER_ACCEPTED, FILTER_BY_INCLUDE, by, by_len);
		return verdict;
	}
	if (is_directory && patterns_match_below(&filter->include, path, len))
		return verdict;
	set_reason(reason, FILTER_REFUSED, FILTER_BY_INCLUDE, by, by_len);
	return FILTER_REFUSED;
}

FilterVerdict
filter_accepts_file_in(const Filter *filter, const FilterRules *rules,
					   const char *path, size_t len)
{
	FilterReason reason;

	if (len == 0)
		return FILTER_REFUSED;
	return judge_in(filter, rules, path, len, false, &reason);
}

FilterVerdict
filter_accepts_directory_in(const Filter *filter, const FilterRules *rules,
							const char *path, size_t len)
{
	FilterReason reason;

	if (len == 0)
		return FILTER_ACCEPTED;
	return judge_in(filter, rules, path, len, true, &reason);
}

FilterVerdict
filter_accepts_file(const Filter *filter, const FilterRules *rules,
					const char *path, size_t len)
{
	FilterReason reason;

	filter_explain(filter, rules, path, len, false, &reason);
	return reason.verdict;
}

FilterVerdict
filter_accepts_directory(const Filter *filter, const FilterRules *rules,
						 const char *path, size_t len)
{
	FilterReason reason;

	if (judge_above(filter, rules, path, len, &reason) == FILTER_REFUSED)
		return FILTER_REFUSED;
	return filter_accepts_directory_in(filter, rules, path, len);
}

void
filter_explain(const Filter *filter, const FilterRules *rules,
			   const char *path, size_t len, bool is_directory, FilterReason *reason)
{
	FilterReason above = {0};
	FilterVerdict verdict = judge_above(filter, rules, path, len, &above);

	memset(reason, 0, sizeof(*reason));
	if (verdict == FILTER_REFUSED || len == 0)
	{
		*reason = above;
		return;
	}
	reason->verdict = judge_in(filter, rules, path, len, is_directory, reason);
	if (reason->verdict != FILTER_REFUSED && verdict == FILTER_UNSURE)
		*reason = above;
}

/* ---------------------------------------------------------------------
 * Encoding
 * ---------------------------------------------------------------------
 */

/*
 * The second byte's range excludes what is longer than it need be (E0, F0),
 * surrogates (ED) and what lies beyond U+10FFFF (F4).
 */
bool
filter_valid_utf8(const char *name, size_t len)
{
	const unsigned char *p = (const unsigned char *) name;
	const unsigned char *end = p + len;

	while (p < end)
	{
		unsigned char c = *p++;
		unsigned char low = 0x80;
		unsigned char high = 0xBF;
		int			more;

		if (c == 0)
			return false;
		if (c < 0x80)
			continue;
		if (c < 0xC2 || c > 0xF4)
			return false;
		more = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
		if (c == 0xE0)
			low = 0xA0;
		else if (c == 0xED)
			high = 0x9F;
		else if (c == 0xF0)
			low = 0x90;
		else if (c == 0xF4)
			high = 0x8F;
		for (; more > 0; more--)
		{
			if (p == end || *p < low || *p > high)
				return false;
			p++;
			low = 0x80;
			high = 0xBF;
		}
	}
	return true;
}
