# SPDX-License-Identifier: LGPL-2.1-or-later
# The Rust crate, installed as sources where Debian's and Fedora's cargo look for crates: no Rust is needed for that. It is built by
# its users, and by tests/integration/test_rust.py.
rustcratedir = $(datadir)/cargo/registry/xenmsg-$(PACKAGE_VERSION)
rust_crate_files = \
	bindings/rust/Cargo.toml \
	bindings/rust/build.rs \
	bindings/rust/examples/agent.rs \
	bindings/rust/examples/echo.rs \
	bindings/rust/examples/executor.rs \
	bindings/rust/examples/request_reply.rs \
	bindings/rust/examples/topic.rs \
	bindings/rust/src/conn_stream.rs \
	bindings/rust/src/connection.rs \
	bindings/rust/src/error.rs \
	bindings/rust/src/ffi.rs \
	bindings/rust/src/lib.rs \
	bindings/rust/src/message.rs \
	bindings/rust/src/options.rs \
	bindings/rust/src/pending.rs \
	bindings/rust/src/serve.rs \
	bindings/rust/src/stream.rs \
	bindings/rust/src/topic.rs \
	bindings/rust/src/watch.rs
EXTRA_DIST += $(rust_crate_files) bindings/rust/COPYING bindings/rust/Cargo.lock bindings/rust/tests/domain.rs

install-data-hook: install-rust-crate install-go-package
uninstall-hook: uninstall-rust-crate uninstall-go-package
.PHONY: install-rust-crate uninstall-rust-crate

# A folder of a registry has checksums of its files, or says that it has none.
install-rust-crate:
	for file in $(rust_crate_files); do \
		to="$(DESTDIR)$(rustcratedir)/$${file#bindings/rust/}" && $(MKDIR_P) "$${to%/*}" && \
		$(INSTALL_DATA) "$(srcdir)/$$file" "$$to" || exit 1; \
	done
	echo '{"files":{},"package":null}' > "$(DESTDIR)$(rustcratedir)/.cargo-checksum.json"

uninstall-rust-crate:
	rm -rf "$(DESTDIR)$(rustcratedir)"

# The package for Go, installed as sources where Debian's Go looks for packages: no Go is needed for that. tests/integration/test_go.py
# builds it.
gopackagedir = $(datadir)/gocode/src/xenmsg
go_package_files = \
	bindings/go/channel.go \
	bindings/go/conn.go \
	bindings/go/doc.go \
	bindings/go/errors.go \
	bindings/go/frame.go \
	bindings/go/go.mod \
	bindings/go/matching.go \
	bindings/go/receive.go \
	bindings/go/send.go \
	bindings/go/stream.go \
	bindings/go/topic.go \
	bindings/go/watch.go
EXTRA_DIST += $(go_package_files) bindings/go/example_test.go bindings/go/host_test.go bindings/go/internal/chaos/main.go bindings/go/internal/grpc/main.go bindings/go/unit_test.go

.PHONY: install-go-package uninstall-go-package
install-go-package:
	$(MKDIR_P) "$(DESTDIR)$(gopackagedir)"
	for file in $(go_package_files); do \
		$(INSTALL_DATA) "$(srcdir)/$$file" "$(DESTDIR)$(gopackagedir)" || exit 1; \
	done

uninstall-go-package:
	rm -rf "$(DESTDIR)$(gopackagedir)"

clean-local: clean-bindings
.PHONY: clean-bindings
clean-bindings:
	rm -rf rust
	if [ -d go ]; then chmod -R u+w go && rm -rf go; fi
