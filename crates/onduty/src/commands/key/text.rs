//! The keys in words: the same in `onduty status` and `onduty key`.

use onduty_api::wire::failover::v1::{KeySlot, PairKey};

use crate::commands::render;

/// A row for each key: its name and what is to be said of it.
pub(crate) fn rows(keys: &[PairKey]) -> Vec<(&'static str, String)> {
    keys.iter().map(|key| (name(key), format!("{}, {}", key.fingerprint, state(key)))).collect()
}

fn name(key: &PairKey) -> &'static str {
    match key.slot() {
        KeySlot::Unspecified | KeySlot::Current => "key",
        KeySlot::Previous => "previous key",
        KeySlot::Next => "next key",
    }
}

fn state(key: &PairKey) -> String {
    let since = key.since.as_ref().map(render::local_time);
    let since = since.map_or_else(String::new, |since| format!(" since {since}"));
    match (key.in_use, key.slot(), key.droppable) {
        (true, _, _) => format!("in use{since}"),
        (false, KeySlot::Next, _) => format!("accepted, unused{since}"),
        (false, KeySlot::Previous, true) => format!("unused{since}, may be removed"),
        (false, KeySlot::Unspecified | KeySlot::Current | KeySlot::Previous, _) => format!("unused{since}"),
    }
}

/// What comes next in a rotation; `None`: none is under way.
pub(crate) fn next_step(keys: &[PairKey]) -> Option<String> {
    let current = keys.iter().find(|key| key.slot() == KeySlot::Current)?;
    let other = keys.iter().find(|key| key.slot() != KeySlot::Current)?;
    let (new, old) = (&current.fingerprint, &other.fingerprint);
    Some(if other.slot() == KeySlot::Next {
        let new = old;
        format!(
            "`onduty key rotate use` on both nodes, when both accept {new} (on the one without it: `onduty key rotate prepare --from FILE`, \
             with a copy of {} that came over a channel you trust)",
            other.file
        )
    } else if other.in_use {
        format!(
            "the session still goes by {old}: `onduty key rotate use` on the other node, too, and if it does not know {new}, \
             `onduty key rotate prepare --from FILE` before"
        )
    } else if other.droppable {
        format!("`onduty key rotate finish` drops {old}, here and on the other node")
    } else {
        format!(
            "there is no session now that shows whether the other node has {new}; wait for it before {old} is dropped"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: KeySlot, in_use: bool, droppable: bool) -> PairKey {
        let (file, fingerprint) = ("/etc/pair.key.next".to_owned(), format!("{}a5b6c7d8", slot as i32));
        PairKey { slot: slot as i32, fingerprint, file, in_use, since: None, droppable }
    }

    #[test]
    fn each_stage_says_what_comes_next() {
        use KeySlot::{Current, Next, Previous};
        assert_eq!(next_step(&[]), None);
        assert_eq!(next_step(&[key(Current, true, false)]), None);
        for (keys, words) in [
            ([key(Current, true, false), key(Next, false, true)], "when both accept 3a5b6c7d8"),
            ([key(Current, false, true), key(Previous, true, false)], "the session still goes by 2a5b6c7d8"),
            ([key(Current, true, false), key(Previous, false, true)], "finish` drops 2a5b6c7d8"),
            ([key(Current, false, false), key(Previous, false, false)], "there is no session now"),
        ] {
            let said = next_step(&keys).unwrap_or_default();
            assert!(said.contains(words), "{said}");
        }
        let rows = rows(&[key(Current, true, false), key(Previous, false, true)]);
        assert_eq!(rows[0], ("key", "1a5b6c7d8, in use".to_owned()));
        assert_eq!(rows[1], ("previous key", "2a5b6c7d8, unused, may be removed".to_owned()));
    }
}
