//! The `farewell` command.

use std::process::ExitCode;

use farewell::sys::guarded;

fn main() -> ExitCode {
    if let Some(code) = guarded::serve(std::env::args_os()) {
        return code;
    }
    farewell::app::main()
}
