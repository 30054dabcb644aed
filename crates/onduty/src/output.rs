//! What is printed: people's text and machines' JSON on the standard output, complaints on the standard error.
//!
//! A reader that has gone (`onduty events | head`) ends the program quietly.

use std::io::{self, IsTerminal, Write};

/// Prints one line.
pub(crate) fn line(text: impl AsRef<str>) {
    raw(&format!("{}\n", text.as_ref()));
}

/// Prints text as it is.
pub(crate) fn raw(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints a JSON value: one line, so that a stream of them can be read line by line.
pub(crate) fn json(value: &serde_json::Value) {
    line(value.to_string());
}

/// Says what went wrong.
pub(crate) fn complain(text: &str) {
    // Nobody is left to be told when even this fails.
    let _ = writeln!(io::stderr().lock(), "onduty: {text}");
}

/// A sentence with the code whose page says more; nothing is added where there is none.
pub(crate) fn coded(sentence: &str, code: &str) -> String {
    if code.is_empty() { sentence.to_owned() } else { format!("{sentence} [{code}]") }
}

/// Whether colours are wanted: a terminal, and nobody said no.
pub(crate) fn coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The colours used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    /// Well.
    Green,
    /// Look at it.
    Yellow,
    /// Act.
    Red,
    /// Less important.
    Grey,
    /// A heading.
    Bold,
}

/// The text in a colour, on a terminal.
pub(crate) fn paint(colour: Colour, text: &str) -> String {
    if !coloured() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Red => "31",
        Colour::Grey => "90",
        Colour::Bold => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// A span of time for people: `340 ms`, `12 s`, `3 min 05 s`, `2 h 10 min`, `5 d 3 h`.
pub(crate) fn span(seconds: f64) -> String {
    if seconds < 0.01 {
        return format!("{:.1} ms", seconds.max(0.0) * 1e3);
    }
    if seconds < 1.0 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{} s", trim(seconds)),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// Seconds with at most one decimal: `3`, `1.7`.
fn trim(seconds: f64) -> String {
    let text = format!("{seconds:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_are_told_in_the_unit_a_person_would_choose() {
        for (seconds, text) in [
            (0.0004, "0.4 ms"),
            (0.34, "340 ms"),
            (3.0, "3 s"),
            (1.705, "1.7 s"),
            (185.0, "3 min 05 s"),
            (7800.0, "2 h 10 min"),
            (442_800.0, "5 d 3 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
