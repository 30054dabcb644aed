//! Finding the node of a command and talking to it over its unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use service_kit::codes::Code;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::cli::NodeArgs;
use crate::failure::Failure;

/// Where a node's socket is when nothing else is said.
pub(crate) const USUAL_SOCKET: &str = "/run/onduty/onduty.sock";
/// The socket's name in the data directory.
pub(crate) const SOCKET_NAME: &str = "onduty.sock";
/// A node that runs answers at once.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How often a node that is asked is tried meanwhile: one that stands still keeps its socket open.
const TRY_EVERY: Duration = Duration::from_secs(10);
/// How long the answer to that may take.
const TRY_WITHIN: Duration = Duration::from_secs(5);

/// A node that runs answers a question at once; an order that takes longer has a limit of its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A question with its time limit: a node that stands still must not keep its operator.
pub(crate) fn question<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_WITHIN);
    request
}

/// The socket of the node that the arguments mean.
pub(crate) fn socket(args: &NodeArgs) -> Result<PathBuf, Failure> {
    match (&args.socket, &args.config) {
        (Some(socket), _) => Ok(socket.clone()),
        (None, Some(config)) => {
            let loaded = crate::settings::load(Some(config), &[])?;
            Ok(loaded.settings.node.data_dir.join(SOCKET_NAME))
        }
        (None, None) => Ok(PathBuf::from(USUAL_SOCKET)),
    }
}

/// A connection to the node.
pub(crate) async fn connect(args: &NodeArgs) -> Result<Channel, Failure> {
    connect_to(&socket(args)?).await
}

/// A connection to the node with this socket.
pub(crate) async fn connect_to(socket: &Path) -> Result<Channel, Failure> {
    // The first connection is made here, so that its failure is told with its cause.
    let first = tokio::time::timeout(CONNECT_WITHIN, UnixStream::connect(socket))
        .await
        .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|error| no_node(socket, &error))?;
    let mut first = Some(first);
    let path = socket.to_path_buf();
    Endpoint::from_static("http://onduty.local")
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(TRY_EVERY)
        .keep_alive_timeout(TRY_WITHIN)
        .connect_with_connector(service_fn(move |_uri: Uri| {
            let ready = first.take();
            let path = path.clone();
            async move {
                let stream = match ready {
                    Some(stream) => stream,
                    None => UnixStream::connect(path).await?,
                };
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        }))
        .await
        .map_err(|error| Failure::no_node(format!("no node answers at {}: {error}", socket.display())))
}

fn no_node(socket: &Path, error: &io::Error) -> Failure {
    let at = socket.display();
    let kind = error.kind();
    if kind == io::ErrorKind::PermissionDenied {
        let why = format!("the socket {at} may only be used by the user that runs the node, or root");
        return Failure::no_node(why).coded(Code::SocketForbidden);
    }
    Failure::no_node(if kind == io::ErrorKind::NotFound {
        format!(
            "no node answers: there is no socket at {at}. Is `onduty up` running? Name another with --socket or --config"
        )
    } else if kind == io::ErrorKind::ConnectionRefused {
        format!("no node answers at {at}: the socket is left over from a node that does not run any more")
    } else {
        format!("no node answers at {at}: {error}")
    })
}
