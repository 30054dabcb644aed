//! Which crate may depend on which. Dependencies only point down:
//!
//! ```text
//!  F4  onduty
//!  F3  heartbeat-client  heartbeat-server  management
//!  F2  certificate-trust  plugin-supervisor  duty          (these do not know each other)
//!  F1  onduty-api  service-kit  journal
//!  F0  failover-core                                       (pure: no clock, no async, no randomness)
//! ```
//!
//! Read from the manifests, so that a wrong edge is refused before anybody has used it. Crates outside `crates/`
//! (tests, benches, this tool) stand beside the house and may use all of it.

use super::{Example, Finding, Rule, TextFile};

/// The floor of each crate.
const FLOOR_OF: [(&str, u8); 11] = [
    ("failover-core", 0),
    ("onduty-api", 1),
    ("service-kit", 1),
    ("journal", 1),
    ("certificate-trust", 2),
    ("plugin-supervisor", 2),
    ("duty", 2),
    ("heartbeat-client", 3),
    ("heartbeat-server", 3),
    ("management", 3),
    ("onduty", 4),
];

/// The edges within a floor that are allowed. `service-kit` has the clock that everybody counts by.
const SAME_FLOOR: [(&str, &str); 1] = [("journal", "service-kit")];

/// All that the core may use: nothing that waits, tells the time, rolls dice or does input or output.
const CORE_MAY_USE: [&str; 2] = ["serde", "thiserror"];

/// What generated code is made with. The well-known types (`prost-types`) are plain data and may be used anywhere.
const GENERATORS: [&str; 4] = ["prost", "prost-build", "tonic-prost", "tonic-prost-build"];

/// Dependencies point down.
pub(super) const FLOORS: Rule = Rule {
    name: "floors",
    reason: "dependencies only point down, so that each floor can be understood and tested without those above it",
    check: |file, _| {
        let Some(own) = crate_of(file) else { return Vec::new() };
        let Some(floor) = floor_of(own) else {
            let what = format!(
                "`{own}` stands on no floor; name it in xtask/src/tidy/floors.rs and ARCHITECTURE.md"
            );
            return vec![Finding { line: 1, what }];
        };
        let refused = |edge: &Edge| {
            let other = floor_of(&edge.to)?;
            let allowed = other < floor || (other == floor && may_stay(own, edge));
            let what = format!("`{own}` (F{floor}) depends on `{}` (F{other})", edge.to);
            (!allowed).then_some(Finding { line: edge.line, what })
        };
        edges(file).iter().filter_map(refused).collect()
    },
    refused: &[
        (2, Example::of("crates/duty/Cargo.toml", "[dependencies]\nmanagement.workspace = true\n")),
        (2, Example::of("crates/duty/Cargo.toml", "[dependencies]\nplugin-supervisor.workspace = true\n")),
        (
            2,
            Example::of(
                "crates/journal/Cargo.toml",
                "[build-dependencies]\nonduty = { path = \"../onduty\" }\n",
            ),
        ),
        (
            2,
            Example::of(
                "crates/duty/Cargo.toml",
                "[target.'cfg(unix)'.dependencies]\nonduty.workspace = true\n",
            ),
        ),
        (2, Example::of("crates/duty/Cargo.toml", "[dev-dependencies]\nonduty.workspace = true\n")),
        (1, Example::of("crates/unknown/Cargo.toml", "[dependencies]\n")),
    ],
    accepted: &[
        Example::of(
            "crates/duty/Cargo.toml",
            "[dependencies]\njournal.workspace = true\ntokio.workspace = true\n",
        ),
        Example::of("crates/journal/Cargo.toml", "[dependencies]\nservice-kit.workspace = true\n"),
        Example::of(
            "crates/heartbeat-client/Cargo.toml",
            "[dev-dependencies]\nheartbeat-server.workspace = true\n",
        ),
        Example::of("crates/management/Cargo.toml", "[dev-dependencies]\ntest-support.workspace = true\n"),
        Example::of("tests/simulation/Cargo.toml", "[dependencies]\nonduty.workspace = true\n"),
        Example::of("Cargo.toml", "[workspace.dependencies]\nonduty = { path = \"crates/onduty\" }\n"),
    ],
};

/// The core stays pure.
pub(super) const PURE_CORE: Rule = Rule {
    name: "pure-core",
    reason: "the rules of the pair take the time as a parameter and do nothing themselves; that makes them testable",
    check: |file, _| {
        let foreign = |edge: &Edge| !edge.for_tests && !CORE_MAY_USE.contains(&edge.to.as_str());
        let finding = |edge: Edge| {
            let what = format!("`failover-core` depends on `{}`; only {CORE_MAY_USE:?} are allowed", edge.to);
            Finding { line: edge.line, what }
        };
        let is_core = crate_of(file) == Some("failover-core");
        if is_core { edges(file).into_iter().filter(foreign).map(finding).collect() } else { Vec::new() }
    },
    refused: &[
        (
            3,
            Example::of(
                "crates/failover-core/Cargo.toml",
                "[dependencies]\nserde.workspace = true\ntokio = \"1\"\n",
            ),
        ),
        (2, Example::of("crates/failover-core/Cargo.toml", "[dependencies]\nrand = \"0.9\"\n")),
        (2, Example::of("crates/failover-core/Cargo.toml", "[build-dependencies]\ntonic.workspace = true\n")),
    ],
    accepted: &[
        Example::of("crates/failover-core/Cargo.toml", "[dependencies]\nserde.workspace = true\n"),
        Example::of("crates/failover-core/Cargo.toml", "[dev-dependencies]\nproptest.workspace = true\n"),
        Example::of("crates/duty/Cargo.toml", "[dependencies]\ntokio.workspace = true\n"),
    ],
};

/// The wire stays behind one crate.
pub(super) const GENERATED_TYPES: Rule = Rule {
    name: "wire-code",
    reason: "only onduty-api makes types out of messages, so that what comes from outside is validated in one place",
    check: |file, _| {
        let foreign = |edge: &Edge| !edge.for_tests && GENERATORS.contains(&edge.to.as_str());
        let finding = |edge: Edge| {
            let what = format!("`{}` is for onduty-api alone; add a conversion there instead", edge.to);
            Finding { line: edge.line, what }
        };
        let elsewhere = crate_of(file).is_some_and(|own| own != "onduty-api");
        if elsewhere { edges(file).into_iter().filter(foreign).map(finding).collect() } else { Vec::new() }
    },
    refused: &[(2, Example::of("crates/management/Cargo.toml", "[dependencies]\nprost.workspace = true\n"))],
    accepted: &[
        Example::of("crates/onduty-api/Cargo.toml", "[dependencies]\nprost.workspace = true\n"),
        Example::of("crates/management/Cargo.toml", "[dev-dependencies]\ntonic-prost.workspace = true\n"),
        Example::of("crates/onduty/Cargo.toml", "[dependencies]\nprost-types.workspace = true\n"),
        Example::of("xtask/Cargo.toml", "[dependencies]\nprost.workspace = true\n"),
    ],
};

/// One dependency as a manifest names it.
struct Edge {
    to: String,
    line: usize,
    for_tests: bool,
}

/// The name of the crate whose manifest this is, for crates in `crates/`.
fn crate_of(file: &TextFile) -> Option<&str> {
    let name = file.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
    (!name.contains('/')).then_some(name)
}

fn floor_of(name: &str) -> Option<u8> {
    FLOOR_OF.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

/// Whether an edge may stay within its floor: a listed one, or a test's that joins two neighbours.
fn may_stay(own: &str, edge: &Edge) -> bool {
    edge.for_tests || SAME_FLOOR.contains(&(own, edge.to.as_str()))
}

/// Every dependency of a manifest: of the library, the build script and the tests, on every platform.
fn edges(file: &TextFile) -> Vec<Edge> {
    let Ok(manifest) = file.text.parse::<toml::Table>() else { return Vec::new() };
    let per_platform = manifest.get("target").and_then(toml::Value::as_table).into_iter().flatten();
    let tables = per_platform.filter_map(|(_, table)| table.as_table()).chain(std::iter::once(&manifest));
    let kinds = ["dependencies", "build-dependencies", "dev-dependencies"];
    let sections =
        tables.flat_map(|table| kinds.map(|kind| (kind, table.get(kind).and_then(toml::Value::as_table))));
    let of_section = |(kind, section): (&str, Option<&toml::Table>)| {
        let for_tests = kind == "dev-dependencies";
        let edge = |name: &String| Edge { to: name.clone(), line: line_of(&file.text, name), for_tests };
        section.into_iter().flatten().map(|(name, _)| edge(name)).collect::<Vec<_>>()
    };
    sections.flat_map(of_section).collect()
}

/// The line on which a dependency is named; the first one, should it be named twice.
fn line_of(text: &str, name: &str) -> usize {
    let names = |line: &str| {
        let rest = line.trim_start().strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    text.lines().position(names).map_or(1, |index| index + 1)
}
