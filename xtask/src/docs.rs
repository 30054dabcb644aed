//! Writes the generated documents anew. Each of them is the expected value of a *drift test* beside the code it
//! describes; with a variable set the test writes the document instead of comparing it. So the text has one source,
//! and this chore is only a convenient way to call it.
//!
//! ```text
//!  UPDATE_TABLE=1 cargo test -p failover-core --test table   ──►  docs/state-machine.md
//!  UPDATE_DOCS=1  cargo test -p service-kit --lib reference  ──►  docs/configuration.md
//!  UPDATE_DOCS=1  cargo test -p onduty --test errors         ──►  docs/errors/README.md
//! ```

use std::path::Path;
use std::process::Command;

/// The tests that write a document: what to run, the variable that lets it write, the document.
const SOURCES: [(&[&str], &str, &str); 3] = [
    (&["--package", "failover-core", "--test", "table"], "UPDATE_TABLE", "docs/state-machine.md"),
    (&["--package", "service-kit", "--lib", "reference"], "UPDATE_DOCS", "docs/configuration.md"),
    (&["--package", "onduty", "--test", "errors"], "UPDATE_DOCS", "docs/errors/README.md"),
];

/// Runs every drift test in writing mode.
///
/// # Errors
///
/// When cargo cannot be started or a test fails; the sentence names the document.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    for (test, variable, document) in SOURCES {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["test", "--quiet"])
            .args(test)
            .env(variable, "1")
            .current_dir(root)
            .status()
            .map_err(|error| format!("docs: cannot start cargo for {document}: {error}"))?;
        if !status.success() {
            return Err(format!("docs: the test that writes {document} ended with {status}"));
        }
        println!("docs: {document} is up to date");
    }
    Ok(())
}
