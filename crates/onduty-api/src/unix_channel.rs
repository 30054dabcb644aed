//! gRPC over the unix sockets within a node: how a service reaches another one of the same node.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Error, Uri};
use tower::service_fn;

use crate::quiet_stream::QuietStream;

/// A service of the same machine that runs answers at once.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How often a quiet connection is tried: a process that stands still keeps its sockets open. Whoever must know sooner
/// has other ways; each try wakes two processes that have nothing to do.
const TRY_EVERY: Duration = Duration::from_secs(10);
/// How long the answer to that may take; long, because a busy machine is no dead service.
const TRY_WITHIN: Duration = Duration::from_secs(3);

/// A connection to the service at this socket, made now.
///
/// # Errors
///
/// When nobody answers there.
pub async fn connect(socket: &Path) -> Result<Channel, Error> {
    endpoint()
        .http2_keep_alive_interval(TRY_EVERY)
        .keep_alive_timeout(TRY_WITHIN)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector(socket))
        .await
}

/// A connection that is made when it is needed, and again after it broke. Must be called inside a runtime.
#[must_use]
pub fn lazy(socket: &Path) -> Channel {
    endpoint().connect_with_connector_lazy(connector(socket))
}

fn endpoint() -> Endpoint {
    // The authority of a unix socket means nothing, but HTTP asks for one.
    Endpoint::from_static("http://onduty.local").connect_timeout(CONNECT_WITHIN)
}

fn connector(
    socket: &Path,
) -> impl tower::Service<
    Uri,
    Response = TokioIo<QuietStream>,
    Error = io::Error,
    Future = impl Future<Output = io::Result<TokioIo<QuietStream>>> + Send + use<>,
> + Send
+ use<> {
    let path: PathBuf = socket.to_path_buf();
    service_fn(move |_uri: Uri| {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(path).await?.into_std()?;
            QuietStream::new(stream).map(TokioIo::new)
        }
    })
}
