//! Tests in a process of their own, since what they use or change is the whole process': its mounts, its memory, its
//! children, its environment, its logger, the secrets that it hides.

use std::env;
use std::process::Command;

/// The name of the test function that this stands in, as `--exact` takes it.
macro_rules! this_test {
    () => {{
        fn here() {}
        let path = std::any::type_name_of_val(&here);
        let test = path.strip_suffix("::here").expect("the function's path");
        test.split_once("::")
            .expect("the program's name before it")
            .1
    }};
}
pub(crate) use this_test;

/// The test that a process was started for by [`again`].
const TEST: &str = "FAREWELL_TEST_INSIDE";

/// Whether this is the process that `test` has started with [`again`].
pub fn is_inside(test: &str) -> bool {
    env::var_os(TEST).is_some_and(|it| it == test)
}

/// This program again with that test alone. A `wrapper` gets the program and its arguments as its own last ones.
pub fn again(test: &str, wrapper: &[&str]) -> Command {
    let program = env::current_exe().expect("a path");
    let mut command = match wrapper {
        [] => Command::new(program),
        [first, more @ ..] => {
            let mut command = Command::new(first);
            command.args(more).arg(program);
            command
        }
    };
    command
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(TEST, test);
    command
}

/// Runs the body of `test` in a process that the wrapper starts, and fails as it does.
pub fn through(wrapper: &[&str], test: &str, body: impl FnOnce()) {
    if is_inside(test) {
        return body();
    }
    let output = again(test, wrapper).output().expect("started");
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let passed = output.status.success() && printed.contains("1 passed");
    assert!(passed, "{}\n{printed}\n{errors}", output.status);
}

pub fn in_own_process(test: &str, body: impl FnOnce()) {
    through(&[], test, body);
}

/// In a mount namespace of its own, where nothing that the body mounts outlives it.
pub fn in_own_namespace(test: &str, body: impl FnOnce()) {
    through(&["unshare", "-m", "--propagation", "private"], test, body);
}
