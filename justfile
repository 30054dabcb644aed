# The front door. `just` lists what there is; every recipe is a plain command that works without just as well.

# List the recipes.
default:
    @just --list --unsorted

# The demonstration: two real nodes, a kill -9, a takeover and the way back, in half a minute.
demo *ARGS:
    cargo run -- demo {{ARGS}}

# What compilers and tools can say without running anything.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo xtask tidy
    cargo xtask codegen --check

# Every test of the workspace, the promises on real processes among them.
test *ARGS:
    cargo test --workspace {{ARGS}}

# The deterministic simulation alone.
sim *ARGS:
    cargo test --package simulation {{ARGS}}

# N random lives in the background of everything else; the next call goes on where this one ended. Stop it at any time.
simulate N="1000" *ARGS:
    cargo build --release --package simulation --bin simulate
    nice -n 19 target/release/simulate --count {{N}} --state target/simulate.next {{ARGS}}

# The promises on real processes; as root also on network namespaces.
e2e *ARGS:
    cargo test --package onduty --test processes --test netns {{ARGS}}

# The wire as others see it: `buf lint`, a client in Python that operates a real pair, the port's TLS (needs pip).
conformance *ARGS:
    tests/conformance/run {{ARGS}}

# Any bytes into one decoder for so long: handshake, heartbeat, tombstone, certificates, settings (needs cargo-fuzz, nightly).
fuzz TARGET SECONDS="600" *ARGS:
    # The versions that the product is built with. No sanitizer: no code of ours is unsafe, and it is twice as fast without.
    cp Cargo.lock fuzz/Cargo.lock
    mkdir -p fuzz/found/{{TARGET}}
    cargo +nightly fuzz run --sanitizer none {{TARGET}} fuzz/found/{{TARGET}} fuzz/corpus/{{TARGET}} -- -max_total_time={{SECONDS}} {{ARGS}}

# Write everything generated anew: the wire's code and the generated documents.
gen:
    cargo xtask codegen
    cargo xtask docs

# How long a takeover takes: release build, 20 rounds of each scenario on an otherwise idle machine.
bench *ARGS:
    cargo build --release --package onduty --package takeover
    target/release/takeover {{ARGS}}

# Licences, bans and sources of the dependencies (needs cargo-deny).
deny:
    cargo deny check licenses bans sources

# All that a change has to pass, in tiers.
ci *ARGS:
    .ci/run {{ARGS}}
