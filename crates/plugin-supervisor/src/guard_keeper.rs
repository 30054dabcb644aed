//! The thread that waits for guards, since nothing else may: it starts them, ends what a dead one left, and sees a living one
//! off. It is there from the beginning, so that a machine that has no thread left then cannot keep alive what must end.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::{mpsc, oneshot};

use crate::core::Internal;
use crate::guard_process::{GuardProcess, GuardStarter};

/// There is one guard at a time, so these follow each other: the end of one, the start of the next, its farewell.
const JOBS: usize = 4;

/// What it is asked for.
pub(crate) enum Job {
    /// End whatever a dead guard, or one that was killed, has left; answered by [`Internal::GuardGone`].
    End(Box<GuardProcess>),
    /// Start another; answered by [`Internal::GuardStarted`].
    Start,
    /// Wait until a guard that was asked to leave has gone; answered by the keeper's end.
    Leave(Box<GuardProcess>),
}

/// The way to it.
pub(crate) struct Keeper {
    /// `None` once it is to end.
    jobs: Option<SyncSender<Job>>,
    /// Closed by its end.
    over: oneshot::Receiver<()>,
}

impl Keeper {
    pub(crate) fn start(starter: GuardStarter, internals: mpsc::Sender<Internal>) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(JOBS);
        let (alive, over) = oneshot::channel();
        std::thread::Builder::new().name("guard-keeper".to_owned()).spawn(move || {
            keep(&starter, &queue, &internals);
            drop(alive);
        })?;
        Ok(Self { jobs: Some(jobs), over })
    }

    /// `false` when it does not take the job.
    pub(crate) fn give(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    /// Has it end after what it was given, and waits for that.
    pub(crate) async fn finish(&mut self) {
        self.jobs = None;
        // Nothing is ever sent: the end is the answer.
        let _ = (&mut self.over).await;
    }
}

fn keep(starter: &GuardStarter, jobs: &Receiver<Job>, internals: &mpsc::Sender<Internal>) {
    // Answers that nobody takes any more, because the supervisor has ended, are not missed; a guard that was started for
    // nobody goes by itself when its socket closes.
    while let Ok(job) = jobs.recv() {
        match job {
            Job::End(guard) => end(*guard, internals),
            // Of a supervisor that has ended: nobody would take it.
            Job::Start if internals.is_closed() => {}
            Job::Start => {
                let _ = internals.blocking_send(Internal::GuardStarted(starter.start().map(Box::new)));
            }
            Job::Leave(guard) => {
                if let Err(what) = guard.leave(&starter.run_dir) {
                    tracing::error!(%what, "something survives the end of the supervisor");
                }
            }
        }
    }
}

/// Again and again, as long as anything lives and somebody wants to know.
fn end(guard: GuardProcess, internals: &mpsc::Sender<Internal>) {
    let run = guard.run.clone();
    let mut outcome = guard.destroy();
    while let Err(what) = outcome {
        if internals.blocking_send(Internal::GuardRemains(what)).is_err() {
            return;
        }
        outcome = crate::leftovers::end_all_of(&run).map(drop);
    }
    let _ = internals.blocking_send(Internal::GuardGone);
}
