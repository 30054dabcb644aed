//! The rules that the six known mistakes break.
//!
//! A failover manager that makes one of them passes every fair-weather test. The test suite therefore builds each
//! broken machine on purpose and must catch it; `Rules::RIGHT` is the only value that production code can make.

/// Which of the six rules hold. Tests with the feature `broken-variants` can break one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Silence counts from the own stamp that the peer echoed, never from the arrival of the answer.
    pub(crate) count_from_echo: bool,
    /// `Starting` waits for the peer before it decides.
    pub(crate) wait_at_start: bool,
    /// `Yielding` ends only when every plugin has been reaped.
    pub(crate) reap_before_standby: bool,
    /// A refused connection is silence, not proof of death.
    pub(crate) refused_is_silence: bool,
    /// Of the reports that come over several paths the newest counts, not the one that comes last.
    pub(crate) newest_report: bool,
    /// The link is lost when the session of every path is.
    pub(crate) every_path: bool,
}

impl Rules {
    /// The rules as they are.
    pub(crate) const RIGHT: Self = Self {
        count_from_echo: true,
        wait_at_start: true,
        reap_before_standby: true,
        refused_is_silence: true,
        newest_report: true,
        every_path: true,
    };
}

/// The broken machines, by the rule that each ignores.
#[cfg(feature = "broken-variants")]
impl Rules {
    /// Silence counts from the arrival of the answer.
    #[doc(hidden)]
    pub const COUNT_FROM_ARRIVAL: Self = Self { count_from_echo: false, ..Self::RIGHT };
    /// No waiting at the start.
    #[doc(hidden)]
    pub const NO_STARTUP_WAIT: Self = Self { wait_at_start: false, ..Self::RIGHT };
    /// Standby is reported while plugins still run.
    #[doc(hidden)]
    pub const STANDBY_BEFORE_REAPED: Self = Self { reap_before_standby: false, ..Self::RIGHT };
    /// A refused connection counts as proof of death.
    #[doc(hidden)]
    pub const REFUSED_IS_DEAD: Self = Self { refused_is_silence: false, ..Self::RIGHT };
    /// Whatever report comes last counts.
    #[doc(hidden)]
    pub const LAST_REPORT_COUNTS: Self = Self { newest_report: false, ..Self::RIGHT };
    /// The end of one session is the end of the link.
    #[doc(hidden)]
    pub const ONE_PATH_IS_ALL: Self = Self { every_path: false, ..Self::RIGHT };
}
