//! How a command fails: an exit code, a sentence, and the code whose page in `docs/errors/` says what to do.

use std::borrow::Cow;
use std::process::ExitCode;

use onduty_api::errors;
use service_kit::codes::Code;
use service_kit::exit::Exit;

/// A command could not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// Empty when the sentence needs no page, or has its codes in it.
    code: Cow<'static, str>,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, code: Cow::Borrowed(""), message: message.into() }
    }

    /// The same, with its code.
    pub(crate) fn coded(self, code: Code) -> Self {
        Self { code: Cow::Borrowed(code.as_str()), ..self }
    }

    /// The same, with a code that the node has told.
    pub(crate) fn told(self, code: impl Into<String>) -> Self {
        Self { code: Cow::Owned(code.into()), ..self }
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

    /// It cannot be done now.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message).told("request_refused")
    }

    /// No node answers.
    pub(crate) fn no_node(message: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, message).coded(Code::NoNode)
    }

    /// Whether no node answers.
    pub(crate) fn is_no_node(&self) -> bool {
        self.exit == Exit::Unreachable
    }

    /// The same, with what it is about in front.
    pub(crate) fn about(self, what: &str) -> Self {
        let message = format!("{what}: {}", self.message);
        Self { message, ..self }
    }

    /// The sentence, for somebody who is not at this terminal.
    pub(crate) fn into_message(self) -> String {
        self.message
    }

    /// Says it on the standard error and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match (self.message.as_str(), self.code.as_ref()) {
            ("", _) => {}
            (message, "") => crate::output::complain(message),
            (message, code) => crate::output::complain(&format!("{message} [{code}]")),
        }
        self.exit.into()
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        use std::error::Error as _;
        use tonic::Code as Grpc;
        // What the node says itself comes over the wire and has no cause here.
        let torn = status.source().is_some();
        let message = status.message();
        let reason = errors::reason(&status).map(|reason| reason.to_ascii_lowercase());
        let refused = |code: &str| {
            Self::new(Exit::Refused, message).told(reason.clone().unwrap_or_else(|| code.to_owned()))
        };
        match status.code() {
            Grpc::FailedPrecondition | Grpc::Aborted => refused("request_refused"),
            Grpc::InvalidArgument => refused(Code::BadRequest.as_str()),
            Grpc::ResourceExhausted => refused("request_refused"),
            Grpc::Unavailable if torn => Self::no_node(format!("the node ended the connection: {message}")),
            // The node answers; something of it cannot be used.
            Grpc::Unavailable if reason.is_some() => Self::failed(message),
            // It stops, or a service of it is away.
            Grpc::Unavailable => Self::no_node(message),
            Grpc::DeadlineExceeded | Grpc::Cancelled => Self::new(
                Exit::TimedOut,
                "no answer in time; what was asked for may still be under way: see `onduty status`",
            )
            .coded(Code::TimedOut),
            Grpc::Ok
            | Grpc::Unknown
            | Grpc::NotFound
            | Grpc::AlreadyExists
            | Grpc::PermissionDenied
            | Grpc::OutOfRange
            | Grpc::Unimplemented
            | Grpc::Internal
            | Grpc::DataLoss
            | Grpc::Unauthenticated => Self::failed(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: tonic::Status) -> (String, String, Exit) {
        let Failure { exit, code, message } = Failure::from(status);
        (message, code.into_owned(), exit)
    }

    #[test]
    fn what_the_node_says_itself_is_told_from_a_connection_that_broke() {
        let torn = || {
            let mut status = tonic::Status::unavailable("broken pipe");
            status.set_source(std::sync::Arc::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
            status
        };
        let unusable = errors::with_reason(tonic::Code::Unavailable, "STORE_UNUSABLE", "no such folder");
        for (status, message, code, exit) in [
            (torn(), "the node ended the connection: broken pipe", "no_node", Exit::Unreachable),
            (
                tonic::Status::unavailable("the node is stopping"),
                "the node is stopping",
                "no_node",
                Exit::Unreachable,
            ),
            (unusable, "no such folder", "", Exit::Failed),
            (tonic::Status::resource_exhausted("too busy"), "too busy", "request_refused", Exit::Refused),
        ] {
            assert_eq!(shown(status), (message.to_owned(), code.to_owned(), exit));
        }
    }
}
