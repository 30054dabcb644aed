//! Why a dial led to no session, in a person's words, and what it means for the pair.
//!
//! The rule: an answer that is *wrong* is `Unproved`, for unproven is not unavailable. *No* answer (refused, timed out,
//! unreachable, closed in the middle) is `Silent`; whoever can cause that on the wire could as well cut it.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use certificate_trust::TlsError;
use failover_core::DialOutcome;
use onduty_api::Invalid;
use onduty_api::errors::{self, Refusal};
use service_kit::codes::Code;
use service_kit::with_causes;
use tonic::Status;

/// Where a dial stands; the names are those of the connection test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Name,
    Tcp,
    Tls,
    Trust,
    Key,
    /// The first beat after the proof; only a connection test waits for it by itself.
    Report,
}

/// A dial that led to no session.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// How far it came.
    pub(crate) stage: Stage,
    /// What it means.
    pub(crate) outcome: DialOutcome,
    /// What is wrong; its page is in `docs/errors/`.
    pub(crate) code: &'static str,
    /// How to mend it.
    pub(crate) hint: &'static str,
    /// Whether it was this very node that answered.
    pub(crate) own: bool,
}

impl Failure {
    fn silent(stage: Stage, code: Code, seen: String, hint: &'static str) -> Self {
        Self { stage, outcome: DialOutcome::Silent(seen), code: code.as_str(), hint, own: false }
    }

    fn unproved(stage: Stage, code: &'static str, seen: String, hint: &'static str) -> Self {
        Self { stage, outcome: DialOutcome::Unproved(seen), code, hint, own: false }
    }

    pub(crate) fn sentence(&self) -> &str {
        match &self.outcome {
            DialOutcome::Silent(seen) | DialOutcome::Unproved(seen) => seen,
        }
    }

    /// Under which reason it is counted; `None`: nobody was there.
    pub(crate) const fn counted_as(&self) -> Option<&'static str> {
        if !self.is_unproved() {
            return None;
        }
        Some(match self.stage {
            Stage::Name | Stage::Tcp | Stage::Tls => "dialled_foreign",
            Stage::Trust => "dialled_untrusted",
            Stage::Key | Stage::Report => "dialled_unproved",
        })
    }

    pub(crate) const fn is_unproved(&self) -> bool {
        matches!(self.outcome, DialOutcome::Unproved(_))
    }

    pub(crate) fn name(trouble: String) -> Self {
        Self::silent(
            Stage::Name,
            Code::NameUnresolved,
            trouble,
            "Check the host in `redundancy.secondary.address` and the name servers.",
        )
    }

    pub(crate) fn connect(address: SocketAddr, error: &io::Error) -> Self {
        let (code, seen, hint) = if error.kind() == io::ErrorKind::ConnectionRefused {
            (
                Code::ConnectionRefused,
                format!("{address} refused the connection"),
                "Is onduty running there, on this port? A firewall may refuse on its behalf.",
            )
        } else {
            let seen = format!("{address} cannot be reached: {error}");
            (Code::Unreachable, seen, "Check cables, routes and firewalls.")
        };
        Self::silent(Stage::Tcp, code, seen, hint)
    }

    /// The deadline of the whole dial came while it stood at `stage`.
    pub(crate) fn timed_out(address: SocketAddr, stage: Stage) -> Self {
        Self::no_answer(address, stage, "in time")
    }

    /// A step of a connection test has waited for as long as it may.
    pub(crate) fn waited(address: SocketAddr, stage: Stage, limit: Duration) -> Self {
        Self::no_answer(address, stage, &format!("within {limit:?}"))
    }

    fn no_answer(address: SocketAddr, stage: Stage, when: &str) -> Self {
        let doing = match stage {
            Stage::Name => "the name lookup",
            Stage::Tcp => "the TCP connection",
            Stage::Tls | Stage::Trust => "the TLS handshake",
            Stage::Key => "the proof of the key",
            Stage::Report => "the wait for its first report",
        };
        let hint = "Nothing answers in time: the machine or the process may stand still, or a firewall drops packets.";
        let seen = format!("{address} did not answer {when} during {doing}");
        Self::silent(stage, Code::NoAnswer, seen, hint)
    }

    pub(crate) fn tombstone(address: SocketAddr) -> Self {
        let seen = format!("onduty at {address} has died; its guard answers instead");
        Self::silent(Stage::Tls, Code::GuardAnswers, seen, "Start onduty there again.")
    }

    pub(crate) fn tls(address: SocketAddr, error: &TlsError) -> Self {
        let seen = format!("TLS with {address} failed: {}", with_causes(error));
        let foreign = "Something other than onduty answers on this port: check address and port.";
        match error {
            TlsError::Closed | TlsError::Io(_) => Self::silent(
                Stage::Tls,
                Code::ClosedEarly,
                format!("{address} closed the connection during the TLS handshake"),
                "Something accepts connections and ends them: onduty may be starting or overrun, or a proxy has no backend.",
            ),
            TlsError::Stopping => Self::silent(Stage::Tls, Code::ClosedEarly, seen, ""),
            TlsError::Certificate { .. } => {
                Self::unproved(Stage::Trust, error.code(), seen, certificate_hint(error.code()))
            }
            TlsError::Store(_) => Self::unproved(
                Stage::Trust,
                error.code(),
                seen,
                "Make `pki/trusted/certs` readable for the onduty process.",
            ),
            TlsError::BadSignature => Self::unproved(
                Stage::Trust,
                error.code(),
                seen,
                "Somebody shows a certificate that is not theirs: look for a proxy or an attack.",
            ),
            TlsError::BadHost { .. } => Self::unproved(
                Stage::Tls,
                error.code(),
                seen,
                "Correct the host in `redundancy.secondary.address`.",
            ),
            TlsError::NotTls => Self::unproved(Stage::Tls, error.code(), seen, foreign),
            TlsError::Version(_) => Self::unproved(
                Stage::Tls,
                error.code(),
                seen,
                "onduty speaks TLS 1.3 only: something else answers on this port, or a proxy stands between the nodes.",
            ),
            // `NoCertificate` is said by an accepting end alone.
            TlsError::RefusedByPeer { .. }
            | TlsError::NoCertificate
            | TlsError::Alpn
            | TlsError::Resumed
            | TlsError::Handshake { .. } => {
                Self::unproved(Stage::Tls, Code::NotOnduty.as_str(), seen, foreign)
            }
        }
    }

    /// HTTP/2 itself failed, before or between the messages.
    pub(crate) fn http(address: SocketAddr, error: &(dyn Error + 'static)) -> Self {
        if is_broken_connection(error) {
            Self::closed(address)
        } else {
            Self::foreign(address, "HTTP/2 failed")
        }
    }

    /// The call ended although a message is due.
    pub(crate) fn ended(address: SocketAddr) -> Self {
        Self::foreign(address, "the call ended in the middle of the proof")
    }

    pub(crate) fn invalid(address: SocketAddr, invalid: &Invalid) -> Self {
        Self::foreign(address, &format!("a message breaks a rule: {invalid}"))
    }

    pub(crate) fn out_of_order(address: SocketAddr) -> Self {
        Self::foreign(address, "the messages are out of order")
    }

    pub(crate) fn selfie(address: SocketAddr) -> Self {
        Self { own: true, ..Self::refused(address, Refusal::Selfie) }
    }

    pub(crate) fn version(address: SocketAddr) -> Self {
        Self::refused(address, Refusal::Version)
    }

    /// The other end let us in but could not prove that it knows the key.
    pub(crate) fn impostor(address: SocketAddr) -> Self {
        let seen = format!("{address} does not know the key although it claims to");
        Self::unproved(
            Stage::Key,
            Code::Impostor.as_str(),
            seen,
            "Somebody plays the other node: look for an attack.",
        )
    }

    pub(crate) fn no_random() -> Self {
        let seen = "the system gives no random bytes".to_owned();
        Self::silent(Stage::Key, Code::ClosedEarly, seen, "")
    }

    /// The call was ended with a status. What it says in words is a stranger's text and goes nowhere.
    pub(crate) fn status(address: SocketAddr, status: &Status) -> Self {
        // A status that was made here out of an error of the connection has that error as its source.
        if let Some(source) = status.source() {
            return Self::http(address, source);
        }
        if let Some(refusal) = errors::refusal(status) {
            return Self::refused(address, refusal);
        }
        let code = status.code();
        if code == tonic::Code::Unauthenticated {
            Self::unproved(
                Stage::Key,
                Code::KeyMismatch.as_str(),
                format!("{address} refused the proof of the key: the two nodes have different keys"),
                "Copy the key file of one node to the other (`redundancy.key_file`).",
            )
        } else if code == tonic::Code::Unavailable {
            // The other node stops, or a proxy has nothing behind it: nobody is there.
            Self::silent(
                Stage::Key,
                Code::ClosedEarly,
                format!("{address} answers that it is not available"),
                "The other node is stopping, or a proxy has no backend.",
            )
        } else {
            Self::foreign(address, &format!("the call was refused ({code:?})"))
        }
    }

    fn closed(address: SocketAddr) -> Self {
        Self::silent(
            Stage::Key,
            Code::ClosedEarly,
            format!("{address} closed the connection before the key was proved"),
            "The other node may be stopping or overrun, or a proxy has no backend.",
        )
    }

    fn foreign(address: SocketAddr, what: &str) -> Self {
        Self::unproved(
            Stage::Key,
            Code::NotOnduty.as_str(),
            format!("what answers at {address} does not speak the onduty protocol: {what}"),
            "Something other than onduty, or another version of it, answers on this port: check address and port.",
        )
    }

    fn refused(address: SocketAddr, refusal: Refusal) -> Self {
        let hint = match refusal {
            Refusal::TlsTerminatedBetween => {
                "Remove the proxy between the nodes, or set `redundancy.channel_binding = \"off\"` on both."
            }
            Refusal::ChannelBinding => "Set `redundancy.channel_binding` alike on both nodes.",
            Refusal::Selfie => "Set `redundancy.secondary.address` to the address of the other node.",
            Refusal::Version => "Bring both nodes to the same version of onduty.",
            Refusal::ClientCertificate => {
                "There, `onduty events` says why. An unknown one is in `onduty certs list` there: compare its fingerprint with \
                 `onduty certs show` here, then trust it there with `onduty certs trust`."
            }
            Refusal::Pair => "Set `redundancy.pair` alike on both nodes.",
        };
        Self::unproved(Stage::Key, refusal.code(), format!("{address}: {refusal}"), hint)
    }
}

/// The most telling one: something wrong before nothing at all, and the one that came farthest.
pub(crate) fn most_telling(failures: Vec<Failure>) -> Option<Failure> {
    failures.into_iter().rev().max_by_key(|failure| (failure.is_unproved(), failure.stage))
}

/// Whether the connection is gone, rather than that something wrong came over it.
fn is_broken_connection(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            let polite = h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR);
            return h2.is_io() || polite;
        }
        if error.is::<io::Error>() {
            return true;
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(|e| e.is_canceled() || e.is_closed()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What to do about a refused certificate, by the code of the refusal.
fn certificate_hint(code: &str) -> &'static str {
    match code {
        "tls.unknown_certificate" | "tls.unknown_issuer" => {
            "Compare the fingerprint with the one the other node shows, then trust it: `onduty certs trust FINGERPRINT`."
        }
        "tls.name_mismatch" => {
            "Dial a name or an address that is in the certificate (`redundancy.secondary.address`): the other node's \
             `node.name`, host name or IP address; or give that node a certificate for the name."
        }
        _ => {
            "Trusting it again would not help: `docs/errors/` has a page for the code at the end of the line."
        }
    }
}
