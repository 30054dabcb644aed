//! The file that tells running plugins the current epoch, written by a thread of its own: a disk that stalls delays
//! the file, never a takeover.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};

use failover_core::Epoch;
use tokio::sync::mpsc;

use crate::core::Internal;
use crate::leftovers::write_whole;

/// Epochs that wait for a stalled disk; only the newest is written then, and beyond this many none is added.
const WAITING: usize = 16;

/// The way to the file.
pub(crate) struct EpochFile {
    pub(crate) path: PathBuf,
    epochs: SyncSender<Epoch>,
}

impl EpochFile {
    pub(crate) fn start(path: PathBuf, written: mpsc::Sender<Internal>) -> io::Result<Self> {
        let (epochs, queue) = sync_channel::<Epoch>(WAITING);
        let target = path.clone();
        std::thread::Builder::new().name("epoch-file".to_owned()).spawn(move || {
            while let Ok(mut epoch) = queue.recv() {
                while let Ok(newer) = queue.try_recv() {
                    epoch = newer;
                }
                if let Err(error) = write_whole(&target, format!("{epoch}\n").as_bytes(), false) {
                    tracing::warn!(%error, %epoch, path = %target.display(), "cannot write the epoch file");
                }
                if written.blocking_send(Internal::EpochWritten(epoch)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { path, epochs })
    }

    /// Asks for the file to hold this epoch.
    pub(crate) fn write(&self, epoch: Epoch) {
        if self.epochs.try_send(epoch).is_err() {
            tracing::warn!(%epoch, path = %self.path.display(), "the epoch file is not up to date: its disk stalls");
        }
    }
}
