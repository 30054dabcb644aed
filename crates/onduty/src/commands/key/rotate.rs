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
/// The same when it warns of a file: as long as such a warning may be about the file that was there before.
const SAID: Duration = Duration::from_secs(6);
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
    let Some((_, next)) = done.other else { return Err(refused("the next key is gone again")) };
    let file = place.files.next();
    if place.runs && !place.comes_to_accept(next).await? {
        let status = status::get(args).await?;
        if done.changed {
            place.files.begin().and_then(|step| step.take_back(next)).map_err(failure)?;
        }
        let kept = if done.changed { "and was taken away again" } else { "though it is there" };
        return Err(place.not_accepted(&status, next, kept));
    }
    output::line(match (done.changed, from) {
        (true, None) => format!("wrote the next key {next} to {}", file.display()),
        (true, Some(_)) => format!("took the next key {next} into {}", file.display()),
        (false, _) => format!("the next key {next} is in {} already", file.display()),
    });
    place.followed(&done).await
}

async fn use_next(args: &NodeArgs) -> Result<(), Failure> {
    let place = Place::find(args).await?;
    let step = place.files.begin().map_err(failure)?;
    // With a key that it leaves out the running node would go on by the one before, and not start again.
    if place.runs
        && let Some((KeySlot::Next, next)) = step.standing().map_err(failure)?.other
        && !place.comes_to_accept(next).await?
    {
        return Err(place.not_accepted(&status::get(args).await?, next, "so that it cannot be used"));
    }
    let done = step.use_next().map_err(failure)?;
    drop(step);
    let before = done.other.map(|(_, before)| before.to_string()).unwrap_or_default();
    let (new, already) = (done.current, if done.changed { "" } else { " already" });
    output::line(format!(
        "the key {new} is used first{already}; the one before, {before}, is accepted as well"
    ));
    place.followed(&done).await
}

async fn finish(args: &NodeArgs, force: bool) -> Result<(), Failure> {
    let place = Place::find(args).await?;
    let step = place.files.begin().map_err(failure)?;
    let mut dropped = None;
    match step.standing() {
        Ok(standing) => {
            if let Some((KeySlot::Previous, previous)) = standing.other {
                place.may_drop(previous, standing.current, force).await?;
                dropped = Some(previous);
            }
        }
        // A file that is no key any more may have been one when the node read it.
        Err(RotationError::Beside { .. }) => {
            place.may_drop_all_but(step.current().map_err(failure)?, force).await?;
        }
        Err(error) => return Err(failure(error)),
    }
    let done = step.finish().map_err(failure)?;
    drop(step);
    output::line(match (dropped, done.changed) {
        (Some(dropped), true) => format!("dropped the key {dropped}; {} is the only one", done.current),
        (None, true) => format!("removed what was of no use; {} is the key in use", done.current),
        (_, false) => format!("there is no previous key; {} is the only one", done.current),
    });
    place.followed(&done).await
}

async fn abort(args: &NodeArgs, force: bool) -> Result<(), Failure> {
    let place = Place::find(args).await?;
    let step = place.files.begin().map_err(failure)?;
    match (step.back().map_err(failure)?, step.standing()) {
        ((current, Some(previous)), _) => place.may_drop(current, previous, force).await?,
        ((current, None), Ok(standing)) => {
            if let Some((_, next)) = standing.other {
                place.may_drop(next, current, force).await?;
            }
        }
        // The next one cannot be read, and the pair may go by it.
        ((current, None), Err(_)) => place.may_drop_all_but(current, force).await?,
    }
    let done = step.abort().map_err(failure)?;
    drop(step);
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
        RotationError::Key(_) | RotationError::Beside { .. } => {
            Failure::settings(with_causes(&error)).coded(Code::KeyUnusable)
        }
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
        let name = dropped.to_string();
        self.may_drop_those(|key| key.fingerprint == name, kept, force).await
    }

    /// The same for every other key that the node goes by.
    async fn may_drop_all_but(&self, kept: KeyFingerprint, force: bool) -> Result<(), Failure> {
        let name = kept.to_string();
        self.may_drop_those(|key| key.fingerprint != name, kept, force).await
    }

    async fn may_drop_those(
        &self,
        is_dropped: impl Fn(&PairKey) -> bool,
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
        // One that the node does not show: no session can go by it.
        match status.keys.iter().find(|key| is_dropped(key) && !key.droppable) {
            None => Ok(()),
            Some(key) if key.in_use => Err(in_use(format!(
                "the session goes by the key {}: the other node does not use {kept} yet",
                key.fingerprint
            ))),
            Some(_) => Err(in_use(format!(
                "there is no session that goes by the key {kept}, so that nobody can say whether the other node has it"
            ))),
        }
    }

    /// Whether the node accepts the next key, in as much time as it may take to follow its files. That it warns of the file may be older
    /// than what lies there.
    async fn comes_to_accept(&self, next: KeyFingerprint) -> Result<bool, Failure> {
        let name = next.to_string();
        let begun = Instant::now();
        loop {
            let status = status::get(self.args).await?;
            if status.keys.iter().any(|key| key.fingerprint == name) {
                return Ok(true);
            }
            let patience = if self.warning_of_next(&status).is_some() { SAID } else { FOLLOWED };
            if begun.elapsed() >= patience {
                return Ok(false);
            }
            sleep(PAUSE).await;
        }
    }

    fn warning_of_next<'s>(&self, status: &'s NodeStatus) -> Option<&'s str> {
        let file = self.files.next().display().to_string();
        let mut sentences = status.warnings.iter().map(|warning| warning.sentence.as_str());
        sentences.find(|sentence| sentence.contains(&file))
    }

    fn not_accepted(&self, status: &NodeStatus, next: KeyFingerprint, then: &str) -> Failure {
        let why = self.warning_of_next(status).unwrap_or("`onduty status` may say why");
        refused(&format!("this node does not accept the next key {next}, {then}: {why}"))
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
