//! `onduty certs`, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use onduty_api::wire::trust::v1::CertificateStore;

use super::NodeArgs;

/// How `certs` finds the certificates.
#[derive(Debug, Clone, Args)]
pub(crate) struct CertsArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// The node's data directory; with it, or with --config, it works also while the node does not run
    #[arg(long, value_name = "DIR", conflicts_with = "socket")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print JSON, for machines
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where certificates are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CertsStore {
    /// This node's own
    Own,
    /// Trusted
    Trusted,
    /// Completing chains
    Issuers,
    /// Shown by strangers; nobody has decided
    Rejected,
    /// Rejected by an operator
    Distrusted,
}

impl From<CertsStore> for CertificateStore {
    fn from(store: CertsStore) -> Self {
        match store {
            CertsStore::Own => Self::Own,
            CertsStore::Trusted => Self::Trusted,
            CertsStore::Issuers => Self::Issuers,
            CertsStore::Rejected => Self::Rejected,
            CertsStore::Distrusted => Self::Distrusted,
        }
    }
}

/// `certs`.
#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    #[command(flatten)]
    Kept(KeptCommand),
    /// Say whether the link would accept a certificate, without a node and without a network
    ///
    /// The decision is made by the very code that decides in a handshake. Exit code 0: accepted; 1: refused, and why;
    /// 2: a file or a value cannot be read.
    Verify(VerifyArgs),
}

/// What is done with the certificates of a node. FINGERPRINT is the SHA-256 of a certificate or the beginning of it.
#[derive(Debug, Subcommand)]
pub(crate) enum KeptCommand {
    /// List them
    List {
        #[command(flatten)]
        place: CertsArgs,
        /// Only those
        #[arg(long, value_name = "STORE")]
        store: Option<CertsStore>,
    },
    /// Show what one says
    Show {
        #[command(flatten)]
        place: CertsArgs,
        /// Which, by its beginning [default: this node's own]
        fingerprint: Option<String>,
    },
    /// Trust one: compare its fingerprint with what `onduty certs show` says on the other node
    Trust {
        #[command(flatten)]
        place: CertsArgs,
        /// Which, by its beginning
        fingerprint: String,
        /// It is an authority's (CA): trust everything it has signed
        #[arg(long)]
        authority: bool,
    },
    /// Refuse one from the next dial on, whatever else speaks for it
    Reject {
        #[command(flatten)]
        place: CertsArgs,
        /// Which, by its beginning
        fingerprint: String,
    },
    /// Take certificates and revocation lists from a file; a peer's certificate is trusted
    Import {
        #[command(flatten)]
        place: CertsArgs,
        /// The file, PEM or DER; `-` for the standard input
        file: PathBuf,
        /// They are authorities' (CAs): trust everything these have signed
        #[arg(long, conflicts_with = "intermediate")]
        authority: bool,
        /// They are authorities' that only complete chains; nobody is trusted by that
        #[arg(long)]
        intermediate: bool,
    },
    /// Make this node's next certificate; the other node has to trust it before it is shown
    Renew {
        #[command(flatten)]
        place: CertsArgs,
        /// Show it from now on; running sessions go on
        #[arg(long)]
        now: bool,
    },
    /// Make a request (CSR) for this node's next certificate, for an authority to sign
    Request {
        #[command(flatten)]
        place: CertsArgs,
        /// Write it to this file, which must not exist yet
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show the certificate that an authority has signed from now on; running sessions go on
    Install {
        #[command(flatten)]
        place: CertsArgs,
        /// The file, PEM or DER, with the certificates that lead to its issuer; `-` for the standard input
        file: PathBuf,
    },
    /// Print one as PEM; never a private key
    Export {
        #[command(flatten)]
        place: CertsArgs,
        /// Which, by its beginning; `next` is what `renew` has made [default: this node's own]
        fingerprint: Option<String>,
        /// Write it to this file, which must not exist yet
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Forget one; a revocation list by its file's name
    Delete {
        #[command(flatten)]
        place: CertsArgs,
        /// Which, by its beginning
        fingerprint: String,
        /// From where, when it is in several places
        #[arg(long, value_name = "STORE")]
        store: Option<CertsStore>,
    },
}

impl KeptCommand {
    /// How it finds the certificates.
    pub(crate) const fn place(&self) -> &CertsArgs {
        match self {
            Self::List { place, .. }
            | Self::Show { place, .. }
            | Self::Trust { place, .. }
            | Self::Reject { place, .. }
            | Self::Import { place, .. }
            | Self::Renew { place, .. }
            | Self::Request { place, .. }
            | Self::Install { place, .. }
            | Self::Export { place, .. }
            | Self::Delete { place, .. } => place,
        }
    }
}

/// Whom to trust, as `redundancy.secondary.trust` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrustName {
    /// The anchors, or the node's own store
    Store,
    /// The operating system's store
    System,
    /// Everybody (unsafe)
    All,
}

/// What the certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PurposeName {
    /// Its holder is dialled
    Server,
    /// Its holder dials
    Client,
}

/// `certs verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The certificate, PEM or DER; in PEM those that complete its chain may follow it, as a peer shows them
    #[arg(value_name = "LEAF")]
    pub(crate) leaf: PathBuf,
    /// Whom to trust
    #[arg(long, value_name = "TRUST", default_value = "store")]
    pub(crate) trust: TrustName,
    /// What is trusted in place of the node's own store, PEM or DER: authorities, or the certificate itself
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "data_dir")]
    pub(crate) anchors: Vec<PathBuf>,
    /// What the peer shows beside it to complete its chain, PEM or DER; as of a peer, 16 are looked at
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) intermediates: Vec<PathBuf>,
    /// Revocation lists, PEM or DER
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) crls: Vec<PathBuf>,
    /// The data directory of a node, whose own store is trusted
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The host name or address that is dialled; without it no name is looked at
    #[arg(long, value_name = "DNS-OR-IP")]
    pub(crate) name: Option<String>,
    /// The moment of the decision, in RFC 3339 as 2026-11-23T12:00:00Z [default: now]
    #[arg(long, value_name = "RFC3339")]
    pub(crate) at: Option<Timestamp>,
    /// What it is used for
    #[arg(long, value_name = "PURPOSE", default_value = "server")]
    pub(crate) purpose: PurposeName,
    /// Print JSON, for machines
    #[arg(long)]
    pub(crate) json: bool,
}
