//! `onduty key rotate …`: the steps of a rotation, on a node that runs or on the files of one that does not.
//!
//! ```text
//!   which files, what the session uses ◄── status of the node, else the settings (--config)
//!   step ──► files ──► the node follows them ──► its status shows them: done
//! ```
//!
//! The files are changed here and not by the node, which need not be allowed to write where its key is; and no key
//! ever goes over the node's socket. What drops a key asks the node first whether the pair needs it.

use std::io;
use std::path::Path;
use std::time::Duration;

use certificate_trust::{
    KeyFiles, KeyFingerprint, KeySlot, RotationError, Standing, read_key_from, read_key_from_file,
};
use onduty_api::wire::failover::v1 as wire;
use onduty_api::wire::failover::v1::{LinkVerdict, NodeStatus, PairKey};
use service_kit::codes::Code;
use service_kit::exit::Exit;
use service_kit::with_causes;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::text;
use crate::cli::{NodeArgs, RotateCommand};
use crate::commands::status;
use crate::failure::Failure;
use crate::{output, settings};

/// How long a node may take to follow its files: a moment where the kernel reports changes, and five seconds where not.
const FOLLOWED: Duration = Duration::from_secs(15);
/// How long a new session may take to be there after that.
const GONE_OVER: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Carries one of the steps out.
pub(crate) async fn run(command: &RotateCommand) -> Result<(), Failure> {
    match command {
        RotateCommand::Prepare { node, from } => prepare(node, from.as_deref()).await,
        RotateCommand::Use { node } => use_next(node).await,
        RotateCommand::Finish { node, force } => finish(node, *force).await,
        RotateCommand::Abort { node, force } => abort(node, *force).await,
    }
}

async fn prepare(args: &NodeArgs, from: Option<&Path>) -> Result<(), Failure> {
    let place = Place::find(args).await?;
    let given = from.map(given).transpose()?;
    let done = place.files.prepare(given.as_deref().map(String::as_str)).map_err(failure)?;
    let next = done.other.map(|(_, next)| next.to_string()).unwrap_or_default();
    let file = place.files.next();
    output::line(match (done.changed, from) {
        (true, None) => format!("wrote the next key {next} to {}", file.display()),
        (true, Some(_)) => format!("took the next key {next} into {}", file.display()),
        (false, _) => format!("the next key {next} is in {} already", file.display()),
    });
    place.followed(&done).await
}

async fn use_next(args: &NodeArgs) -> Result<(), Failure> {
    let place = Place::find(args).await?;
    let done = place.files.use_next().map_err(failure)?;
    let before = done.other.map(|(_, before)| before.to_string()).unwrap_or_default();
    let (new, already) = (done.current, if done.changed { "" } else { " already" });
    output::line(format!(
        "the key {new} is used first{already}; the one before, {before}, is accepted as well"
    ));
    place.followed(&done).await
}

async fn finish(args: &NodeArgs, force: bool) -> Result<(), Failure> {
    let place = Place::find(args).await?;
    let standing = place.files.standing().map_err(failure)?;
    if let Some((KeySlot::Previous, previous)) = standing.other {
        place.may_drop(previous, standing.current, force).await?;
    }
    let done = place.files.finish().map_err(failure)?;
    output::line(match standing.other.filter(|_| done.changed) {
        Some((_, dropped)) => format!("dropped the key {dropped}; {} is the only one", done.current),
        None => format!("there is no previous key; {} is the only one", done.current),
    });
    place.followed(&done).await
}

async fn abort(args: &NodeArgs, force: bool) -> Result<(), Failure> {
    let place = Place::find(args).await?;
    // What cannot be read is of no use to the other node either.
    if let Ok(standing) = place.files.standing() {
        match standing.other {
            Some((KeySlot::Previous, previous)) => place.may_drop(standing.current, previous, force).await?,
            Some((KeySlot::Next, next)) => place.may_drop(next, standing.current, force).await?,
            Some((KeySlot::Current, _)) | None => {}
        }
    }
    let done = place.files.abort().map_err(failure)?;
    output::line(if done.changed {
        format!("back to the key {}, the only one", done.current)
    } else {
        format!("no rotation is under way; {} is the only key", done.current)
    });
    place.followed(&done).await
}

/// A key that was made on the other node. Its file keeps to the rule of all key files.
fn given(from: &Path) -> Result<Zeroizing<String>, Failure> {
    let wrong = |why: String| Failure::settings(why).coded(Code::KeyUnusable);
    if from == Path::new("-") {
        return read_key_from(io::stdin().lock())
            .map_err(|problem| wrong(format!("the given key {problem}")));
    }
    read_key_from_file(from).map_err(|error| wrong(with_causes(&error)))
}

fn failure(error: RotationError) -> Failure {
    match &error {
        RotationError::NotNow(why) => Failure::new(Exit::Refused, why).coded(Code::KeyStepRefused),
        RotationError::Key(_) => Failure::settings(with_causes(&error)).coded(Code::KeyUnusable),
        RotationError::Random(_) | RotationError::File { .. } => Failure::failed(with_causes(&error)),
    }
}

/// The files of a node, and whether it runs.
struct Place<'a> {
    args: &'a NodeArgs,
    files: KeyFiles,
    runs: bool,
}

impl<'a> Place<'a> {
    async fn find(args: &'a NodeArgs) -> Result<Self, Failure> {
        let status = match status::get(args).await {
            Ok(status) => status,
            Err(failure) if failure.is_no_node() && args.config.is_some() => return Self::of_settings(args),
            Err(failure) => return Err(failure),
        };
        let Some(current) = of(&status, wire::KeySlot::Current) else {
            return Err(refused("this node has no key"));
        };
        let files = files(Some(Path::new(&current.file)).filter(|file| !file.as_os_str().is_empty()))?;
        let previous = of(&status, wire::KeySlot::Previous).map(|key| Path::new(&key.file));
        match previous.filter(|previous| *previous != files.previous()) {
            Some(named) => Err(by_hand(named)),
            None => Ok(Self { args, files, runs: true }),
        }
    }

    fn of_settings(args: &'a NodeArgs) -> Result<Self, Failure> {
        let loaded = settings::load(args.config.as_deref(), &[])?;
        let redundancy = &loaded.settings.redundancy;
        if let Some(named) = &redundancy.previous_key_file {
            return Err(by_hand(named));
        }
        Ok(Self { args, files: files(redundancy.key_file.as_deref())?, runs: false })
    }

    /// Refuses to drop a key that the pair may need: what the node shows decides, which may not have followed its files yet.
    async fn may_drop(
        &self,
        dropped: KeyFingerprint,
        kept: KeyFingerprint,
        force: bool,
    ) -> Result<(), Failure> {
        if force {
            return Ok(());
        }
        let in_use = |why: String| {
            let why = format!(
                "{why}; --force drops it all the same, and a node that lacks the other key is lost then"
            );
            Failure::new(Exit::Refused, why).coded(Code::KeyInUse)
        };
        if !self.runs {
            let why = "this node does not run, so that nobody can say which key the other one needs";
            return Err(in_use(why.to_owned()));
        }
        let status = status::get(self.args).await?;
        let name = dropped.to_string();
        match status.keys.iter().find(|key| key.fingerprint == name) {
            // No session can go by it.
            None => Ok(()),
            Some(key) if key.droppable => Ok(()),
            Some(key) if key.in_use => Err(in_use(format!(
                "the session goes by the key {dropped}: the other node does not use {kept} yet"
            ))),
            Some(_) => Err(in_use(format!(
                "there is no session that goes by the key {kept}, so that nobody can say whether the other node has it"
            ))),
        }
    }

    /// Waits until the node goes by the files, and says what comes next.
    async fn followed(&self, done: &Standing) -> Result<(), Failure> {
        if !self.runs {
            output::line("this node does not run; it goes by them from its next start on");
            return Ok(());
        }
        let mut status = self.shows(done).await?;
        let until = Instant::now() + GONE_OVER;
        let waits = |status: &NodeStatus| {
            let linked = status.peer.as_ref().is_some_and(|peer| peer.link() == LinkVerdict::Established);
            linked && !status.keys.first().is_some_and(|key| key.in_use)
        };
        while waits(&status) && Instant::now() < until {
            sleep(PAUSE).await;
            status = status::get(self.args).await?;
        }
        for (name, row) in text::rows(&status.keys) {
            output::line(format!("{name:<13}{row}"));
        }
        if let Some(next) = text::next_step(&status.keys) {
            output::line(next);
        }
        Ok(())
    }

    /// Waits until the node shows these keys.
    async fn shows(&self, standing: &Standing) -> Result<NodeStatus, Failure> {
        let wanted: Vec<String> = std::iter::once(standing.current)
            .chain(standing.other.map(|(_, other)| other))
            .map(|fingerprint| fingerprint.to_string())
            .collect();
        let until = Instant::now() + FOLLOWED;
        loop {
            let status = status::get(self.args).await?;
            let shown: Vec<&String> = status.keys.iter().map(|key| &key.fingerprint).collect();
            if shown.into_iter().eq(&wanted) {
                return Ok(status);
            }
            if Instant::now() >= until {
                let why = format!(
                    "the files are as they should be, but the node does not go by them after {} s: see `onduty status`",
                    FOLLOWED.as_secs()
                );
                return Err(Failure::new(Exit::TimedOut, why).coded(Code::TimedOut));
            }
            sleep(PAUSE).await;
        }
    }
}

fn of(status: &NodeStatus, slot: wire::KeySlot) -> Option<&PairKey> {
    status.keys.iter().find(|key| key.slot() == slot)
}

fn files(key_file: Option<&Path>) -> Result<KeyFiles, Failure> {
    let none =
        "the key stands in the settings (`redundancy.key`): put it into a file first (`redundancy.key_file`)";
    key_file.map(KeyFiles::of).ok_or_else(|| refused(none))
}

fn refused(why: &str) -> Failure {
    Failure::new(Exit::Refused, why).coded(Code::KeyStepRefused)
}

fn by_hand(named: &Path) -> Failure {
    refused(&format!(
        "`redundancy.previous_key_file` is set, to {}: so the files are exchanged by hand; take the setting away to have it done here",
        named.display()
    ))
}
