//! Mazes of authorities and damaged bytes: bounded, never a panic, never accepted.

use std::time::Duration;

use certificate_trust::{Bundle, parse_crls};
use proptest::prelude::{any, prop_assert, proptest};
use rcgen::{DnType, KeyPair};

use crate::authority::Authority;
use crate::rows::{CHAIN, Row, plain, root};

/// A stranger may show what he likes: bounded in time, and never a panic.
#[test]
#[allow(clippy::disallowed_methods, reason = "it measures")]
fn a_maze_of_authorities_is_left_in_time() {
    let root = root();
    let key = KeyPair::generate().unwrap();
    // Sixty authorities with one name and many keys, each signed by another of them.
    let mut maze = vec![root.below("Maze", plain)];
    for _ in 0..60 {
        maze.push(
            maze[maze.len() - 1]
                .below("Maze", |params| params.distinguished_name.push(DnType::CommonName, "Maze")),
        );
    }
    let leaf = maze[60].leaf_with(&key, plain);
    let all: Vec<&Authority> = maze.iter().collect();
    let begun = std::time::Instant::now();
    let (code, _) = Row::new(root.trusted(), leaf).showing(&all).decide();
    assert!(code != CHAIN, "{code}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// A chain and a list made once, to be damaged many times.
fn whole() -> &'static (Vec<u8>, Vec<u8>, Vec<u8>) {
    static MADE: std::sync::OnceLock<(Vec<u8>, Vec<u8>, Vec<u8>)> = std::sync::OnceLock::new();
    MADE.get_or_init(|| {
        let root = root();
        (root.leaf(plain), root.crl(&[43], -1, 30), root.der)
    })
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 512, ..Default::default() })]

    /// Damage anywhere in a certificate or a list: never a panic, and never accepted unless nothing was changed.
    #[test]
    fn what_was_damaged_is_never_accepted(place in any::<proptest::sample::Index>(), value in any::<u8>(), in_list in any::<bool>()) {
        let (mut leaf, mut list, root) = whole().clone();
        let damaged = if in_list { &mut list } else { &mut leaf };
        let place = place.index(damaged.len());
        let is_changed = damaged[place] != value;
        damaged[place] = value;
        let trusting = Bundle { revision: 1, issuers: vec![root], ..Bundle::default() };
        let row = Row::new(trusting, leaf).with(|bundle| match parse_crls(&list) {
            Ok(crls) => bundle.crls = crls,
            Err(why) => bundle.unreadable_crls = vec![why],
        });
        // A list that was changed to another issuer's says nothing of this one.
        let (code, _) = row.decide();
        prop_assert!(!is_changed || in_list || code != CHAIN, "{}", code);
        prop_assert!(is_changed || code == CHAIN, "{}", code);
    }
}
