# fsync: a table that is equal to the files under a directory
#
# Two programs come out of here: fsync.so, the PostgreSQL side, built by PGXS
# from src/, and fsync-tree, the file-system side, plain C from src/tree/ that
# is compiled without PostgreSQL's flags.  fsync.so shares a few of the latter's
# files (protocol and filter) and compiles them once more in its own way.
#
#	make, make install		build; install into the PostgreSQL of PG_CONFIG
#	make check				every test, from any user, nothing installed before
#	make try DIR=/path		a private throw-away server that watches /path
#	make try-stop			removes it
#	make unit[-asan|-tsan]	unit tests of src/tree, without a server
#	make regress, make tap	pg_regress, TAP (TESTS=test/t/002*.pl)
#	make fuzz				libFuzzer targets, FUZZ_SECONDS each
#
# WERROR=1 (or CI=true) makes warnings errors.

DEBIAN_PG_CONFIG = /usr/lib/postgresql/15/bin/pg_config
PG_CONFIG ?= $(or $(wildcard $(DEBIAN_PG_CONFIG)),pg_config)

.DEFAULT_GOAL := all

ifeq ($(CI),true)
WERROR = 1
endif
ifdef WERROR
WARNINGS_ARE_ERRORS = -Werror
endif

# ---------------------------------------------------------------------
# fsync-tree
# ---------------------------------------------------------------------

TREE_CC = $(CC)
TREE_CFLAGS = -std=gnu11 -D_GNU_SOURCE -O2 -g -Wall -Wextra $(WARNINGS_ARE_ERRORS) \
	-pthread -MMD -MP -Isrc
TREE_HARDENING = -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
TREE_LDFLAGS = -pie -Wl,-z,relro -Wl,-z,now
TREE_LIBS = -lcrypto -lpthread

TREE_SOURCES = $(wildcard src/tree/*.c)
TREE_OBJS = $(TREE_SOURCES:src/tree/%.c=build/tree/%.o)

build/tree/%.o: src/tree/%.c
	@mkdir -p $(@D)
	$(TREE_CC) $(TREE_CFLAGS) $(TREE_HARDENING) -c -o $@ $<

fsync-tree: $(TREE_OBJS)
	$(TREE_CC) $(TREE_LDFLAGS) -o $@ $(TREE_OBJS) $(TREE_LIBS)

# The same under a sanitizer, and the unit tests of it: one program a file in
# test/unit, linked with all of src/tree but main.c.

ASAN = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
TSAN = -fsanitize=thread -fno-omit-frame-pointer
UNIT_SOURCES = $(wildcard test/unit/test_*.c)

# $(call variant,directory,flags)
define variant
build/$(1)/%.o: src/tree/%.c
	@mkdir -p $$(@D)
	$$(TREE_CC) $$(TREE_CFLAGS) $(2) -c -o $$@ $$<

build/$(1)/test_%.o: test/unit/test_%.c
	@mkdir -p $$(@D)
	$$(TREE_CC) $$(TREE_CFLAGS) $(2) -Itest/unit -Isrc/tree -c -o $$@ $$<

build/$(1)/fsync-tree: $$(TREE_SOURCES:src/tree/%.c=build/$(1)/%.o)
	$$(TREE_CC) $(2) -o $$@ $$^ $$(TREE_LIBS)

build/$(1)/tree.a: $$(filter-out build/$(1)/main.o,$$(TREE_SOURCES:src/tree/%.c=build/$(1)/%.o))
	@rm -f $$@
	$$(AR) rcs $$@ $$^

build/$(1)/test_%: build/$(1)/test_%.o build/$(1)/tree.a
	$$(TREE_CC) $(2) -o $$@ $$^ $$(TREE_LIBS)

.PRECIOUS: build/$(1)/test_%.o
unit-programs-$(1): $$(UNIT_SOURCES:test/unit/%.c=build/$(1)/%)
endef

$(eval $(call variant,unit,-O1))
$(eval $(call variant,asan,-O1 $(ASAN)))
$(eval $(call variant,tsan,-O1 $(TSAN)))

.PHONY: unit-programs-unit unit-programs-asan unit-programs-tsan

build/torture/storm: test/torture/storm.c
	@mkdir -p $(@D)
	$(TREE_CC) $(TREE_CFLAGS) -o $@ $<

build/torture/oracle: test/torture/oracle.c build/unit/tree.a
	@mkdir -p $(@D)
	$(TREE_CC) $(TREE_CFLAGS) -Isrc/tree -o $@ $^ $(TREE_LIBS)

-include $(wildcard build/*/*.d)

# ---------------------------------------------------------------------
# Targets of our own.  They run without PGXS, which is not there before
# scripts/setup.sh has installed it, and which has a "check" that only says
# that it is not supported.
# ---------------------------------------------------------------------

OWN_TARGETS = setup check unit unit-asan unit-tsan regress tap torture fuzz bench try try-stop clean \
	fsync-tree sanitized unit-programs-unit unit-programs-asan unit-programs-tsan

ifneq ($(filter $(OWN_TARGETS) build/%,$(MAKECMDGOALS)),)

.PHONY: $(filter-out fsync-tree,$(OWN_TARGETS))

setup:
	@scripts/setup.sh check

check:
	@MAKE='$(MAKE)' scripts/check.sh all

unit unit-asan unit-tsan regress tap:
	@MAKE='$(MAKE)' scripts/check.sh $@

# SEED, OPS, ROUNDS, PROCESSES: see test/torture/torture.pl
torture:
	@MAKE='$(MAKE)' TORTURE_SEED='$(SEED)' TORTURE_OPS='$(OPS)' TORTURE_ROUNDS='$(ROUNDS)' \
		TORTURE_PROCESSES='$(PROCESSES)' scripts/check.sh torture

fuzz:
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' scripts/fuzz.sh

bench:
	@MAKE='$(MAKE)' test/bench/bench.sh

try:
	@MAKE='$(MAKE)' DIR='$(subst ','\'',$(DIR))' scripts/try.sh start

try-stop:
	@scripts/try.sh stop

sanitized: build/asan/fsync-tree build/tsan/fsync-tree

clean:
	rm -rf build fsync.so fsync-tree src/*.o src/*.d src/*.bc src/tree/*.o src/tree/*.d src/tree/*.bc \
		results output_iso regression.diffs regression.out tmp_check log

# Asked for together with one of PGXS's targets: that one in a make of its own.
$(filter-out $(OWN_TARGETS) build/%,$(MAKECMDGOALS)):
	$(MAKE) $@

else

# ---------------------------------------------------------------------
# fsync.so
# ---------------------------------------------------------------------

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

ifeq ($(wildcard $(PGXS)),)
$(error PostgreSQL's server headers are missing: run scripts/setup.sh (or apt-get install postgresql-server-dev-15), or name another server with PG_CONFIG=/path/to/pg_config)
endif
ifneq ($(shell echo '\#include <openssl/evp.h>' | $(CC) -E - >/dev/null 2>&1 && echo yes),yes)
$(error a C compiler with OpenSSL's headers is missing: run scripts/setup.sh (or apt-get install gcc libc6-dev libssl-dev))
endif

EXTENSION = fsync
DATA = $(wildcard fsync--*.sql)

MODULE_big = fsync
PGFILEDESC = "fsync - a table that is equal to the files under a directory"
SHARED_SOURCES = $(wildcard src/tree/protocol.c src/tree/messages.c src/tree/filter.c src/tree/glob.c \
	src/tree/lag.c src/tree/patterns.c src/tree/presets.c)
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c) $(SHARED_SOURCES))

# PostgreSQL's headers as system headers: -Wextra is for our own files.  Its
# callbacks force signatures on us, hence no word about unused parameters.
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server)
PG_CFLAGS = -Wextra -Wno-unused-parameter $(WARNINGS_ARE_ERRORS) -MMD -MP
SHLIB_LINK = -Wl,--version-script=src/fsync.map

REGRESS = api errors privileges

# Inlining our functions into queries gains nothing: no bitcode unless asked for.
ifneq ($(origin with_llvm),command line)
override with_llvm := no
endif

include $(PGXS)

fsync.so: src/fsync.map

-include $(wildcard src/*.d src/tree/*.d)

all: fsync-tree
install: install-tree
uninstall: uninstall-tree

.PHONY: install-tree uninstall-tree
install-tree: fsync-tree installdirs
	$(INSTALL_PROGRAM) fsync-tree '$(DESTDIR)$(pkglibdir)/fsync-tree'

uninstall-tree:
	rm -f '$(DESTDIR)$(pkglibdir)/fsync-tree'

endif
