//! While the supervisor is away: orders are answered by what is certain, the guard is heard past it, and leftovers are looked
//! for.

use std::sync::Arc;
use std::time::Duration;

use failover_core::{Epoch, Input};
use tokio::time::timeout;

use super::{Follower, word};

/// How long the guard of a supervisor that went may take to speak by itself, before others look after what is left.
const FIRST_WORD: Duration = Duration::from_millis(20);

impl Follower {
    /// Answers orders, and hears the guard, until something has come about. `None` when the driver has ended.
    pub(super) async fn while_away<T>(&mut self, awaited: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(awaited);
        loop {
            let order = *self.options.port.orders.borrow_and_update();
            if let Some(report) = order.and_then(|order| self.doubt.answer(order, self.options.clock.boot()))
            {
                self.report(report).await?;
            }
            // What a secret would prove, no guard could.
            while self.options.port.secrets.try_recv().is_ok() {}
            // Cancel-safe: each branch loses nothing when dropped, and what is awaited is only looked at again.
            tokio::select! {
                outcome = &mut awaited => return Some(outcome),
                changed = self.options.port.orders.changed() => changed.ok()?,
                word = word(self.line.as_ref()) => {
                    self.note(word);
                    self.believe_guard().await?;
                }
            }
        }
    }

    /// Nobody needs to wait for a lease or for another supervisor when it is certain that nothing lives. Whether the guard was
    /// asked to see to it.
    pub(super) async fn look_after_leftovers(&mut self) -> Option<bool> {
        self.hear_guard().await?;
        if self.doubt.in_doubt().is_none() && self.swept {
            return Some(false);
        }
        let nothing_lives = Arc::clone(&self.options.nothing_lives);
        // It may take seconds, and orders are answered meanwhile.
        let looking = tokio::task::spawn_blocking(move || nothing_lives());
        if self.while_away(looking).await?.unwrap_or(false) {
            self.swept = true;
            self.nothing_lives("the plugin supervisor died, and the plugins with it").await?;
            return Some(false);
        }
        let order = *self.options.port.orders.borrow();
        // One whose guard ended the plugins before it could say so stands still: its orders are not waited for either.
        let due = self.empty || self.doubt.is_due(order, self.options.clock.boot());
        match (self.doubt.in_doubt(), &self.line) {
            (Some(epoch), Some(line)) if due => line.end(epoch),
            _ => return Some(false),
        }
        Some(true)
    }

    /// A word of the guard: what is gone for good, or that nothing lives for now.
    pub(super) fn note(&mut self, word: Option<Epoch>) {
        match word {
            // Of what was sent up to now: what comes later runs elsewhere.
            Some(_) => self.gone = self.gone.max(word.min(self.doubt.sent)),
            None => self.empty = true,
        }
    }

    /// Nobody knows sooner that nothing lives: a dead supervisor's guard says it before it goes.
    async fn hear_guard(&mut self) -> Option<()> {
        self.believe_guard().await?;
        if self.doubt.in_doubt().is_some()
            && let Ok(word) = timeout(FIRST_WORD, word(self.line.as_ref())).await
        {
            self.note(word);
            self.believe_guard().await?;
        }
        Some(())
    }

    /// The guard has ended whatever may have been begun, and begins it never again.
    async fn believe_guard(&mut self) -> Option<()> {
        if self.doubt.in_doubt().is_some_and(|epoch| self.gone >= Some(epoch)) {
            return self
                .nothing_lives("the plugin supervisor is away, and its guard has ended the plugins")
                .await;
        }
        Some(())
    }

    /// Of the epoch in doubt, if there is one.
    async fn nothing_lives(&mut self, why: &str) -> Option<()> {
        let Some(epoch) = self.doubt.in_doubt() else { return Some(()) };
        self.doubt.nothing_lives();
        self.report(Input::GuardFired { epoch, why: why.to_owned() }).await?;
        self.report(Input::PluginsReaped { epoch }).await
    }
}
