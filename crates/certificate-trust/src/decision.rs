//! The decision about one certificate. Pure: what is trusted, the time and the question come in, a verdict goes out. The
//! handshake and the offline check for people call the same function.
//!
//! ```text
//!   trust = all ──────────────────────────────────────────────────► accepted, whatever it is
//!   nothing can be known, or it cannot be read ───────────────────► refused
//!   in `distrusted` ──────────────────────────────────────────────► refused, whatever else speaks for it
//!   store: pinned in `trusted/certs`, not revoked ──┐
//!   store: chains to an authority in it     ────────┤  (chain.rs, by webpki)
//!   system: chains to a root of the system  ────────┴─► time, usage, names right? ► accepted
//!   anything else ─► unknown (kept in `rejected`), or the first thing that is wrong with the chain
//! ```

use core::fmt;

use rustls::pki_types::{CertificateDer, ServerName};

use crate::Fingerprint;
use crate::bundle::{Bundle, Der};
use crate::certificate::CertificateFacts;
use crate::chain::{self, Material};
use crate::refusal::{Refusal, WrongUsage};

/// Which server certificates are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustMode {
    /// Every one (unsafe): the proof of the key alone protects the pair.
    All,
    /// Those in `pki/trusted/certs` and what the authorities among them have signed, if names, time, usages and
    /// revocation lists are right.
    Store,
    /// What the operating system's roots have signed, with the same checks.
    System,
}

/// What the certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Its holder is dialled.
    Server,
    /// Its holder dials.
    Client,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whom to trust.
    pub mode: TrustMode,
    /// What the peer shows: its certificate first, then those that complete the chain, in any order.
    pub shown: &'a [&'a [u8]],
    /// What was dialled: a host name or an address. None where names do not matter, as for clients.
    pub name: Option<&'a str>,
    /// The time of the decision, in Unix seconds.
    pub now_unix: u64,
    /// What it is used for.
    pub purpose: Purpose,
}

/// Why a certificate is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Trust is `all`.
    Everything,
    /// It is trusted itself.
    Pinned,
    /// It was signed by these, for people: its issuer first, the trusted authority last.
    Chain(Vec<String>),
}

impl Accepted {
    /// The machine code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Everything => "tls.accepted_all",
            Self::Pinned => "tls.accepted_pinned",
            Self::Chain(_) => "tls.accepted_chain",
        }
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("trust is `all`, which accepts every certificate"),
            Self::Pinned => f.write_str("it is among the trusted certificates itself"),
            Self::Chain(issuers) => write!(f, "it chains to a trusted authority: {}", issuers.join(" ← ")),
        }
    }
}

/// Decides. Takes any bytes, never panics.
///
/// # Errors
/// When the certificate is not accepted.
pub fn decide(bundle: &Bundle, question: &Question<'_>) -> Result<Accepted, Refusal> {
    let name = question.name.map(server_name).transpose()?;
    if question.mode == TrustMode::All {
        return Ok(Accepted::Everything);
    }
    if let Some(why) = &bundle.unusable {
        return Err(Refusal::Unusable(why.clone()));
    }
    let (leaf, others) =
        question.shown.split_first().map_or((&[][..], &[][..]), |(leaf, rest)| (*leaf, rest));
    let facts = CertificateFacts::read(leaf).map_err(Refusal::Invalid)?;
    if bundle.distrusted.contains(&facts.fingerprint) {
        return Err(Refusal::Distrusted);
    }
    let material = |anchors| Material {
        anchors,
        bundle,
        shown: others,
        now_unix: question.now_unix,
        purpose: question.purpose,
    };
    let accepted = match question.mode {
        TrustMode::All => Accepted::Everything,
        TrustMode::Store if bundle.pinned.iter().any(|pinned| pinned == leaf) => {
            if chain::is_listed(leaf, &bundle.crls) {
                return Err(Refusal::Revoked { what: "it" });
            }
            Accepted::Pinned
        }
        TrustMode::Store => chain::verify(leaf, &facts, &material(&bundle.issuers)).map(Accepted::Chain)?,
        TrustMode::System => {
            let roots = system_roots(bundle)?;
            chain::verify(leaf, &facts, &material(roots)).map(Accepted::Chain)?
        }
    };
    if accepted != Accepted::Pinned && !facts.for_signatures {
        return Err(Refusal::WrongUsage(WrongUsage::NoSignatures));
    }
    judge(leaf, &facts, name.as_ref(), question)?;
    Ok(accepted)
}

/// Time, usage and names. The comparison of names is webpki's (RFC 6125, RFC 9525), never our own.
fn judge(
    leaf: &[u8],
    facts: &CertificateFacts,
    name: Option<&ServerName<'_>>,
    question: &Question<'_>,
) -> Result<(), Refusal> {
    let now = i64::try_from(question.now_unix).unwrap_or(i64::MAX);
    if let Some(refusal) = Refusal::of_time(facts, now) {
        return Err(refusal);
    }
    match question.purpose {
        Purpose::Server if !facts.for_servers => return Err(Refusal::WrongUsage(WrongUsage::NoServer)),
        Purpose::Client if !facts.for_clients => return Err(Refusal::WrongUsage(WrongUsage::NoClient)),
        Purpose::Server | Purpose::Client => {}
    }
    let Some(name) = name else { return Ok(()) };
    let der = CertificateDer::from(leaf);
    let parsed = rustls::server::ParsedCertificate::try_from(&der)
        .map_err(|problem| Refusal::Chain { why: problem.to_string() })?;
    rustls::client::verify_server_name(&parsed, name)
        .map_err(|_| Refusal::NameMismatch { wanted: name.to_str().into_owned(), has: facts.names_text() })
}

fn system_roots(bundle: &Bundle) -> Result<&[Der], Refusal> {
    match &bundle.system {
        Some(system) if !system.roots.is_empty() => Ok(&system.roots),
        Some(system) => Err(Refusal::NoSystemRoots { why: system.problems.join("; ") }),
        None => Err(Refusal::NoSystemRoots { why: "they have not been read".to_owned() }),
    }
}

/// Whether a peer that pins this certificate would accept it under this name now.
pub(crate) fn would_be_accepted(leaf: &[u8], name: &str, now_unix: u64) -> Result<(), Refusal> {
    let bundle = Bundle { pinned: vec![leaf.to_vec()], ..Bundle::default() };
    let shown = [leaf];
    let (mode, purpose) = (TrustMode::Store, Purpose::Server);
    decide(&bundle, &Question { mode, shown: &shown, name: Some(name), now_unix, purpose }).map(|_| ())
}

/// What was dialled, as it can stand in a certificate: a host name, an IPv4 address, or an IPv6 address with or without
/// brackets.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, Refusal> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned())
        .map_err(|_| Refusal::BadHost { host: host.chars().take(256).collect() })
}

/// Whether this can be dialled, and so stand in a certificate: a host name or an address.
#[must_use]
pub fn can_be_dialled(host: &str) -> bool {
    server_name(host.strip_suffix('.').unwrap_or(host)).is_ok()
}

/// For people: fingerprint, subject and names, also of what is no certificate.
pub(crate) fn describe(der: &[u8]) -> String {
    CertificateFacts::read(der)
        .map_or_else(|_| format!("{} (unreadable)", Fingerprint::of(der)), |facts| facts.to_string())
}
