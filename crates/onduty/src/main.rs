//! The `onduty` command.
fn main() {}
