//! The driver and the supervisor share one thread of their own: an order goes from one to the other without waking
//! a second thread, and no stranger's handshake or operator's question, which run elsewhere, ever stands in their way.

use std::io;

use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The thread's runtime, before the thread runs. Dropped without having run, it goes quietly.
pub(crate) struct DutyThread {
    handle: Handle,
    runtime: Unstarted,
}

/// Dropping a runtime waits for it, which must not be inside another one: as where a start has failed.
struct Unstarted(Option<Runtime>);

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The thread goes on until this is dropped; what still runs on it then is dropped with it.
#[must_use]
pub(crate) struct Running {
    _over: DropGuard,
}

impl DutyThread {
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Unstarted(Some(runtime)) })
    }

    /// While the guard lives, sockets and timers that are made here belong to the thread's runtime.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Puts a task onto the thread; it begins when the thread runs.
    pub(crate) fn spawn<T>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T>
    where
        T: Send + 'static,
    {
        self.handle.spawn(task)
    }

    pub(crate) fn start(self) -> io::Result<Running> {
        let over = CancellationToken::new();
        let ends = over.clone();
        let Self { handle: _, runtime } = self;
        let _detached = std::thread::Builder::new().name("duty".to_owned()).spawn(move || {
            if let Some(runtime) = &runtime.0 {
                runtime.block_on(ends.cancelled());
            }
            // A file that a stalled disk holds back must not hold back the end of the process.
            drop(runtime);
        })?;
        Ok(Running { _over: over.drop_guard() })
    }
}
