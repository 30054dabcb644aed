//! `onduty up`: every service of a node in one process, beside it the guard.
//!
//! ```text
//!   settings ─► key ─► data directory (lock, node id) ─► certificate ─► journal ─► leftovers of an earlier run end
//!        └─► port opens ─► guard and supervisor ─► driver ─► server, client ─► operators' socket ─► ready
//! ```
//!
//! The order is the point: nothing of an earlier run lives when the port opens, and the port opens only when whoever
//! calls can be answered. Everything that can be wrong is found before that, and told with its own exit code.

pub(crate) mod data_dir;
pub(crate) mod duty_thread;
mod expiry;
pub(crate) mod keys;
pub(crate) mod link;
pub(crate) mod mode;
mod parts;
pub(crate) mod pieces;
mod plugins;
mod project;
pub(crate) mod running;
pub(crate) mod trust;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use certificate_trust::{KeyStore, TrustFolders, can_be_dialled};
use failover_core::{Identity, NodeName};
use service_kit::Clock;
use service_kit::settings::{LoadOptions, Loaded, NodeSettings};
use service_kit::telemetry::Log;
use service_kit::with_causes;

use crate::cli::{ServiceName, UpArgs};
use crate::failure::Failure;
use crate::settings;
use crate::up::data_dir::{DataDir, Part};

pub(crate) use data_dir::{PKI_DIR, RUN_DIR};

/// Threads of the runtime, beside the duty's own: a peer's beat does not wait behind one stranger's handshake.
const WORKERS: usize = 1;

/// How long threads that wait may hold up the end.
const LAST_THREADS: Duration = Duration::from_millis(200);

/// Everything that is known before a runtime exists.
pub(crate) struct Prepared {
    pub(crate) loaded: Loaded,
    pub(crate) clock: Clock,
    pub(crate) identity: Identity,
    /// In mode `deactivated` without a key there is no link.
    pub(crate) keys: Option<KeyStore>,
    /// The certificates, where this process looks after them.
    folders: Option<TrustFolders>,
    pub(crate) data_dir: DataDir,
    /// A damaged node id, and where it is kept now.
    old_node_id: Option<PathBuf>,
    /// What the settings were read from: a change of the mode reads them again.
    reread: LoadOptions,
    /// Which heartbeat service this process is.
    service: ServiceName,
}

impl Prepared {
    /// The names and addresses under which this node can be reached.
    fn own_names(&self) -> Vec<String> {
        certificate_names(&self.loaded.settings)
    }
}

/// Runs the node until it is stopped.
pub(crate) fn run(args: &UpArgs) -> Result<ExitCode, Failure> {
    let (loaded, log) = load(args)?;
    // In a whole node it is either.
    let prepared = prepare(loaded, Part::All, args, ServiceName::Heartbeat)?;
    let ended = block_on(running::run(prepared))?;
    drop(log);
    ended.exit()
}

/// How a node ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was to stop.
    Stopped,
    /// It is to start anew, because its mode has changed.
    StartAnew,
}

impl Ended {
    /// Ends the process, or replaces it.
    pub(crate) fn exit(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Stopped => Ok(ExitCode::SUCCESS),
            Self::StartAnew => Err(mode::start_anew()),
        }
    }
}

/// Reads the settings and begins to log as they say, for as long as the log is kept.
pub(crate) fn load(args: &UpArgs) -> Result<(Loaded, Log), Failure> {
    let loaded = settings::load_for_node(args.config.as_deref(), &args.set)?;
    let log = service_kit::telemetry::start(&loaded.settings.log)
        .map_err(|error| Failure::settings(with_causes(&error)))?;
    certificate_trust::install_crypto_provider();
    Ok((loaded, log))
}

/// Runs a service to its end.
pub(crate) fn block_on<T>(service: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("onduty")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("starting the runtime: {error}")))?;
    let outcome = runtime.block_on(service);
    // What still waits for a disk or a process is left behind: the stop has taken its time.
    runtime.shutdown_timeout(LAST_THREADS);
    outcome
}

/// Key, data directory, identity, certificate: whatever a person can have got wrong. A passphrase takes a moment here, where
/// nothing waits for it.
pub(crate) fn prepare(
    loaded: Loaded,
    part: Part,
    args: &UpArgs,
    service: ServiceName,
) -> Result<Prepared, Failure> {
    let reread = settings::options(args.config.as_deref(), &args.set)?;
    let settings = &loaded.settings;
    let clock = Clock::real();
    let keys = keys::open(settings, &clock)?;
    let data_dir = DataDir::open(&settings.node.data_dir, part)?;
    let name = NodeName::try_from(settings.node.name.clone())
        .map_err(|error| Failure::settings(error.to_string()))?;
    let found = service_kit::node_identity::open_or_create(data_dir.path(), name)
        .map_err(|error| Failure::failed(with_causes(&error)))?;
    let folders = match part {
        Part::All => {
            let own = trust::own(settings, &data_dir, &clock)?;
            Some(trust::folders(&loaded, &data_dir, own)?)
        }
        Part::One(_) => {
            // Whoever reads the folders has used the library before its first handshake.
            certificate_trust::warm_up();
            None
        }
    };
    Ok(Prepared {
        identity: found.identity,
        loaded,
        clock,
        keys,
        folders,
        data_dir,
        old_node_id: found.kept_aside,
        reread,
        service,
    })
}

/// What the node's own certificate is made for: its name, the host's, and every address of the machine, so that a
/// peer may dial whichever it likes.
pub(crate) fn certificate_names(settings: &NodeSettings) -> Vec<String> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let listen = settings.node.listen.ip();
    let mut names = vec![settings.node.name.clone()];
    names.extend(host.into_iter().filter(|name| !name.is_empty()));
    if listen.is_unspecified() {
        let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
        names.extend(interfaces.filter_map(|interface| address(&interface)));
    } else {
        names.push(listen.to_string());
    }
    let mut seen = std::collections::BTreeSet::new();
    // A node may be called `7`, and a container's host name may be a number: nobody can dial those.
    names.retain(|name| can_be_dialled(name) && seen.insert(name.clone()));
    names.truncate(MOST_NAMES);
    if names.is_empty() {
        names.push("localhost".to_owned());
    }
    names
}

/// More names than a machine with many containers needs, fewer than a certificate may have.
const MOST_NAMES: usize = 32;

/// An interface's address, unless it is of the link only.
fn address(interface: &nix::ifaddrs::InterfaceAddress) -> Option<String> {
    let storage = interface.address.as_ref()?;
    let v4 = storage.as_sockaddr_in().map(|address| std::net::IpAddr::from(address.ip()));
    let v6 = storage.as_sockaddr_in6().map(|address| address.ip()).filter(|ip| !ip.is_unicast_link_local());
    v4.or_else(|| v6.map(Into::into)).map(|ip| ip.to_string())
}
