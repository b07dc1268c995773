# crier - see `make help`.

FLAVOR ?= release
CC ?= cc
BUILD := build/$(FLAVOR)
PREFIX ?= /usr/local
VERSION := $(shell sed -n 's/^\#define CRIER_VERSION "\(.*\)"/\1/p' include/crier/version.h)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wpointer-arith -Wundef -Wvla -Wformat=2 -Wwrite-strings
OPT_release := -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong
OPT_debug := -O0 -g3
OPT_asan := -O1 -g -fsanitize=address -fno-omit-frame-pointer
OPT_ubsan := -O1 -g -fsanitize=undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
OPT := $(OPT_$(FLAVOR))
ifeq ($(OPT),)
$(error FLAVOR is "$(FLAVOR)"; it can be release, debug, asan, ubsan or tsan)
endif

# Libraries: pkg-config name (or header, where the library has none) and its Debian package.
PKGS := libmicrohttpd jansson libcrypto libcurl
DEB_libmicrohttpd := libmicrohttpd-dev
DEB_jansson := libjansson-dev
DEB_libcrypto := libssl-dev
DEB_libcurl := libcurl4-openssl-dev
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS))
PKG_LIBS = $(shell pkg-config --libs $(PKGS)) -lwslay

CFLAGS_ALL = -std=gnu11 $(WARN) $(WERROR) $(OPT) -Iinclude -I$(BUILD) -D_GNU_SOURCE -pthread $(PKG_CFLAGS) $(CFLAGS)
LDFLAGS_ALL = $(OPT) -pthread $(LDFLAGS)

SRC := $(sort $(wildcard src/*/*.c))
OBJ := $(SRC:src/%.c=$(BUILD)/obj/%.o)
LIB_OBJ := $(filter-out $(BUILD)/obj/app/main.o,$(OBJ))
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))
SIM := $(patsubst tests/sim/%.c,$(BUILD)/sim/%,$(wildcard tests/sim/sim_*.c))

all: $(BUILD)/crier build/crier

$(BUILD)/crier: $(BUILD)/obj/app/main.o $(BUILD)/libcrier.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

build/crier: build/release/crier
	ln -sf release/crier $@

ifneq ($(FLAVOR),release)
build/release/crier:
	$(MAKE) FLAVOR=release $@
endif

$(BUILD)/libcrier.a: $(LIB_OBJ)
	rm -f $@
	ar rcs $@ $^

$(BUILD)/obj/%.o: src/%.c | deps
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD)/unit/%: tests/unit/%.c $(BUILD)/libcrier.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP $(LDFLAGS_ALL) -o $@ $< $(BUILD)/libcrier.a $(PKG_LIBS) -lcmocka

$(BUILD)/sim/%: tests/sim/%.c $(BUILD)/libcrier.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP $(LDFLAGS_ALL) -o $@ $< $(BUILD)/libcrier.a $(PKG_LIBS) -lcmocka

deps:

unit: $(UNIT)
	@set -e; for t in $(UNIT); do $$t; done

clean:
	rm -rf build

-include $(OBJ:.o=.d) $(wildcard $(BUILD)/unit/*.d) $(wildcard $(BUILD)/sim/*.d)
.PHONY: all deps unit clean
