/*-------------------------------------------------------------------------
 *
 * settings.c
 *		From what the worker says at first to what it asks for.
 *
 *-------------------------------------------------------------------------
 */
#include "settings.h"

#include <stdlib.h>

static bool
read_patterns(ProtoStr list, FilterPattern **patterns, size_t *count)
{
	ProtoStr	element;

	*patterns = NULL;
	*count = 0;
	while (proto_list_next(&list, &element))
	{
		FilterPattern *more = realloc(*patterns, (*count + 1) * sizeof(FilterPattern));

		if (more == NULL)
			return false;
		*patterns = more;
		more[*count].data = element.data;
		more[*count].len = element.len;
		(*count)++;
	}
	return true;
}

Filter *
settings_filter(const ProtoInit *init)
{
	FilterSettings settings = {
		.ignore_case = init->ignore_case,
		.include_hidden = init->include_hidden,
		.use_rules = init->use_ignore_files,
		.min_size = init->min_size,
		.max_size = init->max_size
	};
	FilterPattern *include = NULL;
	FilterPattern *exclude = NULL;
	Filter	   *filter = NULL;
	const char *error;

	if (read_patterns(init->include, &include, &settings.n_include) &&
		read_patterns(init->exclude, &exclude, &settings.n_exclude))
	{
		settings.include = include;
		settings.exclude = exclude;
		filter = filter_create(&settings, &error);
	}
	free(include);
	free(exclude);
	return filter;
}
