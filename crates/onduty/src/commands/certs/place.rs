//! Where the certificates are looked after: at the node that runs, or in the folders of one that does not.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certificate_trust::service::{Certificates, Operators};
use journal::{Journal, JournalHandle, JournalThread};
use onduty_api::trust::{MAX_ANSWER, MAX_REQUEST};
use onduty_api::wire::trust::v1::certificate_service_client::CertificateServiceClient;
use service_kit::Clock;
use service_kit::settings::Loaded;
use service_kit::with_causes;
use tonic::transport::Channel;

use crate::cli::CertsArgs;
use crate::failure::Failure;
use crate::node::{self, SOCKET_NAME};
use crate::settings;
use crate::up::data_dir::{DataDir, Part};
use crate::up::trust;

/// How long the node may take: it only reads and writes a few files.
pub(super) const ANSWER: Duration = Duration::from_secs(15);

/// Calls a method at either place.
macro_rules! ask {
    ($place:expr, $method:ident, $request:expr) => {{
        use onduty_api::wire::trust::v1::certificate_service_server::CertificateService as _;
        let answered = match $place {
            $crate::commands::certs::place::Place::Node(client) => {
                let mut request = tonic::Request::new($request);
                request.set_timeout($crate::commands::certs::place::ANSWER);
                client.$method(request).await
            }
            $crate::commands::certs::place::Place::Folders(folders) => {
                folders.certificates.$method(tonic::Request::new($request)).await
            }
        };
        answered.map(tonic::Response::into_inner).map_err($crate::commands::certs::failure)
    }};
}
pub(super) use ask;

/// Where.
pub(super) enum Place {
    /// At the node.
    Node(CertificateServiceClient<Channel>),
    /// In its folders.
    Folders(Box<Folders>),
}

/// The folders of a node that does not run, and will not while they are held.
pub(super) struct Folders {
    pub(super) certificates: Certificates,
    _held: DataDir,
    journal: JournalThread,
}

impl Place {
    /// The node that the arguments mean, when it runs; its folders otherwise, when the arguments say where they are.
    pub(super) async fn find(args: &CertsArgs) -> Result<Self, Failure> {
        let loaded = match (&args.node.socket, &args.node.config, &args.data_dir) {
            (Some(_), _, _) | (None, None, None) => return at_node(&node::socket(&args.node)?).await,
            (None, config, data_dir) => {
                let set = data_dir.iter().map(|path| format!("node.data_dir={}", path.display()));
                settings::load(config.as_deref(), &set.collect::<Vec<_>>())?
            }
        };
        let data_dir = &loaded.settings.node.data_dir;
        let socket = data_dir.join(SOCKET_NAME);
        if UnixStream::connect(&socket).is_ok() {
            return at_node(&socket).await;
        }
        // A folder of which only the place is known is not made: it may be a slip of the pen.
        if args.node.config.is_none() && !data_dir.is_dir() {
            return Err(Failure::usage(format!(
                "--data-dir {}: there is no such folder",
                data_dir.display()
            )));
        }
        in_folders(&loaded, args.node.config.is_some(), &socket)
    }

    /// What was journalled is written.
    pub(super) fn close(self) {
        if let Self::Folders(folders) = self {
            let Folders { certificates, _held, journal } = *folders;
            drop(certificates);
            if !journal.close() {
                tracing::warn!("the journal's last entries could not be written in time");
            }
        }
    }
}

async fn at_node(socket: &Path) -> Result<Place, Failure> {
    let client = CertificateServiceClient::new(node::connect_to(socket).await?);
    Ok(Place::Node(client.max_decoding_message_size(MAX_ANSWER).max_encoding_message_size(MAX_REQUEST)))
}

fn in_folders(loaded: &Loaded, make_own: bool, socket: &Path) -> Result<Place, Failure> {
    let settings = &loaded.settings;
    is_ours(&settings.node.data_dir)?;
    certificate_trust::install_crypto_provider();
    let held = DataDir::open(&settings.node.data_dir, Part::All).map_err(|failure| {
        failure
            .about(&format!("the node does not answer at {}, and its folders are in use", socket.display()))
    })?;
    let clock = Clock::real();
    if make_own {
        // So that the certificate can be taken to the other node before either was started.
        let _own = trust::own(settings, &held, &clock)?;
    }
    let (handle, journal) = open_journal(loaded, &held, &clock)?;
    let operator = Operators::Named(onduty_api::caller::user(nix::unistd::geteuid().as_raw()));
    let certificates = trust::certificates(settings, &held, operator, clock, trust::journalled(handle))?;
    Ok(Place::Folders(Box::new(Folders { certificates, _held: held, journal })))
}

fn open_journal(
    loaded: &Loaded,
    data_dir: &DataDir,
    clock: &Clock,
) -> Result<(JournalHandle, JournalThread), Failure> {
    let clock = clock.clone();
    Journal::open(journal::Options {
        path: data_dir.path().join("journal.db"),
        node: loaded.settings.node.name.clone(),
        clock: Arc::new(move || clock.unix_millis()),
    })
    .map_err(|error| Failure::failed(with_causes(&error)))
}

/// Files that another user makes here the node could not read.
fn is_ours(data_dir: &PathBuf) -> Result<(), Failure> {
    let Ok(about) = std::fs::metadata(data_dir) else { return Ok(()) };
    if about.uid() == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the node does not run, and its folder {} belongs to {}: run this command as that user",
        data_dir.display(),
        onduty_api::caller::user(about.uid()),
    )))
}
