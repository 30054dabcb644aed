//! How a command fails: an exit code and a sentence.

use std::process::ExitCode;

use service_kit::exit::Exit;

/// A command could not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: Exit, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// For no more specific reason.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The settings are wrong.
    pub(crate) fn settings(message: impl Into<String>) -> Self {
        Self::new(Exit::Settings, message)
    }

    /// No node answers.
    pub(crate) fn no_node(message: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, message)
    }

    /// It cannot be done now.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// The same, with what it is about in front.
    pub(crate) fn about(self, what: &str) -> Self {
        Self { code: self.code, message: format!("{what}: {}", self.message) }
    }

    /// Says it on the standard error and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            crate::output::complain(&self.message);
        }
        self.code.into()
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        let message = status.message();
        match status.code() {
            Code::FailedPrecondition | Code::Aborted | Code::InvalidArgument => Self::refused(message),
            Code::Unavailable => Self::no_node(format!("the node ended the connection: {message}")),
            Code::DeadlineExceeded | Code::Cancelled => Self::new(
                Exit::TimedOut,
                "no answer in time; what was asked for may still be under way: see `onduty status`",
            ),
            Code::Ok
            | Code::Unknown
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => Self::failed(message),
        }
    }
}
