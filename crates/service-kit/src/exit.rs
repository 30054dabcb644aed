//! How the commands end, so that scripts can tell one reason from another. Documented in `docs/configuration.md`.

use std::fmt::Write as _;
use std::process::ExitCode;

/// Why a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Ok,
    /// It did not; the message says why.
    Failed,
    /// The command line cannot be understood.
    Usage,
    /// The settings cannot be used.
    Settings,
    /// The node does not answer.
    Unreachable,
    /// The node answered, and refused.
    Refused,
    /// The answer is "no": redundancy is not ready, a check found something.
    NotReady,
    /// It took longer than allowed; it may still go on in the node.
    TimedOut,
}

impl Exit {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Ok, "it did what was asked"),
        (Self::Failed, "it did not; the message says why"),
        (Self::Usage, "the command line cannot be understood"),
        (Self::Settings, "the settings cannot be used; every problem is listed"),
        (Self::Unreachable, "the node does not answer"),
        (Self::Refused, "the node answered, and refused"),
        (Self::NotReady, "the answer is no: redundancy is not ready, a check found something"),
        (Self::TimedOut, "it took longer than allowed; it may still go on in the node"),
    ];

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Settings => 3,
            Self::Unreachable => 4,
            Self::Refused => 5,
            Self::NotReady => 6,
            Self::TimedOut => 7,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table for the documentation.
#[must_use]
pub fn reference_markdown() -> String {
    let mut table = "## Exit codes\n\n| code | meaning |\n| --- | --- |\n".to_owned();
    for (exit, what) in Exit::ALL {
        let _ = writeln!(table, "| {} | {what} |", exit.code());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_used_once_and_in_order() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, (0..8).collect::<Vec<u8>>());
    }
}
