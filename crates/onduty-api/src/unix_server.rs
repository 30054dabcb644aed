//! Connections of a unix socket for a gRPC server, bounded in number, and the server's end. Who may connect was asked before, by
//! whoever accepts.
//!
//! When there are too many, the next one is let in and another gives way: of those that never said anything the oldest, else
//! the one that was not heard for longest. So no tool that forgets its connections can lock a person out.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tonic::transport::server::{Connected, UdsConnectInfo};

/// Takes connections from `next`, which must be cancel-safe, and hands them to a server, at most `connections` at the same
/// time; when full another one gives way. Dropping the future ends it.
pub fn hand_over<N, F>(
    mut next: N,
    connections: usize,
) -> (impl Future<Output = ()>, mpsc::Receiver<io::Result<Caller>>)
where
    N: FnMut() -> F,
    F: Future<Output = UnixStream>,
{
    // One at a time: the server takes it at once, and `connections` is the bound that matters.
    let (callers, accepted) = mpsc::channel(1);
    let slots = Arc::new(Semaphore::new(connections));
    let open = Arc::new(Open::default());
    let accepting = async move {
        loop {
            let stream = next().await;
            if slots.available_permits() == 0 {
                open.one_gives_way();
            }
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let (place, leave) = open.enter();
            if callers.send(Ok(Caller { stream, place, leave, _slot: slot })).await.is_err() {
                return;
            }
        }
    };
    (accepting, accepted)
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Open(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Counts arrivals and words: a larger number is later.
    now: u64,
    callers: BTreeMap<u64, Known>,
}

#[derive(Debug)]
struct Known {
    /// Whether it has said anything, and when it was heard last. The smallest is the first to go.
    heard: (bool, u64),
    leave: oneshot::Sender<()>,
}

/// A connection among those that are open; dropping it takes it away.
#[derive(Debug)]
struct Place {
    number: u64,
    open: Arc<Open>,
}

impl Open {
    fn enter(self: &Arc<Self>) -> (Place, oneshot::Receiver<()>) {
        let (leave, told) = oneshot::channel();
        let mut inner = self.inner();
        inner.now += 1;
        let number = inner.now;
        inner.callers.insert(number, Known { heard: (false, number), leave });
        drop(inner);
        (Place { number, open: Arc::clone(self) }, told)
    }

    fn one_gives_way(&self) {
        let mut inner = self.inner();
        let first = inner.callers.iter().min_by_key(|(_, known)| known.heard).map(|(number, _)| *number);
        if let Some(known) = first.and_then(|number| inner.callers.remove(&number)) {
            // Err: it has just gone by itself.
            let _ = known.leave.send(());
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn was_heard(&self) {
        let mut inner = self.open.inner();
        inner.now += 1;
        let now = inner.now;
        if let Some(known) = inner.callers.get_mut(&self.number) {
            known.heard = (true, now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.inner().callers.remove(&self.number);
    }
}

/// Serves until the server ends by itself, or at most `drain` after `stop`: a caller that does not hang up holds nothing up.
/// `accepting` feeds the server; its own end is not the server's.
///
/// # Errors
///
/// When the server fails.
pub async fn serve_until<E>(
    stop: impl Future,
    drain: Duration,
    accepting: impl Future,
    serving: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let drained = async {
        let _asked = stop.await;
        tokio::time::sleep(drain).await;
    };
    let accepting = async {
        let _stopped = accepting.await;
        std::future::pending().await
    };
    // Cancel-safe where it matters: whichever ends first, the process is stopping or the server is broken.
    tokio::select! {
        served = serving => served,
        () = accepting => Ok(()),
        () = drained => Ok(()),
    }
}

/// A caller's connection, and its place among those that are allowed.
#[derive(Debug)]
pub struct Caller {
    stream: UnixStream,
    place: Place,
    /// Told when it has to give way.
    leave: oneshot::Receiver<()>,
    _slot: OwnedSemaphorePermit,
}

impl Caller {
    /// An error once it has to give way. Asked at each read and each write, because either may be what the server waits for.
    fn stays(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.leave.is_terminated() || Pin::new(&mut self.leave).poll(context).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "gave way to newer connections"));
        }
        Ok(())
    }
}

impl Connected for Caller {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Caller {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stays(context)?;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.place.was_heard();
        }
        polled
    }
}

impl AsyncWrite for Caller {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stays(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_stream::StreamExt;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    /// A socket that takes `most`, and callers that come one after the other.
    async fn callers(most: usize, said: &[&[u8]]) -> (Vec<UnixStream>, Vec<Caller>) {
        let (line, arriving) = mpsc::channel::<UnixStream>(said.len());
        let arriving = Arc::new(tokio::sync::Mutex::new(arriving));
        let next = move || {
            let arriving = Arc::clone(&arriving);
            async move {
                match arriving.lock().await.recv().await {
                    Some(stream) => stream,
                    None => std::future::pending().await,
                }
            }
        };
        let (accepting, accepted) = hand_over(next, most);
        let _accepting = tokio::spawn(accepting);
        let mut accepted = ReceiverStream::new(accepted);
        let (mut near, mut served) = (Vec::new(), Vec::new());
        for said in said {
            let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
            line.send(theirs).await.expect("it accepts");
            if near.len() >= most {
                // Somebody has to give way, and the server hangs up on it.
                let first = first_to_go(&mut served).await;
                drop(served.remove(first));
            }
            let mut caller = accepted.next().await.expect("a caller").expect("no error");
            ours.write_all(said).await.expect("it is connected");
            if !said.is_empty() {
                caller.read_exact(&mut vec![0; said.len()]).await.expect("what was said");
            }
            near.push(ours);
            served.push(caller);
        }
        (near, served)
    }

    /// Waits until one is told to go.
    async fn first_to_go(served: &mut [Caller]) -> usize {
        std::future::poll_fn(|context| {
            let gone = served.iter_mut().position(|caller| caller.stays(context).is_err());
            gone.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    async fn is_open(near: &mut UnixStream) -> bool {
        let read = tokio::time::timeout(Duration::from_millis(20), near.read(&mut [0; 1])).await;
        read.is_err()
    }

    async fn open(near: &mut [UnixStream]) -> Vec<bool> {
        let mut all = Vec::new();
        for near in near {
            all.push(is_open(near).await);
        }
        all
    }

    #[tokio::test]
    async fn who_never_said_anything_gives_way_first_and_the_newest_is_let_in() {
        let (mut near, served) = callers(3, &[b"x", b"", b"", b"x", b""]).await;
        assert_eq!(open(&mut near).await, [true, false, false, true, true]);
        assert_eq!(served.len(), 3);
    }

    #[tokio::test]
    async fn of_those_that_spoke_the_one_that_was_not_heard_for_longest_goes() {
        let (mut near, _served) = callers(2, &[b"x", b"x", b"x"]).await;
        assert_eq!(open(&mut near).await, [false, true, true]);
    }
}
