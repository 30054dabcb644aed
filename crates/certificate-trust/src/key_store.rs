//! The keys of a running node follow their files: a rotation needs no restart.
//!
//! ```text
//!   the files look as at the last reading ─► nothing to do (a few calls of stat)
//!        │ otherwise
//!        ▼
//!   read all of them ─┬─ good ──► published, when they are other keys than before
//!                     └─ not ───► the keys of before stay in force, and that is said; read again in a while, when it is not
//!                                 for what is in them
//! ```
//!
//! Only the process that has the link reads them, where the settings say that they are: a key never travels over a socket, also
//! not over one of this machine (docs/adr/0022).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;
use service_kit::{Clock, with_causes};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::files::{Stamp, stamp};
use crate::key::{KeyError, KeyOrigin, KeyProblem, PairKey};
use crate::key_files::{KeyFiles, KeySources, PairKeys, is_not_there};
use crate::key_ring::{KeyPublisher, KeyRing};
use crate::watch::{AGAIN, POLL, Reports, SLOW, rest};

/// How often files that change while they are read are read again; then the next report is waited for.
const MOST_READINGS: usize = 5;

/// Reads the keys and publishes them. Clones share everything.
#[derive(Clone, Debug)]
pub struct KeyStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sources: Sources,
    publisher: KeyPublisher,
    trouble: watch::Sender<Vec<String>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// At the last reading.
    stamps: Vec<Stamp>,
    next: Next,
    /// The files that the last good reading went without.
    left_out: Vec<KeyOrigin>,
}

/// What the next look does when the files look as before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    /// They were read just now, and other keys than before: it reads them once more, soon.
    #[default]
    Again,
    /// What kept them from being read shows in none of them (no descriptor left, a policy): it reads them, in a while.
    Retry,
    /// Nothing.
    Settled,
}

/// Where the keys are, and of which kind they have to be.
#[derive(Debug)]
struct Sources {
    key: Option<SecretString>,
    key_file: Option<PathBuf>,
    previous_key_file: Option<PathBuf>,
    generated_only: bool,
}

impl KeyStore {
    /// Reads the keys. With `generated_only` a passphrase is refused: what trust `all` asks for. May take a second: never call this on
    /// an async thread.
    ///
    /// # Errors
    /// When a key that the settings name cannot be used.
    pub fn open(sources: KeySources<'_>, generated_only: bool, clock: Clock) -> Result<Self, KeyError> {
        let sources = Sources {
            key: sources.key.cloned(),
            key_file: sources.key_file.map(Path::to_owned),
            previous_key_file: sources.previous_key_file.map(Path::to_owned),
            generated_only,
        };
        let stamps = sources.stamps();
        let (keys, left_out) = sources.load()?;
        let state = State { stamps, next: Next::Again, left_out: origins(&left_out) };
        let (publisher, _ring) = KeyRing::new(Arc::new(keys), clock);
        let store = Self(Arc::new(Inner {
            sources,
            publisher,
            trouble: watch::Sender::default(),
            state: Mutex::new(state),
        }));
        store.say(left_out.iter().map(left_out_because).collect());
        Ok(store)
    }

    /// What both ends of the link go by.
    #[must_use]
    pub fn ring(&self) -> KeyRing {
        self.0.publisher.ring().clone()
    }

    /// What is wrong with the files, as sentences, as long as it lasts.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Vec<String>> {
        self.0.trouble.subscribe()
    }

    /// Reads the files when they have changed, or could not be read; says whether other keys were published. Not for an async thread.
    pub fn look(&self) -> bool {
        self.read(false)
    }

    fn read(&self, always: bool) -> bool {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = &self.0.sources;
        let mut stamps = sources.stamps();
        if !always && state.next == Next::Settled && state.stamps == stamps {
            return false;
        }
        let mut loaded = sources.load();
        for _ in 1..MOST_READINGS {
            let now = sources.stamps();
            if now == stamps {
                break;
            }
            // Read in the middle of an exchange: neither the keys of before nor those that follow.
            stamps = now;
            loaded = sources.load();
        }
        state.stamps = stamps;
        let before = self.0.publisher.ring().newest();
        let (errors, keys) = match loaded {
            Ok((keys, left_out)) => match loses(&before, &keys, &left_out, &state.left_out) {
                false => (left_out, Some(keys)),
                true => (left_out, None),
            },
            Err(error) => (vec![error], None),
        };
        let retry = errors.iter().any(|error| error.problem.may_pass());
        let kept_without = |error| match keys {
            Some(_) => left_out_because(error),
            None => format!("{}. The keys of before stay in force until it is mended", with_causes(error)),
        };
        let trouble = errors.iter().map(kept_without).collect();
        let mut changed = false;
        if let Some(keys) = keys {
            state.left_out = origins(&errors);
            changed = !are_the_same(&keys, &before);
            if changed {
                self.0.publisher.publish(Arc::new(keys));
            }
        }
        state.next = match changed {
            true => Next::Again,
            false if retry => Next::Retry,
            false => Next::Settled,
        };
        self.say(trouble);
        changed
    }

    /// Follows the files until `stop`. Dropping the future is harmless.
    pub async fn watch(self, stop: CancellationToken) {
        if self.0.sources.key_file.is_some() {
            let _stopped = stop.run_until_cancelled_owned(self.watch_on()).await;
        } else {
            stop.cancelled().await;
        }
    }

    /// Reads them now, however they look, beside the async threads: somebody asks for it.
    pub async fn refresh(&self) {
        self.read_aside(true).await;
    }

    async fn read_aside(&self, always: bool) {
        let store = self.clone();
        // Err: the process ends.
        let _read = tokio::task::spawn_blocking(move || store.read(always)).await;
    }

    async fn watch_on(self) {
        let mut reports = Reports::begin();
        let folders = self.0.sources.folders();
        loop {
            // Watched first and read then: what happens in between is reported.
            if let Some(reports) = &mut reports {
                reports.watch(&folders);
            }
            self.read_aside(false).await;
            let next = self.0.state.lock().unwrap_or_else(PoisonError::into_inner).next;
            let pause = match (next, &reports) {
                (Next::Again, _) => AGAIN,
                (Next::Settled, Some(_)) => SLOW,
                (Next::Retry, _) | (Next::Settled, None) => POLL,
            };
            rest(&mut reports, pause).await;
        }
    }

    fn say(&self, trouble: Vec<String>) {
        let _changed = self.0.trouble.send_if_modified(|known| {
            let changed = *known != trouble;
            *known = trouble;
            changed
        });
    }
}

impl Sources {
    fn load(&self) -> Result<(PairKeys, Vec<KeyError>), KeyError> {
        let (mut keys, mut left_out) = PairKeys::load_all(KeySources {
            key: self.key.as_ref(),
            key_file: self.key_file.as_deref(),
            previous_key_file: self.previous_key_file.as_deref(),
        })?;
        if self.generated_only {
            let guessable =
                |origin: &KeyOrigin| KeyError { origin: origin.clone(), problem: KeyProblem::Guessable };
            if !keys.current.is_generated() {
                return Err(guessable(keys.current.origin()));
            }
            if let Some(typed) = keys.previous.take_if(|other| !other.is_generated()) {
                match typed.origin() {
                    KeyOrigin::NextFile(_) | KeyOrigin::OldFile(_) => {
                        left_out.push(guessable(typed.origin()))
                    }
                    named @ (KeyOrigin::Setting
                    | KeyOrigin::Given
                    | KeyOrigin::GivenFile(_)
                    | KeyOrigin::File(_)
                    | KeyOrigin::PreviousFile(_)) => {
                        return Err(guessable(named));
                    }
                }
            }
        }
        Ok((keys, left_out))
    }

    fn stamps(&self) -> Vec<Stamp> {
        let beside = self.key_file.iter().flat_map(|key| {
            let files = KeyFiles::of(key);
            [files.previous(), files.next()]
        });
        self.key_file.iter().chain(&self.previous_key_file).cloned().chain(beside).map(stamp).collect()
    }

    fn folders(&self) -> Vec<PathBuf> {
        let files = self.key_file.iter().chain(&self.previous_key_file);
        files.filter_map(|file| file.parent()).map(Path::to_owned).collect()
    }
}

fn left_out_because(error: &KeyError) -> String {
    format!("{}. The other keys are used without it", with_causes(error))
}

fn origins(left_out: &[KeyError]) -> Vec<KeyOrigin> {
    left_out.iter().map(|error| error.origin.clone()).collect()
}

/// Whether a key of before is gone for no other reason, as far as anybody can tell, than that a file cannot be used which could be before.
/// Only a file that is not there, or has another key in it, drops a key.
fn loses(before: &PairKeys, now: &PairKeys, left_out: &[KeyError], left_out_before: &[KeyOrigin]) -> bool {
    let is_new = |error: &KeyError| !is_not_there(error) && !left_out_before.contains(&error.origin);
    let is_there = |file: &Path| !matches!(file.try_exists(), Ok(false));
    let is_gone = |key: &PairKey| {
        let is_kept = now.newest_first().any(|(_, other)| other.is_same(key));
        !is_kept && key.origin().file().is_some_and(is_there)
    };
    left_out.iter().any(is_new) && before.newest_first().any(|(_, key)| is_gone(key))
}

/// The same keys in the same places.
fn are_the_same(one: &PairKeys, other: &PairKeys) -> bool {
    one.count() == other.count()
        && one
            .newest_first()
            .zip(other.newest_first())
            .all(|((_, one), (_, other))| one.is_same(other) && one.origin() == other.origin())
}
