//! What a stranger at the peer's address can make a machine say: something, and not without end.
#![allow(clippy::unwrap_used)]

mod pair;

use std::collections::BTreeMap;

use failover_core::{
    BootTime, DialOutcome, Effect, Epoch, EventCode, Input, Machine, Memory, Now, PathId, Warning,
};

fn at(millis: u64) -> Now {
    Now { boot: BootTime::from_millis(10_000 + millis), unix: 1_700_000_000 + millis / 1000 }
}

/// A secondary that knows its primary and cannot reach it; at its address something else answers, each time, or each other
/// time, with something new. How often each event was said in ten minutes, and what stands at the end.
fn ten_minutes(every_other: bool) -> (BTreeMap<&'static str, usize>, Vec<Warning>) {
    let memory = Memory { paired_with: Some(pair::identity(0, 0)), ..Memory::default() };
    let (mut machine, _) = Machine::new(at(0), pair::settings(1), memory, Some(Epoch(0)));
    let path = PathId::try_from(0).unwrap();
    let mut said = BTreeMap::new();
    for dial in 0..600_u64 {
        let now = at(dial * 1000);
        while let Some(due) = machine.deadline().filter(|due| *due <= now.boot) {
            let effects = machine.handle(Now { boot: due, unix: now.unix }, Input::Woke);
            count(&mut said, &effects);
        }
        let outcome = if every_other && dial % 2 == 1 {
            DialOutcome::Silent("it closed the connection".to_owned())
        } else {
            DialOutcome::Unproved(format!("it shows the certificate {dial}"))
        };
        let effects = machine.handle(now, Input::DialFinished { path, outcome });
        count(&mut said, &effects);
    }
    (said, machine.view(at(600_000)).warnings)
}

fn count(said: &mut BTreeMap<&'static str, usize>, effects: &[Effect]) {
    for effect in effects {
        if let Effect::Record(event) = effect {
            *said.entry(event.code.as_str()).or_default() += 1;
        }
    }
}

#[test]
fn a_stranger_that_answers_with_something_new_each_time_does_not_fill_the_journal() {
    for every_other in [false, true] {
        let (said, warnings) = ten_minutes(every_other);
        let of = |code: EventCode| said.get(code.as_str()).copied().unwrap_or_default();
        assert!((1..=12).contains(&of(EventCode::PeerUnproved)), "{said:?}");
        // Where nothing answers now and then, the silence begins anew each time, and no takeover is due.
        let held = if every_other { 0..=0 } else { 1..=12 };
        assert!(held.contains(&of(EventCode::TakeoverHeld)), "{said:?}");
        let total: usize = said.values().sum();
        assert!(total <= 40, "{said:?}");
        if !every_other {
            assert!(warnings.iter().any(|w| w.code == EventCode::TakeoverHeld), "{warnings:?}");
        }
    }
}
