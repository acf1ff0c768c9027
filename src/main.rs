//! The `farewell` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    farewell::app::main()
}
