//! The codes of what can be wrong and is no event: settings, commands, a dial. Each has a page in `docs/errors/`, with the
//! codes of events (`failover_core::EventCode`), of refusals (`onduty_api::errors::Refusal`) and of certificates.
//!
//! A code names a situation in which a person must act, not a place in the source: two messages about the same situation
//! have the same code. Wherever the message is shown, the code stands at its end, in square brackets.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident => $text:literal),+ $(,)?) => {
        /// What is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $name,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The code as it is printed; also the name of its page.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

codes! {
    // Settings.
    /// The settings file cannot be read, or is no TOML.
    SettingsUnreadable => "settings_unreadable",
    /// Nothing at all was set.
    NoSettings => "no_settings",
    /// A key that is no setting.
    UnknownKey => "unknown_key",
    /// A setting of a later version.
    NotInThisVersion => "not_in_this_version",
    /// A value that breaks the rule of its key.
    BadValue => "bad_value",
    /// A setting that this mode needs.
    MissingKey => "missing_key",
    /// Timings that cannot work together.
    BadTiming => "bad_timing",
    /// The key of the pair is missing, too short, or readable by others.
    KeyUnusable => "key_unusable",
    // Commands.
    /// No node answers on its socket.
    NoNode => "no_node",
    /// The socket belongs to another user.
    SocketForbidden => "socket_forbidden",
    /// The node did not answer in time.
    TimedOut => "timed_out",
    /// What was asked for breaks a rule.
    BadRequest => "bad_request",
    /// The node is not fit, or not active.
    NotReady => "not_ready",
    /// A key file is not overwritten.
    KeyFileExists => "key_file_exists",
    /// A key is not dropped while the pair may need it.
    KeyInUse => "key_in_use",
    /// It is not the time for this step of a rotation.
    KeyStepRefused => "key_step_refused",
    /// The node's port is taken or cannot be opened.
    PortUnusable => "port_unusable",
    /// The data directory cannot be used.
    DataDirUnusable => "data_dir_unusable",
    /// Another onduty runs on the data directory.
    DataDirInUse => "data_dir_in_use",
    /// The node's own certificate or its folders cannot be used.
    PkiUnusable => "pki_unusable",
    // The link, as the dialling node meets it.
    /// There is no other node to try.
    NoAddress => "no_address",
    /// The host's name has no address.
    NameUnresolved => "name_unresolved",
    /// Nobody listens on the port.
    ConnectionRefused => "connection_refused",
    /// No route leads there.
    Unreachable => "unreachable",
    /// No answer in time.
    NoAnswer => "no_answer",
    /// The connection was ended before the proof.
    ClosedEarly => "closed_early",
    /// The other node has died and its guard answers.
    GuardAnswers => "guard_answers",
    /// Something else than onduty answers.
    NotOnduty => "not_onduty",
    /// The two nodes have different keys.
    KeyMismatch => "key_mismatch",
    /// Whoever answers does not know the key but acts as if.
    Impostor => "impostor",
    // What a connection test finds.
    /// Both nodes have the same role.
    RoleClash => "role_clash",
    /// A connection takes longer than a dial may.
    LinkSlow => "link_slow",
    /// The timings of the two nodes cannot work together.
    TimingMismatch => "timing_mismatch",
    /// One lost heartbeat is an alarm.
    TimingTight => "timing_tight",
    /// The nodes run different versions.
    VersionDiffers => "version_differs",
    /// The clocks of the nodes differ.
    ClockDiffers => "clock_differs",
    /// The nodes define their plugins differently.
    ProjectDiffers => "project_differs",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
