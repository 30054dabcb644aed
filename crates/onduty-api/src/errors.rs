//! The one place where errors become gRPC statuses, and statuses become reasons again.
//!
//! A status carries a sentence for people and, as `google.rpc.ErrorInfo`, a reason for machines
//! (<https://google.aip.dev/193>).

use core::fmt;
use core::str::FromStr;
use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::Invalid;

/// The domain of every reason that onduty gives.
pub const DOMAIN: &str = "onduty";

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident => $reason:literal, $journal:literal, $sentence:literal;)+) => {
        /// Why a node that knows the key is not let in. Nobody else is told a reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal { $($(#[$doc])* $name,)+ }

        impl Refusal {
            /// Every refusal.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason as `google.rpc.ErrorInfo` carries it.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)+ }
            }

            /// The code under which rejections are counted and journalled.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $journal,)+ }
            }

            /// One sentence, from the listening node's point of view.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)+ }
            }
        }

        impl FromStr for Refusal {
            type Err = UnknownReason;

            fn from_str(reason: &str) -> Result<Self, UnknownReason> {
                match reason { $($reason => Ok(Self::$name),)+ _ => Err(UnknownReason) }
            }
        }
    };
}

/// A reason that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reason is not known to this version")]
pub struct UnknownReason;

refusals! {
    /// The key is right, but the two ends see different TLS connections.
    TlsTerminatedBetween => "TLS_TERMINATED_BETWEEN", "tls_terminated_between",
        "the key is right, but the TLS connection ends between the two nodes (a proxy or an attack)";
    /// One end binds the proof to the TLS connection and the other does not.
    ChannelBinding => "CHANNEL_BINDING_MISMATCH", "binding_mismatch",
        "the key is right, but only one of the two nodes has `redundancy.channel_binding` on";
    /// The node has met itself.
    Selfie => "SELFIE", "selfie", "the address leads back to this very node";
    /// No common version of the protocol.
    Version => "VERSION_MISMATCH", "version_mismatch", "the two nodes have no version of the protocol in common";
    /// The dialling node's certificate is not accepted, or it shows none.
    ClientCertificate => "CLIENT_CERTIFICATE", "client_certificate",
        "the key is right, but the certificate of the node that dials is not accepted";
    /// Another pair.
    Pair => "PAIR_MISMATCH", "pair_mismatch", "the two nodes have different values of `redundancy.pair`";
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        with_reason(Code::Unauthenticated, refusal.reason(), refusal.sentence())
    }
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        let details = ErrorDetails::with_bad_request_violation(invalid.field.clone(), invalid.rule.clone());
        Self::with_error_details(Code::InvalidArgument, invalid.to_string(), details)
    }
}

/// The one answer to everybody who has not shown that it knows the key.
#[must_use]
pub fn unauthenticated() -> Status {
    Status::unauthenticated("the proof of the pre-shared key was refused")
}

/// A status with a machine-readable reason (UPPER_SNAKE_CASE) and a sentence.
#[must_use]
pub fn with_reason(code: Code, reason: &str, sentence: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, sentence, details)
}

/// The reason that a status of onduty carries, if any.
#[must_use]
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().filter(|info| info.domain == DOMAIN).map(|info| info.reason)
}

/// The refusal that a status of the link carries, if any.
#[must_use]
pub fn refusal(status: &Status) -> Option<Refusal> {
    reason(status)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_the_wire() {
        for refusal in Refusal::ALL {
            let status = Status::from(*refusal);
            let received =
                Status::with_details(status.code(), status.message(), status.details().to_vec().into());
            assert_eq!(super::refusal(&received), Some(*refusal));
        }
    }

    #[test]
    fn the_answer_to_strangers_has_no_reason() {
        assert_eq!(reason(&unauthenticated()), None);
    }

    #[test]
    fn garbage_in_the_details_is_no_reason() {
        let status = Status::with_details(Code::Unauthenticated, "no", vec![0xff; 40].into());
        assert_eq!(reason(&status), None);
        let foreign = ErrorDetails::with_error_info("SELFIE", "example.org", HashMap::new());
        assert_eq!(reason(&Status::with_error_details(Code::Unauthenticated, "no", foreign)), None);
    }

    #[test]
    fn an_invalid_message_names_its_field() {
        let status = Status::from(Invalid::new("report.role", "is not told"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "`report.role` is not told");
    }
}
