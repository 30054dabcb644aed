//! The keys of the pair in a node: read at the start, followed while it runs, and what becomes of them journalled. They are read where
//! the link is, and nowhere else.

use certificate_trust::{
    KeyError, KeyFingerprint, KeyRing, KeySlot, KeySources, KeyState, KeyStore, PairKeys,
};
use failover_core::{Event, EventCode, Mode, Severity, Warning};
use journal::JournalHandle;
use secrecy::SecretString;
use service_kit::Clock;
use service_kit::codes::Code;
use service_kit::settings::{NodeSettings, Trust};
use service_kit::with_causes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// What the settings say that the keys are, with what was left out of them; `None`: mode `deactivated` without a key.
pub(crate) fn load(settings: &NodeSettings) -> Result<Option<(PairKeys, Vec<KeyError>)>, Failure> {
    with_sources(settings, PairKeys::load_all).transpose()
}

/// The same, to be followed.
pub(crate) fn open(settings: &NodeSettings, clock: &Clock) -> Result<Option<KeyStore>, Failure> {
    let redundancy = &settings.redundancy;
    // A primary that has an address dials too, to see whether the other node is one; the settings are checked by the same rule.
    let dials = redundancy.mode == Mode::Secondary
        || redundancy.mode == Mode::Primary && redundancy.secondary.address.is_some();
    let generated_only = dials && redundancy.secondary.trust == Some(Trust::All);
    with_sources(settings, |sources| KeyStore::open(sources, generated_only, clock.clone())).transpose()
}

fn with_sources<T>(
    settings: &NodeSettings,
    read: impl FnOnce(KeySources<'_>) -> Result<T, KeyError>,
) -> Option<Result<T, Failure>> {
    let redundancy = &settings.redundancy;
    if redundancy.mode == Mode::Deactivated && redundancy.key.is_none() && redundancy.key_file.is_none() {
        return None;
    }
    let key = redundancy.key.as_ref().map(|key| SecretString::from(key.expose().to_owned()));
    let read = read(KeySources {
        key: key.as_ref(),
        key_file: redundancy.key_file.as_deref(),
        previous_key_file: redundancy.previous_key_file.as_deref(),
    });
    Some(read.map_err(|error| Failure::settings(with_causes(&error)).coded(Code::KeyUnusable)))
}

/// Follows the files until `stop`, and journals what changes. Must be called inside a runtime. Gives what is wrong with the files.
pub(crate) fn follow(
    store: &KeyStore,
    journal: JournalHandle,
    stop: CancellationToken,
) -> watch::Receiver<Vec<Warning>> {
    let _files = tokio::spawn(store.clone().watch(stop.clone()));
    let _changes =
        tokio::spawn(stop.clone().run_until_cancelled_owned(changes(store.ring(), journal.clone())));
    let (warnings, receiver) = watch::channel(Vec::new());
    let _trouble = tokio::spawn(stop.run_until_cancelled_owned(trouble(store.trouble(), journal, warnings)));
    receiver
}

/// Each trouble once in the journal, and as a warning as long as it lasts.
async fn trouble(
    mut trouble: watch::Receiver<Vec<String>>,
    journal: JournalHandle,
    warnings: watch::Sender<Vec<Warning>>,
) {
    let warning = |sentence: &String| Warning {
        code: EventCode::KeyUnusable,
        severity: Severity::Error,
        sentence: sentence.clone(),
    };
    let mut said: Vec<String> = Vec::new();
    loop {
        let now = trouble.borrow_and_update().clone();
        for sentence in now.iter().filter(|sentence| !said.contains(sentence)) {
            journal.record(Event::plain(EventCode::KeyUnusable, Severity::Error, sentence.clone()));
        }
        warnings.send_replace(now.iter().map(warning).collect());
        said = now;
        // Err: nobody reads the files any more.
        if trouble.changed().await.is_err() {
            return;
        }
    }
}

/// Journals which keys are accepted, when that changes, and when the pair goes over to another one.
async fn changes(ring: KeyRing, journal: JournalHandle) {
    let record = |sentence| journal.record(Event::plain(EventCode::KeyChanged, Severity::Info, sentence));
    let mut changes = ring.changes();
    let mut accepted = accepts(&ring.states());
    let mut used = None;
    loop {
        let states = ring.states();
        let now = accepts(&states);
        if now != accepted {
            record(format!("the key files have changed: this node {}", described(&now)));
            accepted = now;
        }
        // Over two paths, or while one session takes the other's place, there may be two for a moment.
        let in_use: Vec<&KeyState> = states.iter().filter(|state| state.in_use).collect();
        if let [only] = in_use[..]
            && used != Some(only.fingerprint)
        {
            if let Some(before) = used {
                record(format!("the pair goes by the key {} now; before, by {before}", only.fingerprint));
            } else if accepted.len() > 1 {
                record(format!(
                    "the pair goes by the key {}, of the two that this node accepts",
                    only.fingerprint
                ));
            }
            used = Some(only.fingerprint);
        }
        changes.next().await;
    }
}

type Accepted = Vec<(KeySlot, KeyFingerprint)>;

fn accepts(states: &[KeyState]) -> Accepted {
    states.iter().map(|state| (state.slot, state.fingerprint)).collect()
}

fn described(accepted: &Accepted) -> String {
    let each = accepted.iter().map(|(slot, fingerprint)| match slot {
        KeySlot::Current => format!("goes by the key {fingerprint} first"),
        KeySlot::Previous => format!("still accepts the previous key {fingerprint}"),
        KeySlot::Next => format!("accepts the next key {fingerprint}, too"),
    });
    each.collect::<Vec<_>>().join(", and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use certificate_trust::{KeyFiles, PairKey, write_key_file};
    use service_kit::settings::PeerAddress;
    use tempfile::TempDir;

    /// What it dials could guess a passphrase.
    #[test]
    fn a_primary_that_dials_too_takes_no_passphrase_in_with_trust_in_everybody() {
        let folder = TempDir::new().unwrap();
        let files = KeyFiles::of(&folder.path().join("pair.key"));
        write_key_file(files.key(), &PairKey::generate().unwrap()).unwrap();
        write_key_file(&files.next(), "one passphrase of many words").unwrap();
        let mut settings = NodeSettings::default();
        settings.redundancy.mode = Mode::Primary;
        settings.redundancy.key_file = Some(files.key().to_owned());
        settings.redundancy.secondary.trust = Some(Trust::All);
        let accepted = |settings: &NodeSettings| {
            open(settings, &Clock::real()).ok().flatten().unwrap().ring().states().len()
        };
        assert_eq!(accepted(&settings), 2, "it dials nobody");
        settings.redundancy.secondary.address =
            Some("https://line1-b:5001".parse::<PeerAddress>().unwrap().into());
        assert_eq!(accepted(&settings), 1);
    }

    #[test]
    fn what_is_accepted_is_a_sentence() {
        let key = |text: &str| PairKey::parse(text).unwrap().fingerprint();
        let (one, two) = (key("one passphrase of many words"), key("and another one of many words"));
        let said = described(&vec![(KeySlot::Current, one), (KeySlot::Next, two)]);
        assert_eq!(said, format!("goes by the key {one} first, and accepts the next key {two}, too"));
    }
}
