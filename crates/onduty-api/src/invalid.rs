//! What is wrong with a received message, and the small checks that find it.

use core::time::Duration;

use thiserror::Error;

/// A received message breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{field}` {rule}")]
pub struct Invalid {
    /// The field, as a path from the message's root: `report.timings.interval`.
    pub field: String,
    /// What is wrong with it, to be read after the field's name.
    pub rule: String,
}

impl Invalid {
    /// `field` breaks `rule` ("is missing", "must be …").
    pub fn new(field: &str, rule: impl Into<String>) -> Self {
        Self { field: field.to_owned(), rule: rule.into() }
    }

    /// The same, seen from the message that holds the field's message as `parent`.
    #[must_use]
    pub fn within(self, parent: &str) -> Self {
        Self { field: format!("{parent}.{}", self.field), rule: self.rule }
    }
}

/// Durations on the wire may be this long at most. Longer ones are mistakes, and sums of them could overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A message field that must be there.
pub(crate) fn required<T>(field: &str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::new(field, "is missing"))
}

/// Exactly `N` bytes.
pub(crate) fn bytes<const N: usize>(field: &str, value: &[u8]) -> Result<[u8; N], Invalid> {
    <[u8; N]>::try_from(value)
        .map_err(|_| Invalid::new(field, format!("must have {N} bytes, has {}", value.len())))
}

/// At most `limit` bytes of text.
pub(crate) fn text(field: &str, value: String, limit: usize) -> Result<String, Invalid> {
    if value.len() <= limit {
        Ok(value)
    } else {
        Err(Invalid::new(field, format!("must have at most {limit} bytes, has {}", value.len())))
    }
}

/// A duration that is there, not negative and at most [`LONGEST`].
pub(crate) fn duration(field: &str, value: Option<prost_types::Duration>) -> Result<Duration, Invalid> {
    let value = required(field, value)?;
    let parts = u64::try_from(value.seconds).ok().zip(u32::try_from(value.nanos).ok());
    let span = parts.filter(|(_, nanos)| *nanos < 1_000_000_000).map(|(s, n)| Duration::new(s, n));
    let span = span.ok_or_else(|| Invalid::new(field, "must be a duration of zero or more"))?;
    if span <= LONGEST { Ok(span) } else { Err(Invalid::new(field, "must be at most 366 days")) }
}

/// A duration for the wire, cut at [`LONGEST`].
pub(crate) fn to_duration(span: Duration) -> prost_types::Duration {
    let span = span.min(LONGEST);
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}

/// A moment of the wall clock for the wire.
pub(crate) fn to_timestamp(unix_ms: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(unix_ms % 1000).unwrap_or(0) * 1_000_000,
    }
}

/// A moment of the wall clock in milliseconds; before 1970 counts as 1970.
pub(crate) fn from_timestamp(moment: &prost_types::Timestamp) -> u64 {
    let seconds = u64::try_from(moment.seconds).unwrap_or(0);
    let millis = u64::try_from(moment.nanos).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1000).saturating_add(millis)
}

/// The text, cut to `limit` bytes without splitting a character.
pub(crate) fn clip(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_never_splits_a_character() {
        assert_eq!(clip("aäb".to_owned(), 2), "a");
        assert_eq!(clip("aäb".to_owned(), 3), "aä");
        assert_eq!(clip("aäb".to_owned(), 9), "aäb");
    }

    #[test]
    fn the_path_of_a_field_is_read_from_the_outside() {
        let error = Invalid::new("interval", "is missing").within("timings").within("report");
        assert_eq!(error.to_string(), "`report.timings.interval` is missing");
    }

    #[test]
    fn negative_huge_and_malformed_durations_are_refused() {
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
            assert!(
                duration("d", Some(prost_types::Duration { seconds, nanos })).is_err(),
                "{seconds} {nanos}"
            );
        }
        assert_eq!(duration("d", Some(to_duration(Duration::MAX))), Ok(LONGEST));
    }
}
