//! Whom this process trusts and what it shows: from the folders of the node, or from the certificate-trust service where
//! that runs in a process of its own.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use certificate_trust::service::{
    BundleFollower, CertificateOptions, Certificates, ChangeRecorder, FollowOptions, Following, Operators,
    SOCKET,
};
use certificate_trust::{
    BundleReceiver, Fingerprint, KeyStore, OwnIdentity, PkiStore, SystemStore, TrustFolders, TrustKeeper,
};
use failover_core::{Event, EventCode, Severity, Warning};
use journal::JournalHandle;
use service_kit::Clock;
use service_kit::codes::Code;
use service_kit::settings::{ClientTrust, Loaded, NodeSettings, Trust as TrustSetting};
use service_kit::with_causes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::up::certificate_names;
use crate::up::data_dir::DataDir;
use crate::up::expiry;

/// How long the folders may take to be read again.
const REFRESH: Duration = Duration::from_secs(10);

/// What a process knows of certificates, and what keeps that new.
pub(crate) struct Trust {
    /// The newest bundle.
    pub(crate) bundles: BundleReceiver,
    /// Keeps what strangers show.
    pub(crate) keeper: Arc<dyn TrustKeeper>,
    /// Why the service that knows is away.
    pub(crate) away: watch::Receiver<Option<String>>,
    /// What runs out.
    pub(crate) expiring: watch::Receiver<Vec<Warning>>,
    /// For operators, where this process has the folders.
    pub(crate) certificates: Option<Certificates>,
    /// Keeps all that new.
    pub(crate) task: JoinHandle<()>,
    pub(crate) stop: CancellationToken,
}

impl Trust {
    /// What the node shows now.
    pub(crate) fn own(&self) -> Option<Fingerprint> {
        own_of(&self.bundles)
    }

    /// Waits until there is a certificate to show. Cancel-safe.
    pub(crate) async fn first(&mut self) -> Result<(), Failure> {
        let shown = self.bundles.wait_for(|bundle| bundle.own.is_some()).await;
        shown
            .map(|_bundle| ())
            .map_err(|_closed| Failure::failed("following certificate-trust has broken off"))
    }
}

pub(crate) fn own_of(bundles: &BundleReceiver) -> Option<Fingerprint> {
    let bundle = bundles.borrow();
    bundle.own.as_ref().and_then(|own| own.chain.first()).map(|der| Fingerprint::of(der))
}

/// The node's own certificate, made if there is none.
pub(crate) fn own(
    settings: &NodeSettings,
    data_dir: &DataDir,
    clock: &Clock,
) -> Result<OwnIdentity, Failure> {
    OwnIdentity::open_or_create(&data_dir.pki(), &certificate_names(settings), clock.now().unix).map_err(
        |error| {
            Failure::settings(format!("this node's certificate: {}", with_causes(&error)))
                .coded(Code::PkiUnusable)
        },
    )
}

/// The folders, read once.
pub(crate) fn folders(
    loaded: &Loaded,
    data_dir: &DataDir,
    own: OwnIdentity,
) -> Result<TrustFolders, Failure> {
    let redundancy = &loaded.settings.redundancy;
    let system = redundancy.secondary.trust == Some(TrustSetting::System)
        || redundancy.primary.client_trust == ClientTrust::System;
    let system = system.then(SystemStore::of_this_machine);
    let folders = TrustFolders::new(store(data_dir)?, Some(own), system);
    let _first = folders.look();
    Ok(folders)
}

fn store(data_dir: &DataDir) -> Result<PkiStore, Failure> {
    PkiStore::open(&data_dir.pki()).map_err(|error| {
        Failure::failed(format!("the certificate folders: {}", with_causes(&error))).coded(Code::PkiUnusable)
    })
}

/// The folders for the command line, without a node.
pub(crate) fn certificates(
    settings: &NodeSettings,
    data_dir: &DataDir,
    operators: Operators,
    clock: Clock,
    record: ChangeRecorder,
) -> Result<Certificates, Failure> {
    let folders = TrustFolders::new(store(data_dir)?, None, None);
    let names = certificate_names(settings);
    Ok(Certificates::new(CertificateOptions { folders, operators, names, clock, record }))
}

/// Writes changes of certificates into the journal.
pub(crate) fn journalled(journal: JournalHandle) -> ChangeRecorder {
    Arc::new(move |sentence| {
        journal.record(Event::plain(EventCode::TrustNotice, Severity::Info, sentence));
    })
}

/// From the folders of this node. Must be called inside a runtime.
pub(crate) fn here(
    settings: &NodeSettings,
    folders: &TrustFolders,
    clock: &Clock,
    journal: &JournalHandle,
) -> Trust {
    let stop = CancellationToken::new();
    let certificates = Certificates::new(CertificateOptions {
        folders: folders.clone(),
        operators: Operators::Direct,
        names: certificate_names(settings),
        clock: clock.clone(),
        record: journalled(journal.clone()),
    });
    let _renewing = tokio::spawn(certificates.clone().keep_renewed(stop.clone()));
    Trust {
        expiring: expiry::watch(folders.receiver(), clock.clone(), journal.clone(), stop.clone()),
        bundles: folders.receiver(),
        keeper: Arc::new(folders.clone()),
        away: watch::channel(None).1,
        certificates: Some(certificates),
        task: tokio::spawn(folders.clone().watch(stop.clone())),
        stop,
    }
}

/// From the certificate-trust service of this node. Must be called inside a runtime.
pub(crate) fn elsewhere(data_dir: &DataDir, clock: &Clock, journal: &JournalHandle) -> Trust {
    let stop = CancellationToken::new();
    let record = journalled(journal.clone());
    let (follower, following) = BundleFollower::new(FollowOptions {
        socket: data_dir.run().join(SOCKET),
        record: Arc::new(move |notice| record(notice.sentence)),
    });
    let Following { bundles, away, keeper } = following;
    let task = tokio::spawn(follower.run(stop.clone()));
    let expiring = expiry::watch(bundles.clone(), clock.clone(), journal.clone(), stop.clone());
    Trust { expiring, bundles, keeper, away, certificates: None, task, stop }
}

/// SIGHUP: looks at once, and says what new connections show. Without that signal changes are found a moment later.
pub(crate) fn on_hang_up(
    bundles: BundleReceiver,
    keeper: Arc<dyn TrustKeeper>,
    keys: Option<KeyStore>,
) -> impl Future<Output = ()> + Send {
    let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    async move {
        let Ok(mut hang_up) = signal else { return };
        while hang_up.recv().await.is_some() {
            if let Some(keys) = &keys {
                // What has changed is journalled, like every change of theirs.
                keys.refresh().await;
            }
            let before = own_of(&bundles);
            if timeout(REFRESH, keeper.refresh()).await.is_err() {
                tracing::error!("the certificate folders cannot be read: the disk does not answer");
                continue;
            }
            let shown = own_of(&bundles).map_or_else(|| "none".to_owned(), |own| own.to_string());
            let news = if own_of(&bundles) == before { "the same" } else { "a new one" };
            tracing::info!("the certificates were read again; this node's own is {news}: {shown}");
        }
    }
}
