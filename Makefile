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
#	make matrix				the tests on other releases of Debian, and on fresh machines
#	make dist				the tarball of a release
#
# WERROR=1 (or CI=true) makes warnings errors.  scripts/postgres.sh decides which
# PostgreSQL is meant where PG_CONFIG does not say it.  Can be built in another
# directory: make -f /path/to/Makefile VPATH=/path/to.

SRC := $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST))))

.DEFAULT_GOAL := all

# CFLAGS, CPPFLAGS and LDFLAGS of whoever builds a package: PGXS has its own.
BUILDER_CFLAGS := $(CFLAGS)
BUILDER_CPPFLAGS := $(CPPFLAGS)
BUILDER_LDFLAGS := $(LDFLAGS)

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
	-pthread -MMD -MP -I$(SRC)/src
TREE_HARDENING = $(or $(BUILDER_CPPFLAGS),-D_FORTIFY_SOURCE=2) \
	$(or $(BUILDER_CFLAGS),-fstack-protector-strong) -fPIE
TREE_LDFLAGS = $(BUILDER_LDFLAGS) -pie -Wl,-z,relro -Wl,-z,now
TREE_LIBS = -lcrypto -lpthread

# The list of system calls that fsync-tree may make; without the library the
# state of each repository says that there is none.
SECCOMP_LIBS := $(shell pkg-config --libs libseccomp 2>/dev/null)
ifneq ($(SECCOMP_LIBS),)
TREE_CFLAGS += -DHAVE_LIBSECCOMP $(shell pkg-config --cflags libseccomp)
TREE_LIBS += $(SECCOMP_LIBS)
endif

TREE_SOURCES = $(sort $(wildcard $(SRC)/src/tree/*.c))
TREE_OBJS = $(TREE_SOURCES:$(SRC)/src/tree/%.c=build/tree/%.o)

build/tree/%.o: $(SRC)/src/tree/%.c
	@mkdir -p $(@D)
	$(TREE_CC) $(TREE_CFLAGS) $(TREE_HARDENING) -c -o $@ $<

fsync-tree: $(TREE_OBJS)
	$(TREE_CC) $(TREE_LDFLAGS) -o $@ $(TREE_OBJS) $(TREE_LIBS)

# The same under a sanitizer, and the unit tests of it: one program a file in
# test/unit, linked with all of src/tree but main.c.

ASAN = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
TSAN = -fsanitize=thread -fno-omit-frame-pointer
UNIT_SOURCES = $(wildcard $(SRC)/test/unit/test_*.c)

# $(call variant,directory,flags)
define variant
build/$(1)/%.o: $(SRC)/src/tree/%.c
	@mkdir -p $$(@D)
	$$(TREE_CC) $$(TREE_CFLAGS) $(2) -c -o $$@ $$<

build/$(1)/test_%.o: $(SRC)/test/unit/test_%.c
	@mkdir -p $$(@D)
	$$(TREE_CC) $$(TREE_CFLAGS) $(2) -I$(SRC)/test/unit -I$(SRC)/src/tree -c -o $$@ $$<

build/$(1)/fsync-tree: $$(TREE_SOURCES:$(SRC)/src/tree/%.c=build/$(1)/%.o)
	$$(TREE_CC) $(2) -o $$@ $$^ $$(TREE_LIBS)

build/$(1)/tree.a: $$(filter-out build/$(1)/main.o,$$(TREE_SOURCES:$(SRC)/src/tree/%.c=build/$(1)/%.o))
	@rm -f $$@
	$$(AR) rcs $$@ $$^

build/$(1)/test_%: build/$(1)/test_%.o build/$(1)/tree.a
	$$(TREE_CC) $(2) -o $$@ $$^ $$(TREE_LIBS)

.PRECIOUS: build/$(1)/test_%.o
unit-programs-$(1): $$(UNIT_SOURCES:$(SRC)/test/unit/%.c=build/$(1)/%)
endef

$(eval $(call variant,unit,-O1))
$(eval $(call variant,asan,-O1 $(ASAN)))
$(eval $(call variant,tsan,-O1 $(TSAN)))

.PHONY: unit-programs-unit unit-programs-asan unit-programs-tsan

build/torture/storm: $(SRC)/test/torture/storm.c
	@mkdir -p $(@D)
	$(TREE_CC) $(TREE_CFLAGS) -o $@ $<

build/torture/oracle: $(SRC)/test/torture/oracle.c build/unit/tree.a
	@mkdir -p $(@D)
	$(TREE_CC) $(TREE_CFLAGS) -I$(SRC)/src/tree -o $@ $(filter %.c %.o %.a,$^) $(TREE_LIBS)

build/bench/fsync-tree: $(filter-out build/tree/sandbox%.o,$(TREE_OBJS)) $(SRC)/test/bench/open.c
	@mkdir -p $(@D)
	$(TREE_CC) $(TREE_CFLAGS) $(TREE_HARDENING) -I$(SRC)/src/tree $(TREE_LDFLAGS) -o $@ $(filter %.c %.o %.a,$^) $(TREE_LIBS)

build/sandbox/%: $(SRC)/test/sandbox/%.c build/unit/tree.a
	@mkdir -p $(@D)
	$(TREE_CC) $(TREE_CFLAGS) -I$(SRC)/src/tree -o $@ $(filter %.c %.o %.a,$^) $(TREE_LIBS)

build/sandbox/burglar: $(SRC)/test/sandbox/burglar_truncate.c

build/torture/liar: $(SRC)/test/torture/liar.c build/unit/tree.a
	@mkdir -p $(@D)
	$(TREE_CC) $(TREE_CFLAGS) -I$(SRC)/src/tree -o $@ $(filter %.c %.o %.a,$^) $(TREE_LIBS)

-include $(wildcard build/*/*.d)

# ---------------------------------------------------------------------
# Targets of our own.  They run without PGXS, which is not there before
# scripts/setup.sh has installed it, and which has a "check" that only says
# that it is not supported.
# ---------------------------------------------------------------------

OWN_TARGETS = setup check scripts unit unit-asan unit-tsan regress tap torture fuzz bench try try-stop clean matrix dist \
	fsync-tree sanitized unit-programs-unit unit-programs-asan unit-programs-tsan

ifneq ($(filter $(OWN_TARGETS) build/%,$(MAKECMDGOALS)),)

.PHONY: $(filter-out fsync-tree,$(OWN_TARGETS))

setup:
	@scripts/setup.sh check

check:
	@MAKE='$(MAKE)' scripts/check.sh all

scripts unit unit-asan unit-tsan regress tap:
	@MAKE='$(MAKE)' scripts/check.sh $@

# SEED, OPS, ROUNDS, PROCESSES: see test/torture/torture.pl
torture:
	@MAKE='$(MAKE)' TORTURE_SEED='$(SEED)' TORTURE_OPS='$(OPS)' TORTURE_ROUNDS='$(ROUNDS)' \
		TORTURE_PROCESSES='$(PROCESSES)' scripts/check.sh torture

fuzz:
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' scripts/fuzz.sh

matrix:
	@scripts/matrix.sh $(MATRIX)

# Of what is committed, as the version in META.json says.
dist:
	@scripts/dist.sh

bench:
	@MAKE='$(MAKE)' test/bench/bench.sh

try:
	@MAKE='$(MAKE)' DIR='$(subst ','\'',$(DIR))' scripts/try.sh start

try-stop:
	@scripts/try.sh stop

sanitized: build/asan/fsync-tree build/tsan/fsync-tree

clean:
	rm -rf build fsync.so fsync-tree src/*.o src/*.d src/*.bc src/tree/*.o src/tree/*.d src/tree/*.bc \
		fsync-*.tar.gz \
		results output_iso regression.diffs regression.out tmp_check log

# Asked for together with one of PGXS's targets: that one in a make of its own.
$(filter-out $(OWN_TARGETS) build/%,$(MAKECMDGOALS)):
	$(MAKE) $@

else

# ---------------------------------------------------------------------
# fsync.so
# ---------------------------------------------------------------------

PG_CONFIG ?= $(shell $(SRC)/scripts/postgres.sh pg_config)

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
SERVER_HEADERS := $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)

ifeq ($(and $(wildcard $(PGXS)),$(wildcard $(SERVER_HEADERS)/postgres.h)),)
$(error $(shell $(SRC)/scripts/postgres.sh explain '$(PG_CONFIG)'))
endif
ifneq ($(shell echo '\#include <openssl/evp.h>' | $(CC) -E - >/dev/null 2>&1 && echo yes),yes)
$(error a C compiler with OpenSSL's headers is missing: run scripts/setup.sh (or apt-get install gcc libc6-dev libssl-dev))
endif

# Objects that were made for another server, or with its headers of another
# minor release, are made anew: they depend on a file that then has another name.
STAMP := build/server-$(shell $(SRC)/scripts/postgres.sh stamp '$(PG_CONFIG)')
ifeq ($(wildcard $(STAMP)),)
$(shell mkdir -p build src/tree && rm -f build/server-* fsync.so && touch $(STAMP))
endif

EXTENSION = fsync
DATA = $(notdir $(wildcard $(SRC)/fsync--*.sql))

MODULE_big = fsync
PGFILEDESC = "fsync - a table that is equal to the files under a directory"
SHARED_SOURCES = $(addprefix $(SRC)/src/tree/,protocol.c messages.c answers.c checks.c talk.c filter.c glob.c lag.c \
	patterns.c presets.c)
OBJS = $(patsubst $(SRC)/%.c,%.o,$(sort $(wildcard $(SRC)/src/*.c)) $(SHARED_SOURCES))

# PostgreSQL's headers as system headers: -Wextra is for our own files.  Its
# callbacks force signatures on us, hence no word about unused parameters.
PG_CPPFLAGS = -isystem $(SERVER_HEADERS)
PG_CFLAGS = -Wextra -Wno-unused-parameter $(WARNINGS_ARE_ERRORS) -MMD -MP
SHLIB_LINK = -Wl,--version-script=$(SRC)/src/fsync.map

REGRESS = api errors privileges

# Inlining our functions into queries gains nothing: no bitcode unless asked for.
ifneq ($(origin with_llvm),command line)
override with_llvm := no
endif

include $(PGXS)

fsync.so: $(SRC)/src/fsync.map
$(OBJS): $(STAMP)

-include $(wildcard src/*.d src/tree/*.d)

all: fsync-tree
install: install-tree
ifeq ($(DESTDIR),)
installdirs: check-server
endif
uninstall: uninstall-tree

.PHONY: install-tree uninstall-tree
.PHONY: check-server
check-server:
	@$(SRC)/scripts/postgres.sh check '$(PG_CONFIG)'

install-tree: fsync-tree installdirs
	$(INSTALL_PROGRAM) fsync-tree '$(DESTDIR)$(pkglibdir)/fsync-tree'

uninstall-tree:
	rm -f '$(DESTDIR)$(pkglibdir)/fsync-tree'

endif
