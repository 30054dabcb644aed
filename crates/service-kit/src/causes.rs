//! Errors as people read them.

use std::error::Error;

/// The message of an error with those of its causes, in one line.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("cannot write `memory.json`")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_error_is_told_with_its_causes_in_order() {
        let inner = io::Error::other("disk full");
        assert_eq!(with_causes(&inner), "disk full");
        assert_eq!(with_causes(&Outer(inner)), "cannot write `memory.json`: disk full");
    }
}
