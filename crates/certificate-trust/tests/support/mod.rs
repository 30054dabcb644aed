//! What the integration tests share: nodes with PKI folders of their own, and a clock that stands where a test puts it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses a part; a test may fail by unwrapping"
)]

use std::fs;
use std::path::{Path, PathBuf};

use certificate_trust::{
    Acceptor, ChannelBinding, ClientTls, Connector, OwnIdentity, PairKey, PairKeys, PkiStore, ServerTls,
    TlsError, TrustMode,
};
use service_kit::Clock;
use tempfile::TempDir;
use tokio::io::DuplexStream;

/// 2026-11-22 in Unix seconds.
pub const NOW: u64 = 1_795_305_600;
pub const DAY: u64 = 86_400;

/// A node: PKI folders, an identity, and the two ends made from them.
pub struct Node {
    pub folder: TempDir,
    pub identity: OwnIdentity,
}

impl Node {
    pub fn new(names: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let identity = OwnIdentity::open_or_create(&folder.path().join("pki"), &owned(names), NOW).unwrap();
        Self { folder, identity }
    }

    pub fn pki(&self) -> PathBuf {
        self.folder.path().join("pki")
    }

    pub fn certificate(&self) -> PathBuf {
        self.pki().join("own/certificate.pem")
    }

    pub fn private_key(&self) -> PathBuf {
        self.pki().join("own/private.key")
    }

    pub fn acceptor(&self) -> Acceptor {
        Acceptor::new(&self.identity)
    }

    pub fn connector(&self, mode: TrustMode) -> Connector {
        self.connector_at(mode, NOW)
    }

    pub fn connector_at(&self, mode: TrustMode, unix: u64) -> Connector {
        let clock = Clock::simulated(failover_core::BootTime::from_nanos(0), unix);
        Connector::new(mode, PkiStore::open(&self.pki()).unwrap(), clock)
    }

    pub fn trust(&self, other: &Self) -> PathBuf {
        let place = self.pki().join("trusted/certs/peer.pem");
        fs::copy(other.certificate(), &place).unwrap();
        place
    }

    pub fn rejected(&self) -> Vec<PathBuf> {
        files(&self.pki().join("rejected"))
    }
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

pub fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub type Dialled = Result<(ClientTls<DuplexStream>, ChannelBinding), TlsError>;
pub type Accepted = Result<(ServerTls<DuplexStream>, ChannelBinding), TlsError>;

/// Both ends of one handshake over memory.
pub async fn shake(connector: &Connector, host: &str, acceptor: &Acceptor) -> (Dialled, Accepted) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::join!(connector.connect(host, near), acceptor.accept(far))
}

/// The code and the words of a failed dial.
pub fn failure<T>(result: Result<T, TlsError>) -> (&'static str, String) {
    let error = result.err().expect("this must not work");
    (error.code(), error.to_string())
}

/// A fresh generated key, loaded through a file as an operator does it; with the key before it, if any.
pub fn keys(current: &str, previous: Option<&str>) -> PairKeys {
    PairKeys {
        current: PairKey::parse(current).unwrap(),
        previous: previous.map(|text| PairKey::parse(text).unwrap()),
    }
}
