//! `serve management`: the operators' socket, in front of the processes that have the driver and the certificates. It holds nothing: killed and
//! started again it serves as before.

use std::process::ExitCode;

use certificate_trust::service::SOCKET;
use management::forward;
use service_kit::settings::Loaded;
use service_kit::with_causes;

use super::MANAGEMENT;
use crate::failure::Failure;
use crate::up::data_dir::{DataDir, Part};
use crate::up::{self, running};

/// Runs the service until it is stopped.
pub(super) fn run(loaded: &Loaded) -> Result<ExitCode, Failure> {
    let data_dir = DataDir::open(&loaded.settings.node.data_dir, Part::One(MANAGEMENT))?;
    up::block_on(serve(&data_dir))
}

async fn serve(data_dir: &DataDir) -> Result<ExitCode, Failure> {
    let signals = running::listen()?;
    let forwarder = forward::build(&data_dir.socket(), &data_dir.duty_socket(), &data_dir.run().join(SOCKET))
        .map_err(|error| Failure::failed(with_causes(&error)))?;
    running::ready();
    let served = forwarder.run(signals.stop).await;
    served.map_err(|error| Failure::failed(with_causes(&error)))?;
    Ok(ExitCode::SUCCESS)
}
