# crier - `make help` lists the targets.

FLAVOR ?= release
BUILD := build/$(FLAVOR)
PREFIX ?= /usr/local

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wpointer-arith -Wundef -Wvla -Wformat=2 -Wwrite-strings
OPT_release := -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong
OPT_debug := -O0 -g3
OPT_asan := -O1 -g -fsanitize=address -fno-omit-frame-pointer
OPT_ubsan := -O1 -g -fsanitize=undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
            -fno-omit-frame-pointer
OPT_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
OPT := $(OPT_$(FLAVOR))
ifeq ($(OPT),)
$(error FLAVOR is "$(FLAVOR)"; it can be release, debug, asan, ubsan, tsan or fuzz)
endif

# wslay has no .pc file. What is missing is said by tests/tools/need, not by these two.
PKGS := libmicrohttpd libnghttp2 jansson libssl libcrypto hiredis libcurl zlib libzstd
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lwslay

CFLAGS_ALL = -std=gnu11 $(WARN) $(WERROR) $(OPT) -Iinclude -D_GNU_SOURCE -pthread $(PKG_CFLAGS) \
             $(CPPFLAGS) $(CFLAGS)
LDFLAGS_ALL = $(OPT) -pthread $(LDFLAGS)

SRC := $(sort $(wildcard src/*/*.c))
OBJ := $(SRC:src/%.c=$(BUILD)/obj/%.o)
LIB_OBJ := $(filter-out $(BUILD)/obj/app/main.o,$(OBJ)) $(BUILD)/obj/web_assets.o
WEB := $(shell LC_ALL=C find web -type f ! -name '.*' ! -name '*~' | LC_ALL=C sort)
UNIT := $(patsubst tests/%.c,$(BUILD)/%,$(sort $(wildcard tests/unit/test_*.c)))
SIM := $(patsubst tests/%.c,$(BUILD)/%,$(sort $(wildcard tests/sim/sim_*.c)))
LOAD := $(patsubst tests/load/%.c,%,$(sort $(wildcard tests/load/load_*.c)))
LOAD_LIB := $(filter-out tests/load/load_%,$(wildcard tests/load/*.c))
NET := $(patsubst tests/%,%,$(sort $(wildcard tests/net/*.test.js)))
# Run again with all clients over TLS; these are about what a client sees of its own connection.
NET_TLS := $(patsubst %,net/%.test.js,api binary browser chat cors delivery errors h2 h2-floods h2-ws hostile \
             http-strict overload pack poll publish resume shutdown slow sse sse-coding workers ws ws-deflate \
             ws-frames ws-handshake ws-limits ws-raw ws-upgrade)
# And again over HTTP/2, agreed on by ALPN as browsers do: a request is a request.
NET_H2 := $(patsubst %,net/%.test.js,api chat cors errors poll publish sse ws ws-frames ws-raw)
TLS_FLAGS := --tls-port 8443 --tls-cert build/tls/cert.pem --tls-key build/tls/key.pem
define TLS_WORDS
crier: open https://localhost:8443 (the browser asks once: nobody else has signed this certificate)
crier: curl takes it with --cacert build/tls/cert.pem, crier publish and subscribe with --ca
endef
export TLS_WORDS
FORMATTED := $(wildcard include/crier/*.h src/*/*.[ch] tests/*/*.[ch])

all: $(BUILD)/crier ## build crier (FLAVOR=release|debug|asan|ubsan|tsan)

$(BUILD)/crier: $(BUILD)/obj/app/main.o $(BUILD)/libcrier.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

ifeq ($(BUILD),build/release)
all: build/crier
build/crier: $(BUILD)/crier
	ln -sf release/crier $@
endif

$(BUILD)/libcrier.a: $(LIB_OBJ)
	rm -f $@
	ar rcs $@ $^

$(BUILD)/obj/%.o: src/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# The folders are prerequisites because a page that was removed changes nothing else.
$(BUILD)/web_assets.c: tests/tools/embed_web $(WEB) $(shell find web -type d)
	@mkdir -p $(@D)
	tests/tools/embed_web $(WEB) >$@.part && mv $@.part $@

$(BUILD)/obj/web_assets.o: $(BUILD)/web_assets.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -c -o $@ $<

$(UNIT) $(SIM): $(BUILD)/%: tests/%.c $(BUILD)/libcrier.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP $(LDFLAGS_ALL) -o $@ $(filter %.c %.a,$^) $(PKG_LIBS) -lcmocka

# Rewritten, and so everything rebuilt, when the compiler or its flags change.
$(BUILD)/flags: FORCE | $(BUILD)/need
	@echo '$(CC) $(CFLAGS_ALL)' | cmp -s - $@ || echo '$(CC) $(CFLAGS_ALL)' >$@

$(BUILD)/need: tests/tools/need
	@tests/tools/need check build
	@mkdir -p $(@D) && touch $@

run: ## build, serve the demo on http://localhost:8080 (REDIS=1: over Redis; TLS=1: https on 8443 too)
	@tests/tools/need install build $(if $(REDIS),redis) $(if $(TLS),tls)
	@$(MAKE) --no-print-directory -s all
	@$(if $(TLS),tests/tools/local_certificate build/tls && echo "$$TLS_WORDS" >&2)
	@exec $(if $(REDIS),tests/tools/with_redis) $(BUILD)/crier serve $(if $(TLS),$(TLS_FLAGS))

test: ## install what is missing, build, run all tests
	@tests/tools/need install build unit net
	@$(MAKE) --no-print-directory -s -k all unit sim net

# Each program says its own result; a failure does not hide the others'.
define run_programs
@tests/tools/need check unit
@failed=; for t in $^; do $$t || failed="$$failed $$t"; done; \
if [ -n "$$failed" ]; then echo "FAILED:$$failed" >&2; exit 1; fi
endef

unit: $(UNIT) ## run tests/unit
	$(run_programs)

sim: $(SIM) ## run tests/sim
	$(run_programs)

net: net_clear net_tls net_h2 ## run tests/net against the binary: in clear, over TLS, over HTTP/2

net_clear: $(BUILD)/crier tests/node_modules/.package-lock.json
	@cd tests && CRIER_BIN=$${CRIER_BIN:-$(abspath $(BUILD)/crier)} \
	node --test --test-reporter=spec $(NET)

net_tls: $(BUILD)/crier tests/node_modules/.package-lock.json
	$(call net_over_tls,$(NET_TLS))

net_h2: $(BUILD)/crier tests/node_modules/.package-lock.json
	$(call net_over_tls,$(NET_H2),CRIER_TEST_HTTP2=1)

define net_over_tls
@tests/tools/local_certificate build/tls
@cd tests && CRIER_BIN=$${CRIER_BIN:-$(abspath $(BUILD)/crier)} $(2) \
CRIER_TEST_TLS=$(abspath build/tls) NODE_EXTRA_CA_CERTS=$(abspath build/tls/cert.pem) \
node --test --test-reporter=spec $(1)
endef

# npm writes this file last.
tests/node_modules/.package-lock.json: tests/package-lock.json
	@tests/tools/need check net
	@npm ci --prefix tests --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

$(LOAD:%=$(BUILD)/load/%): $(BUILD)/load/%: tests/load/%.c $(LOAD_LIB) $(wildcard tests/load/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $(filter %.c,$^) -lssl -lcrypto

# One measurement is `make load_idle` and so on; they need two cores and a quiet machine. With
# TLS=1.2 or TLS=1.3 the clients of load_idle, load_idle_cpu, load_burst, load_rates and
# load_h2 speak that.
$(LOAD): %: $(BUILD)/load/% $(BUILD)/crier
	@$(if $(TLS),tests/tools/local_certificate build/tls)
	@CRIER_BIN=$${CRIER_BIN:-$(abspath $(BUILD)/crier)} LOAD_TLS=$(TLS) \
	LOAD_TLS_FILES=$(abspath build/tls) $<

load: $(LOAD) ## measure costs (docs/BENCHMARKS.md)

FUZZ_SECONDS ?= 60
FUZZ := $(patsubst tests/%.c,$(BUILD)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))

fuzz: ## run tests/fuzz for FUZZ_SECONDS each (60; needs clang)
	@tests/tools/need check fuzz
	@$(MAKE) --no-print-directory -s FLAVOR=fuzz CC=clang fuzz_run

fuzz_run: $(FUZZ)
	@for f in $^; do \
	    name=$${f##*/fuzz_}; dir=$(BUILD)/fuzz/$$name.corpus; mkdir -p $$dir.found; \
	    tests/fuzz/$${name}_corpus $$dir && \
	    $$f -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
	        -artifact_prefix=$(BUILD)/fuzz/ -print_final_stats=1 -verbosity=0 $$dir.found $$dir || exit 1; \
	done

$(FUZZ): $(BUILD)/%: tests/%.c $(BUILD)/libcrier.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $(filter %.c %.a,$^) $(PKG_LIBS)

conformance: $(BUILD)/crier ## h2spec against HTTP/2 (optional: needs Go)
	@tests/tools/conformance $<

lint: ## clang-format, clang-tidy, cppcheck, include arrows
	@tests/tools/need check build unit lint
	@clang-format --dry-run -Werror $(FORMATTED)
	@tests/check_layers --self-test
	@tests/check_layers
	@cppcheck --quiet --error-exitcode=1 --enable=warning,performance,portability \
	    --inline-suppr --suppressions-list=tests/tools/cppcheck.txt -Iinclude src
	@clang-tidy --quiet $(SRC) -- -std=gnu11 -Iinclude -D_GNU_SOURCE $(PKG_CFLAGS)

format: ## clang-format the C files in place
	clang-format -i $(FORMATTED)

install: all ## install the binary (PREFIX, DESTDIR)
	install -D -m 755 $(BUILD)/crier $(DESTDIR)$(PREFIX)/bin/crier

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/crier

clean: ## remove what was built
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z]*\):.* ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

-include $(OBJ:.o=.d) $(UNIT:=.d) $(SIM:=.d) $(FUZZ:=.d)
.DELETE_ON_ERROR:
.PHONY: all run test unit sim net net_clear net_tls net_h2 load $(LOAD) fuzz fuzz_run conformance lint format install uninstall clean \
	help FORCE
