//! The program `onduty`: all of it is in the library beside this file, which the services' own programs share.

use std::process::ExitCode;

fn main() -> ExitCode {
    onduty::main()
}
