/*-------------------------------------------------------------------------
 *
 * glob.c
 *		Patterns of gitignore(5), matched in bounded time.
 *
 * A pattern is compiled into components, the parts between its slashes, and
 * each of these into tokens.  "**" as a whole component stands for any number
 * of directories; everything else stays within one name.  So there are two
 * levels of the same problem, a sequence with gaps, and on both a gap is left
 * as early as possible and only the latest gap is ever widened: what was
 * matched before an earlier gap's end is as far left as it can be, so widening
 * that one cannot help.  That makes "*a*a*a*a*b" quadratic, not exponential.
 *
 * Where git's code and its manual differ, the manual is followed: "a**" and
 * "a" followed by "**" and a slash stay within one name.
 *
 *-------------------------------------------------------------------------
 */
#include "glob.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A token is a byte, one of these, or TOKEN_CLASS plus the class's number. */
#define TOKEN_ANY		256		/* ? */
#define TOKEN_STAR		257		/* * */
#define TOKEN_CLASS		258		/* [...] */

typedef struct CharClass
{
	uint8_t		bits[32];
} CharClass;

typedef struct Component
{
	uint16_t	first;			/* in tokens */
	uint16_t	count;
	bool		any_depth;		/* "**" */
} Component;

struct Glob
{
	bool		negated;
	bool		directory_only;
	bool		ignore_case;
	bool		basename;		/* no slash: looks at the last name only */
	uint16_t	n_tokens;
	uint16_t	n_components;
	uint16_t	n_classes;
	uint16_t   *tokens;			/* these lie behind it */
	Component  *components;
	CharClass  *classes;
};

/* What a pattern may have at most: a slash ends a component, three bytes make a class. */
#define MAX_COMPONENTS	(GLOB_MAX_LEN / 2 + 2)
#define MAX_CLASSES		(GLOB_MAX_LEN / 3 + 1)

/* The longest name, and the longest path that is asked about, in bytes. */
#define LONGEST_NAME	255
#define LONGEST_PATH	4096

/* What a name costs besides its bytes. */
#define COMPONENT_STEPS	100

/* ---------------------------------------------------------------------
 * Compiling
 * ---------------------------------------------------------------------
 */

static int
lower_case(int c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

/* ASCII only: a pattern means the same in every locale. */
static bool
named_class_has(const char *name, size_t len, int c, bool *known)
{
	static const char *const names[] = {
		"alnum", "alpha", "blank", "cntrl", "digit", "graph",
		"lower", "print", "punct", "space", "upper", "xdigit",
	};
	bool		lower = c >= 'a' && c <= 'z';
	bool		upper = c >= 'A' && c <= 'Z';
	bool		digit = c >= '0' && c <= '9';
	bool		graph = c > ' ' && c < 0x7f;
	size_t		i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
			break;
	}
	*known = true;
	switch (i)
	{
		case 0:
			return lower || upper || digit;
		case 1:
			return lower || upper;
		case 2:
			return c == ' ' || c == '\t';
		case 3:
			return c < ' ' || c == 0x7f;
		case 4:
			return digit;
		case 5:
			return graph;
		case 6:
			return lower;
		case 7:
			return graph || c == ' ';
		case 8:
			return graph && !lower && !upper && !digit;
		case 9:
			return c == ' ' || (c >= '\t' && c <= '\r');
		case 10:
			return upper;
		case 11:
			return digit || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
		default:
			*known = false;
			return false;
	}
}

static void
class_add(CharClass *class, int low, int high)
{
	for (int c = low; c <= high; c++)
		class->bits[c / 8] |= (uint8_t) (1 << (c % 8));
}

/*
 * Adds "[:name:]" at p to the class.  Returns what follows it, p itself where
 * there is no such thing (the '[' is then a member like others), or NULL for
 * a name that does not exist.
 */
static const char *
compile_named_class(CharClass *class, const char *p, const char *end)
{
	const char *name = p + 2;
	const char *close;

	if (end - p < 2 || p[1] != ':')
		return p;
	close = memchr(name, ']', (size_t) (end - name));
	if (close == NULL || close == name || close[-1] != ':')
		return p;
	for (int c = 0; c < 256; c++)
	{
		bool		known;

		if (named_class_has(name, (size_t) (close - 1 - name), c, &known))
			class_add(class, c, c);
		if (!known)
			return NULL;
	}
	return close + 1;
}

/*
 * Compiles what follows a '[' and returns what follows its ']', or NULL and an
 * error.  A ']' that comes first is a member.
 */
static const char *
compile_class(CharClass *class, const char *p, const char *end, bool ignore_case,
			  const char **error)
{
	bool		negated = p < end && (*p == '!' || *p == '^');
	bool		first = true;
	int			previous = 0;	/* what a range may begin with; 0: nothing */

	*error = "pattern has a \"[\" without its \"]\"";
	if (negated)
		p++;
	for (;; first = false)
	{
		int			c;

		if (p == end)
			return NULL;
		if (*p == ']' && !first)
			break;
		if (*p == '[')
		{
			const char *next = compile_named_class(class, p, end);

			if (next == NULL)
			{
				*error = "pattern has an unknown character class";
				return NULL;
			}
			if (next != p)
			{
				p = next;
				previous = 0;
				continue;
			}
		}
		if (*p == '-' && previous != 0 && p + 1 < end && p[1] != ']')
		{
			p++;
			if (*p == '\\' && ++p == end)
				return NULL;
			class_add(class, previous, (unsigned char) *p++);
			previous = 0;
			continue;
		}
		if (*p == '\\' && ++p == end)
			return NULL;
		c = (unsigned char) *p++;
		class_add(class, c, c);
		previous = c;
	}

	/* What is looked up are small letters. */
	for (int c = 'A'; ignore_case && c <= 'Z'; c++)
	{
		if ((class->bits[c / 8] >> (c % 8)) & 1)
			class_add(class, lower_case(c), lower_case(c));
	}
	if (negated)
	{
		for (size_t i = 0; i < sizeof(class->bits); i++)
			class->bits[i] = (uint8_t) ~class->bits[i];
	}
	*error = NULL;
	return p + 1;
}

/* Closes the component that the latest tokens belong to. */
static bool
end_component(Glob *glob, int stars, const char **error)
{
	Component  *component = &glob->components[glob->n_components];
	const uint16_t *tokens;
	uint16_t	first = 0;

	if (glob->n_components > 0)
		first = component[-1].first + component[-1].count;
	component->first = first;
	component->count = glob->n_tokens - first;
	tokens = glob->tokens + first;

	if (component->count == 0)
	{
		*error = "pattern has an empty name between slashes";
		return false;
	}
	if (tokens[0] == '.' &&
		(component->count == 1 || (component->count == 2 && tokens[1] == '.')))
	{
		*error = "pattern has \".\" or \"..\" as a name, which never matches";
		return false;
	}
	component->any_depth = component->count == 1 && stars > 1 &&
		!glob->basename;
	glob->n_components++;
	return true;
}

/* Fills components and tokens; the pattern has no slash at its ends. */
static bool
compile_components(Glob *glob, const char *p, const char *end,
				   const char **error)
{
	int			stars = 0;		/* in this component */

	while (p < end)
	{
		unsigned char c = (unsigned char) *p++;
		uint16_t	token = c;

		if (c == '\\')
		{
			if (p == end)
			{
				*error = "pattern ends with a backslash";
				return false;
			}
			c = (unsigned char) *p++;
			token = c;
		}
		else if (c == '?')
			token = TOKEN_ANY;
		else if (c == '*')
			token = TOKEN_STAR;
		else if (c == '[')
		{
			CharClass  *class = &glob->classes[glob->n_classes];

			memset(class, 0, sizeof(*class));
			p = compile_class(class, p, end, glob->ignore_case, error);
			if (p == NULL)
				return false;
			token = (uint16_t) (TOKEN_CLASS + glob->n_classes++);
		}

		/* No name holds a slash, so an escaped one is one all the same. */
		if (c == '/')
		{
			if (!end_component(glob, stars, error))
				return false;
			stars = 0;
			continue;
		}
		if (token == TOKEN_STAR && stars++ > 0 &&
			glob->tokens[glob->n_tokens - 1] == TOKEN_STAR)
			continue;
		if (glob->ignore_case)
			token = (uint16_t) lower_case(token);
		glob->tokens[glob->n_tokens++] = token;
	}
	return end_component(glob, stars, error);
}

/* A copy that is as large as it need be. */
static Glob *
shrink(const Glob *glob)
{
	size_t		tokens = glob->n_tokens * sizeof(*glob->tokens);
	size_t		components = glob->n_components * sizeof(*glob->components);
	size_t		classes = glob->n_classes * sizeof(*glob->classes);
	Glob	   *copy = malloc(sizeof(Glob) + tokens + components + classes);
	char	   *behind = (char *) (copy + 1);

	if (copy == NULL)
		return NULL;
	*copy = *glob;
	copy->components = memcpy(behind, glob->components, components);
	copy->tokens = memcpy(behind + components, glob->tokens, tokens);
	copy->classes = memcpy(behind + components + tokens, glob->classes, classes);
	return copy;
}

Glob *
glob_compile(const char *pattern, size_t len, bool ignore_case, const char **error)
{
	const char *p = pattern;
	const char *end = pattern + len;
	uint16_t	tokens[GLOB_MAX_LEN];
	Component	components[MAX_COMPONENTS];
	CharClass	classes[MAX_CLASSES];
	Glob		glob = {.tokens = tokens, .components = components, .classes = classes};
	Glob	   *result;

	*error = NULL;
	if (len == 0)
		*error = "pattern is empty";
	else if (len > GLOB_MAX_LEN)
		*error = "pattern is longer than 1024 bytes";
	else if (memchr(pattern, '\0', len) != NULL)
		*error = "pattern contains a zero byte";
	if (*error != NULL)
		return NULL;

	glob.ignore_case = ignore_case;
	if (*p == '!')
	{
		glob.negated = true;
		p++;
	}
	if (p < end && end[-1] == '/')
	{
		glob.directory_only = true;
		end--;
	}
	glob.basename = true;
	for (const char *c = p; c < end; c++)
	{
		if (*c == '/')
			glob.basename = false;
	}
	if (p < end && *p == '/')
		p++;
	if (p >= end)
		*error = "pattern names nothing";
	if (*error != NULL || !compile_components(&glob, p, end, error))
		return NULL;
	result = shrink(&glob);
	if (result == NULL)
		*error = "out of memory";
	return result;
}

void
glob_free(Glob *glob)
{
	free(glob);
}

size_t
glob_memory(const Glob *glob)
{
	return sizeof(Glob) + glob->n_tokens * sizeof(*glob->tokens) +
		glob->n_components * sizeof(*glob->components) +
		glob->n_classes * sizeof(*glob->classes);
}

/*
 * A star makes each byte of a name a place to begin anew, "**" each name of a
 * path; without them each token is looked at once.
 */
uint64_t
glob_cost(const Glob *glob)
{
	uint64_t	cost = 0;

	for (size_t i = 0; i < glob->n_components; i++)
	{
		const Component *component = &glob->components[i];
		bool		star = false;

		if (component->any_depth)
			return (uint64_t) LONGEST_PATH * glob->n_tokens;
		for (size_t t = 0; t < component->count; t++)
			star |= glob->tokens[component->first + t] == TOKEN_STAR;
		cost += COMPONENT_STEPS + (uint64_t) component->count * (star ? LONGEST_NAME : 1);
	}
	return cost;
}

bool
glob_negated(const Glob *glob)
{
	return glob->negated;
}

bool
glob_depends_on_place(const Glob *glob)
{
	return !glob->basename;
}

/* ---------------------------------------------------------------------
 * Matching
 * ---------------------------------------------------------------------
 */

static bool
token_matches(const Glob *glob, uint16_t token, unsigned char c)
{
	if (glob->ignore_case)
		c = (unsigned char) lower_case(c);
	if (token < 256)
		return token == c;
	if (token == TOKEN_ANY)
		return true;
	return (glob->classes[token - TOKEN_CLASS].bits[c / 8] >> (c % 8)) & 1;
}

static bool
component_matches(const Glob *glob, const Component *component,
				  const char *name, size_t len)
{
	const uint16_t *tokens = glob->tokens + component->first;
	size_t		count = component->count;
	size_t		t = 0;
	size_t		n = 0;
	size_t		gap_t = SIZE_MAX;	/* the token after the latest star */
	size_t		gap_n = 0;		/* where the star ends */

	while (n < len)
	{
		if (t < count && tokens[t] == TOKEN_STAR)
		{
			gap_t = ++t;
			gap_n = n;
		}
		else if (t < count &&
				 token_matches(glob, tokens[t], (unsigned char) name[n]))
		{
			t++;
			n++;
		}
		else if (gap_t != SIZE_MAX)
		{
			t = gap_t;
			n = ++gap_n;
		}
		else
			return false;
	}
	while (t < count && tokens[t] == TOKEN_STAR)
		t++;
	return t == count;
}

/* Where the name that begins at this offset ends. */
static size_t
name_end(const char *path, size_t len, size_t at)
{
	const char *slash = memchr(path + at, '/', len - at);

	return slash != NULL ? (size_t) (slash - path) : len;
}

/* The same loop as in component_matches(), over names and components. */
static bool
path_matches(const Glob *glob, const char *path, size_t len)
{
	size_t		count = glob->n_components;
	size_t		i = 0;
	size_t		at = 0;			/* beyond len: no name is left */
	size_t		gap_i = SIZE_MAX;
	size_t		gap_at = 0;

	while (at <= len)
	{
		size_t		end;

		if (i < count && glob->components[i].any_depth)
		{
			/* At the end it means what is inside: at least one name. */
			if (i == count - 1)
				return true;
			gap_i = ++i;
			gap_at = at;
			continue;
		}
		end = name_end(path, len, at);
		if (i < count && component_matches(glob, &glob->components[i],
										   path + at, end - at))
		{
			i++;
			at = end + 1;
		}
		else if (gap_i != SIZE_MAX)
		{
			gap_at = name_end(path, len, gap_at) + 1;
			i = gap_i;
			at = gap_at;
		}
		else
			return false;
	}
	return i == count;
}

bool
glob_matches(const Glob *glob, const char *path, size_t len, bool is_directory)
{
	const char *slash;

	if (glob->directory_only && !is_directory)
		return false;
	if (!glob->basename)
		return path_matches(glob, path, len);
	slash = memrchr(path, '/', len);
	if (slash != NULL)
	{
		len -= (size_t) (slash + 1 - path);
		path = slash + 1;
	}
	return component_matches(glob, &glob->components[0], path, len);
}

bool
glob_matches_below(const Glob *glob, const char *path, size_t len)
{
	size_t		at = 0;

	if (glob->basename)
		return true;
	for (size_t i = 0; i < glob->n_components; i++)
	{
		size_t		end;

		if (at > len || glob->components[i].any_depth)
			return true;
		end = name_end(path, len, at);
		if (!component_matches(glob, &glob->components[i], path + at, end - at))
			return false;
		at = end + 1;
	}
	return false;
}
