//! The data directory: there, ours, and nobody else's.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use service_kit::codes::Code;

use crate::failure::Failure;

/// The folder for certificates, below the data directory.
pub(crate) const PKI_DIR: &str = "pki";
/// The folder for what belongs to one run, below the data directory.
pub(crate) const RUN_DIR: &str = "run";
/// Locked while a node runs, and shared by the parts of one; the kernel unlocks it however the process ends.
const LOCK: &str = "lock";

/// How long the lock of a part may be held by somebody who only looks after leftovers: three searches of five seconds at most.
const PATIENCE: Duration = Duration::from_secs(18);
/// The same for the whole directory, which a process has until its very end.
const WHOLE_PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// A data directory that this process may use: alone, or as one part of a node.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _locks: Arc<Vec<Flock<File>>>,
}

/// Which part of the node a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    All,
    /// The service of that name; no other process may be the same.
    One(&'static str),
}

impl DataDir {
    /// Makes what is missing, for the owner alone, and locks it: the whole for a whole node, its own part for a part.
    pub(crate) fn open(path: &Path, part: Part) -> Result<Self, Failure> {
        let wrong = |what: &str, error: &dyn std::error::Error| {
            Failure::failed(format!(
                "the data directory {} (`node.data_dir`) {what}: {error}",
                path.display()
            ))
            .coded(Code::DataDirUnusable)
        };
        let make = |folder: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        make(path)
            .and_then(|()| make(&path.join(RUN_DIR)))
            .map_err(|error| wrong("cannot be made or used", &error))?;
        let path = fs::canonicalize(path).map_err(|error| wrong("cannot be found", &error))?;
        let taken = |errno: Errno, who: &str| {
            if errno == Errno::EWOULDBLOCK {
                Failure::failed(format!(
                    "another {who} runs with the data directory {}; each node needs its own (`node.data_dir`)",
                    path.display()
                ))
                .coded(Code::DataDirInUse)
            } else {
                wrong("cannot be locked", &errno)
            }
        };
        let lock = |name: &str, arg: FlockArg| {
            let file = open_lock(&path.join(name)).map_err(|error| wrong("cannot be locked", &error))?;
            Ok::<_, Failure>(Flock::lock(file, arg).map_err(|(_file, errno)| errno))
        };
        let locks = match part {
            Part::All => {
                let whole = patiently(WHOLE_PATIENCE, || lock(LOCK, FlockArg::LockExclusiveNonblock))?;
                vec![whole.map_err(|errno| taken(errno, "onduty"))?]
            }
            Part::One(name) => {
                let whole = patiently(WHOLE_PATIENCE, || lock(LOCK, FlockArg::LockSharedNonblock))?;
                let whole = whole.map_err(|errno| taken(errno, "`onduty up`"))?;
                let own = patiently(PATIENCE, || lock(&part_lock(name), FlockArg::LockExclusiveNonblock))?;
                vec![whole, own.map_err(|errno| taken(errno, &format!("`onduty serve {name}`")))?]
            }
        };
        Ok(Self { path, _locks: Arc::new(locks) })
    }

    /// The lock of a part of this node that does not run; `None` when it runs.
    pub(crate) fn idle(&self, part: &str) -> Option<Flock<File>> {
        let file = open_lock(&self.path.join(part_lock(part))).ok()?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.path.join(PKI_DIR)
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.path.join(RUN_DIR)
    }

    /// Where the process that has the driver serves operators, when the services of the node run apart.
    pub(crate) fn duty_socket(&self) -> PathBuf {
        self.run().join("duty.sock")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(crate::node::SOCKET_NAME)
    }
}

fn part_lock(name: &str) -> String {
    format!("{LOCK}-{name}")
}

/// Tries again for a while when somebody else has the lock: a process that has been killed, or has said that it ends, may
/// take a moment to be gone.
#[allow(clippy::disallowed_methods, reason = "before the runtime: waits for another process")]
fn patiently<T>(
    patience: Duration,
    mut lock: impl FnMut() -> Result<Result<T, Errno>, Failure>,
) -> Result<Result<T, Errno>, Failure> {
    let until = Instant::now() + patience;
    loop {
        match lock()? {
            Err(Errno::EWOULDBLOCK) if Instant::now() < until => std::thread::sleep(PAUSE),
            outcome => return Ok(outcome),
        }
    }
}

/// A directory that became read-only can still be locked: reading is enough for that.
fn open_lock(path: &Path) -> io::Result<File> {
    let writable = File::options().write(true).create(true).truncate(false).mode(0o600).open(path);
    writable.or_else(|error| File::open(path).map_err(|_unreadable| error))
}
