//! What `onduty status --json` says, as far as tests ask for it. The one place that knows the shape of that answer.

use serde_json::Value;

/// One answer.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    /// Reads the command's output; `None` when it is not JSON.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    /// `ready`, `degraded`, `lost` or `off`.
    #[must_use]
    pub fn redundancy(&self) -> &str {
        self.text("/redundancy")
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.text("/redundancy_reason")
    }

    /// `starting`, `standby`, `taking_over`, `active`, `yielding` or `standalone`.
    #[must_use]
    pub fn state(&self) -> &str {
        self.text("/node/state")
    }

    /// The peer's link: `silent`, `unproved`, `proved_refused` or `established`.
    #[must_use]
    pub fn link(&self) -> &str {
        self.text("/peer/link")
    }

    /// What was seen last on the link, or why it is refused.
    #[must_use]
    pub fn link_reason(&self) -> &str {
        self.text("/peer/link_reason")
    }

    /// Whether a warning with this code lasts.
    #[must_use]
    pub fn warns(&self, code: &str) -> bool {
        let warnings = self.0.pointer("/warnings").and_then(Value::as_array);
        warnings
            .into_iter()
            .flatten()
            .any(|warning| warning.pointer("/code").and_then(Value::as_str) == Some(code))
    }

    /// How many connections were rejected, for whatever reason.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        let reasons = self.0.pointer("/rejected").and_then(Value::as_object);
        reasons.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
    }

    /// How many connections were rejected for this reason.
    #[must_use]
    pub fn rejected_as(&self, code: &str) -> u64 {
        self.0.pointer("/rejected").and_then(|reasons| reasons.get(code)).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The sentence of a warning that lasts; empty when there is none with this code.
    #[must_use]
    pub fn warning(&self, code: &str) -> &str {
        let warnings = self.0.pointer("/warnings").and_then(Value::as_array);
        let found = warnings
            .into_iter()
            .flatten()
            .find(|warning| warning.pointer("/code").and_then(Value::as_str) == Some(code));
        found.and_then(|warning| warning.pointer("/sentence")).and_then(Value::as_str).unwrap_or_default()
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}
