//! `onduty completions`.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::cli::Cli;
use crate::failure::Failure;

/// Prints the completions for `shell`.
pub(crate) fn run(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "onduty", &mut script);
    match io::stdout().lock().write_all(&script) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::failed(format!("printing the completions: {error}"))),
    }
}
