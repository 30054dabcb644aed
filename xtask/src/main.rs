//! The workspace's own chores, so that everybody and every machine does them the same way.
//!
//! ```text
//!  cargo xtask tidy              tidy.rs      rules that no compiler checks: floors, headers, sizes, words
//!  cargo xtask codegen [--check] codegen.rs   proto/ → crates/onduty-api/src/generated, compiled without protoc
//!                               contract.rs  what the comments of proto/ have to say
//!  cargo xtask docs              docs.rs      settings and state machine → docs/
//! ```
//!
//! Called by people, by `just` and by `.ci/run`. Each chore prints what it did on standard output, what is wrong on
//! standard error, and exits with 0 (done), 1 (something is wrong) or 2 (called wrongly).
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks through its two streams"
)]

mod codegen;
mod contract;
mod docs;
mod tidy;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <tidy | codegen [--check] | docs>";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome: Result<(), Box<dyn Error>> = match words.as_slice() {
        ["tidy"] => tidy::run(&root()).map_err(Into::into),
        ["codegen"] => codegen::run(&root(), false),
        ["codegen", "--check"] => codegen::run(&root(), true),
        ["docs"] => docs::run(&root()).map_err(Into::into),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("{complaint}");
            ExitCode::from(1)
        }
    }
}

/// The folder of the workspace: the parent of this crate's, wherever the command is called from.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}
