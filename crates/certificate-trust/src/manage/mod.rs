//! What people do with the PKI folders: look, trust, reject, import, export, delete.
//!
//! ```text
//!   rejected ── trust ──► trusted ── reject ──► distrusted ── trust ──► trusted
//!      └─────── reject ─────────────────────────────▲
//!   a file from outside ── import ──► trusted, issuers, crl           delete: gone from one place
//! ```
//!
//! A file of each change is written whole before another is removed, and what speaks against a certificate is written first:
//! a power cut in between leaves no more trusted than before or after. Everything works on files alone; a
//! running node notices it as it notices a change by hand.

mod change;
mod import;
mod look;
mod own;

use core::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::bundle::Der;
use crate::certificate::CertificateFacts;
use crate::identity::IdentityError;
use crate::pki::PkiError;

pub use import::ImportAs;
pub(crate) use own::{rename, turn};

/// Where a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// This node's own.
    Own,
    /// Trusted, and if it is an authority's also what it has signed.
    Trusted,
    /// It completes chains and is not trusted.
    Issuers,
    /// An unknown peer has shown it; nobody has decided.
    Rejected,
    /// An operator has rejected it.
    Distrusted,
}

impl Place {
    /// Every one, in the order of a list.
    pub const ALL: [Self; 5] = [Self::Own, Self::Trusted, Self::Issuers, Self::Rejected, Self::Distrusted];

    /// The name for people and machines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Trusted => "trusted",
            Self::Issuers => "issuers",
            Self::Rejected => "rejected",
            Self::Distrusted => "distrusted",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One certificate in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub place: Place,
    /// In which file.
    pub file: PathBuf,
    /// What it says.
    pub facts: CertificateFacts,
    /// The certificate.
    pub der: Der,
    /// Why it was refused, if the file says so.
    pub reason: Option<String>,
    /// When it was first seen or decided about, if the file says so, as RFC 3339.
    pub since: Option<String>,
    /// When the file was last changed; of a captured certificate, when it was last shown, in Unix seconds.
    pub changed_unix: u64,
}

impl Entry {
    /// Whether it is the node's own one that connections are shown now, not the next one.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.place == Place::Own
            && self.file.file_name().is_some_and(|name| name == crate::identity::CERTIFICATE)
    }
}

/// One revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlEntry {
    /// In which file.
    pub file: PathBuf,
    /// Whose it is, for people.
    pub issuer: String,
    /// When it was made, in Unix seconds.
    pub made_unix: i64,
    /// When the next one was to be made, in Unix seconds; certificates of the issuer are refused afterwards.
    pub next_unix: Option<i64>,
    /// How many certificates it revokes.
    pub revoked: usize,
}

/// Everything in the folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The certificates, by place and file.
    pub entries: Vec<Entry>,
    /// The revocation lists.
    pub crls: Vec<CrlEntry>,
    /// Files that are no use, and why.
    pub problems: Vec<String>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A certificate is trusted now.
    Trusted,
    /// A certificate is rejected now.
    Rejected,
    /// Certificates or lists came from outside.
    Imported,
    /// Something is gone.
    Deleted,
    /// The next own certificate is there, and not shown yet.
    Prepared,
    /// New connections are shown another own certificate.
    Shown,
}

impl Action {
    /// The machine code, for journals.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Trusted => "certs.trusted",
            Self::Rejected => "certs.rejected",
            Self::Imported => "certs.imported",
            Self::Deleted => "certs.deleted",
            Self::Prepared => "certs.prepared",
            Self::Shown => "certs.shown",
        }
    }
}

/// One certificate that a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What it says.
    pub facts: CertificateFacts,
    /// Where it was; empty if it is new.
    pub from: Vec<Place>,
    /// Where it is now.
    pub to: Option<Place>,
}

/// What a change did. As text it is one sentence, for the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub action: Action,
    /// To which certificates.
    pub certificates: Vec<Moved>,
    /// To the revocation lists of these issuers.
    pub crls: Vec<String>,
    /// What the operator should know besides, each a sentence.
    pub notes: Vec<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificates = self.certificates.iter().map(|moved| {
            let from: Vec<&str> = moved.from.iter().map(|place| place.as_str()).collect();
            let (from, facts) = (from.join(" and "), &moved.facts);
            match (moved.to, from.is_empty()) {
                (Some(_), _) if self.action == Action::Prepared => {
                    format!("the certificate {facts} is this node's next one, and nobody is shown it yet")
                }
                (Some(_), _) if self.action == Action::Shown => {
                    format!("the certificate {facts} is this node's own now: new connections are shown it")
                }
                (Some(to), true) => format!("the certificate {facts} is in `{to}` now"),
                (Some(to), false) => format!("the certificate {facts} is in `{to}` now, and was in `{from}`"),
                (None, _) => format!("the certificate {facts} is no longer in `{from}`"),
            }
        });
        let gone = self.action == Action::Deleted;
        let lists = self.crls.iter().map(|issuer| {
            let what = if gone { "is gone" } else { "is here now" };
            format!("the revocation list of `{issuer}` {what}")
        });
        f.write_str(
            &certificates.chain(lists).chain(self.notes.iter().cloned()).collect::<Vec<_>>().join("; "),
        )
    }
}

/// A certificate, ready to be handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Everywhere it is.
    pub entries: Vec<Entry>,
    /// It, and of the own certificate also what it was signed by.
    pub chain: Vec<Der>,
}

impl Exported {
    /// All of it in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.chain.iter().map(|der| crate::rejected::pem(der)).collect()
    }
}

/// Why nothing was done.
#[derive(Debug, Error)]
pub enum ManageError {
    /// No certificate of that name.
    #[error("no certificate here has a fingerprint that begins with `{query}`, or a file of that name")]
    NotFound {
        /// What was asked for.
        query: String,
    },
    /// Too little to be meant for one.
    #[error(
        "`{query}` is too short: give at least {} digits of the fingerprint, or the file's name",
        look::MIN_DIGITS
    )]
    TooShort {
        /// What was asked for.
        query: String,
    },
    /// Several certificates, or one in several places.
    #[error("`{query}` may mean {}: {hint}", candidates.join(" or "))]
    Ambiguous {
        /// What was asked for.
        query: String,
        /// What it may mean.
        candidates: Vec<String>,
        /// What to do.
        hint: &'static str,
    },
    /// The node's own certificate is not a peer's.
    #[error("this is the node's own certificate, which can only be shown and exported")]
    Own,
    /// An authority needs a word more.
    #[error(
        "`{subject}` is an authority (CA): to trust it means to trust everything it has signed. Say so explicitly, or import it as an intermediate, which only completes chains"
    )]
    IsAuthority {
        /// Whose.
        subject: String,
    },
    /// An authority is asked for and this is none.
    #[error("`{subject}` is no authority (CA): trust it as a certificate of its own")]
    NotAuthority {
        /// Whose.
        subject: String,
    },
    /// It was rejected before.
    #[error("`{subject}` was rejected by an operator: trust it by its fingerprint, which takes that back")]
    WasRejected {
        /// Whose.
        subject: String,
    },
    /// What came is no use.
    #[error("nothing was imported: {why}")]
    Unreadable {
        /// Why.
        why: String,
    },
    /// There are too many already.
    #[error("`{place}` has {most} files already: delete some first")]
    Full {
        /// Where.
        place: Place,
        /// How many may be there.
        most: usize,
    },
    /// Its authority has to renew it.
    #[error(
        "this node's own certificate was signed by `{issuer}`: have a new one signed with `onduty certs request` and `onduty certs install`"
    )]
    SignedByOther {
        /// By whom.
        issuer: String,
    },
    /// An authority is asked already.
    #[error(
        "an authority has been asked for this node's next certificate (`pki/own/next.key`): install its answer with `onduty certs install`, or remove that file"
    )]
    RequestOut,
    /// There is a next certificate already.
    #[error(
        "this node's next certificate is prepared already: show it with `onduty certs renew --now`, or remove `pki/own/next.pem` and `next.key`"
    )]
    NextPrepared,
    /// The own files are no use.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file could not be read or written.
    #[error("the certificate folders cannot be used")]
    Io(#[from] PkiError),
}

impl ManageError {
    /// The machine code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "certs.not_found",
            Self::TooShort { .. } => "certs.too_short",
            Self::Ambiguous { .. } => "certs.ambiguous",
            Self::Own => "certs.own",
            Self::IsAuthority { .. } => "certs.is_authority",
            Self::NotAuthority { .. } => "certs.not_authority",
            Self::WasRejected { .. } => "certs.was_rejected",
            Self::Unreadable { .. } => "certs.unreadable",
            Self::Full { .. } => "certs.full",
            Self::SignedByOther { .. } => "certs.signed_by_other",
            Self::RequestOut => "certs.request_out",
            Self::NextPrepared => "certs.next_prepared",
            Self::Identity(error) => error.code(),
            Self::Io(_) => "pki.io",
        }
    }
}
