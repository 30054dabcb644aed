//! `serve certificate-trust`: the PKI folders of the node, for its other services and for operators. It makes the node's own
//! certificate at the first start, and nobody else looks into the folders.

use std::process::ExitCode;
use std::sync::Arc;

use certificate_trust::service::{self, SOCKET};
use service_kit::Clock;
use service_kit::settings::Loaded;
use service_kit::with_causes;
use tokio_util::sync::CancellationToken;

use super::TRUST;
use crate::failure::Failure;
use crate::up::data_dir::{DataDir, Part};
use crate::up::{self, running, trust};

/// Runs the service until it is stopped.
pub(super) fn run(loaded: &Loaded) -> Result<ExitCode, Failure> {
    let data_dir = DataDir::open(&loaded.settings.node.data_dir, Part::One(TRUST))?;
    up::block_on(serve(loaded, &data_dir))
}

async fn serve(loaded: &Loaded, data_dir: &DataDir) -> Result<ExitCode, Failure> {
    let signals = running::listen()?;
    let clock = Clock::real();
    let own = trust::own(&loaded.settings, data_dir, &clock)?;
    let fingerprint = own.fingerprint();
    let folders = trust::folders(loaded, data_dir, own)?;
    let service = service::build(service::Options {
        socket: data_dir.run().join(SOCKET),
        folders: folders.clone(),
        clock,
        names: up::certificate_names(&loaded.settings),
    })
    .map_err(|error| Failure::failed(with_causes(&error)))?;
    tracing::info!("this node's certificate is {fingerprint}");
    let _reloading = tokio::spawn(trust::on_hang_up(folders.receiver(), Arc::new(folders.clone()), None));
    let watched = CancellationToken::new();
    let mut watching = tokio::spawn(folders.watch(watched.clone()));
    running::ready();
    // Cancel-safe where it matters: whichever ends first, the process is stopping or something is broken.
    let served = tokio::select! {
        served = service.run(signals.stop.clone()) => served.map_err(|error| Failure::failed(with_causes(&error))),
        ended = &mut watching => Err(Failure::failed(format!("watching the certificate folders: {ended:?}"))),
    };
    running::sd(&[sd_notify::NotifyState::Stopping]);
    watched.cancel();
    served.map(|()| ExitCode::SUCCESS)
}
