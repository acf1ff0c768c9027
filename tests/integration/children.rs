//! What a command has and does not have, looked at from inside, and what somebody in it could do with it.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Dir;
use crate::support::binary::{Binary, DYING, GENEROUS, Running, sh, until, wait_until};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::Signal;

/// Prints what the kernel knows of the shell `$1`, each line with its topic before it. What a program inherits is read by
/// one, of itself: shells block and catch signals for themselves.
const LOOK: &str = r#"
    of=/proc/$1
    ls $of/fd
    sed -n "s/^\(Umask\|Groups\|Cap...\|NoNewPrivs\|SigBlk\|SigIgn\):[[:space:]]*/\1 /p" /proc/self/status
    sed -n "s/^/limit /p" $of/limits
    set -- $(cat $of/stat)
    echo "ids $1 $5 $6"
    echo "terminal $7 $8"
"#;

/// Steps that look from inside: as root, and as somebody else.
fn looks() -> String {
    let look = format!("set -- $$; {LOOK}");
    sh("root", &look, "")
        + &sh(
            "nobody",
            &look,
            "user = \"nobody\"\nno-new-privileges = true",
        )
}

/// A command with its words and environment, started by another one. Nothing else is taken along.
fn behind(first: &[&str], command: &Command) -> Command {
    let mut behind = Command::new(first[0]);
    behind.args(&first[1..]);
    behind.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => behind.env(name, value),
            None => behind.env_remove(name),
        };
    }
    behind
}

/// The lines that a step wrote.
fn lines<'a>(told: &'a str, step: &str) -> Vec<&'a str> {
    let begin = format!("{step} | ");
    let of = |line: &'a str| line.split_once(&begin).map(|(_, rest)| rest);
    told.lines().filter_map(of).collect()
}

/// What lines say of each topic.
fn topics<'a>(lines: &[&'a str]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut topics: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in lines {
        let (topic, value) = line.split_once(' ').unwrap_or((line, ""));
        topics.entry(topic).or_default().push(value.trim());
    }
    topics
}

/// The numbers of open files among the topics.
fn files<'a>(topics: &BTreeMap<&'a str, Vec<&str>>) -> Vec<&'a str> {
    let is_number = |topic: &&str| topic.bytes().all(|byte| byte.is_ascii_digit());
    topics.keys().copied().filter(is_number).collect()
}

/// SIGHUP, SIGINT and SIGTERM in a mask: farewell catches them, also where its caller ignores them, as nohup(1) does.
const CAUGHT: u64 = 1 << 0 | 1 << 1 | 1 << 14;

/// The standard ones of a mask of signals. Of the others the C library has two for itself.
fn standard(mask: &str) -> u64 {
    u64::from_str_radix(mask, 16).expect("a mask") & 0x7fff_ffff
}

/// A terminal, of which farewell has the one end as the terminal of its session.
struct Terminal {
    keys: File,
    screen: OwnedFd,
}

impl Terminal {
    fn new() -> Terminal {
        let pair = openpty(None, None).expect("a terminal");
        Terminal {
            keys: pair.master.into(),
            screen: pair.slave,
        }
    }

    /// The command in a session that has this terminal, and in the foreground of it.
    fn start(&self, command: &Command) -> Running {
        let mut command = behind(&["setsid", "--ctty"], command);
        let screen = self.screen.try_clone().expect("another one");
        Running::spawn(command.stdin(Stdio::from(screen)))
    }

    /// Whether somebody has typed a line.
    fn has_a_line(&self) -> bool {
        let mut polled = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).expect("polled") > 0
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_command_has_its_own_three_files_and_session_and_the_limits_of_a_service() {
    let binary = Binary::new("inside", &looks());
    let file = binary.dir.file("of-root");
    fs::write(&file, "secret").expect("written");
    let terminal = Terminal::new();
    // Whoever calls farewell may have opened files, and has limits and a umask of its own.
    let begin = format!(
        "exec 7<{file} 9<&0; umask 0007; ulimit -S -n 512; ulimit -S -c 0; ulimit -S -s 4096; \
         set -- $$ \"$@\"; look() {{ {LOOK} }}; look $$ | sed 's/^/caller | /'; shift; exec \"$@\""
    );
    let first = ["bash", "-c", begin.as_str(), "caller"];
    let run = terminal.start(&behind(&first, &binary.command(&["run"])));
    let ended = run.end(GENEROUS);
    assert_eq!(ended.code, 0, "{ended:?}");
    let caller_lines = lines(&ended.stdout, "caller");
    let caller = topics(&caller_lines);
    assert!(["7", "9"].iter().all(|it| files(&caller).contains(it)));
    assert_ne!(caller["terminal"], ["0 -1"], "it has one");
    for step in ["root", "nobody"] {
        let said = lines(&ended.stdout, step);
        let seen = topics(&said);
        assert_eq!(files(&seen), ["0", "1", "2"], "{step}: {said:?}");
        assert_eq!(seen["Umask"], ["0022"], "{step}");
        assert_eq!(seen["limit"], caller["limit"], "{step}");
        assert_eq!(seen["SigBlk"], ["0000000000000000"], "{step}");
        assert_eq!(
            standard(seen["SigIgn"][0]),
            standard(caller["SigIgn"][0]) & !CAUGHT,
            "{step}"
        );
        let ids: Vec<&str> = seen["ids"][0].split(' ').collect();
        assert_eq!(ids, [ids[0]; 3], "{step} leads its group and its session");
        assert_eq!(seen["terminal"], ["0 -1"], "{step}");
    }
    let said = lines(&ended.stdout, "root");
    let root = topics(&said);
    assert_eq!(
        (&root["CapEff"], &root["NoNewPrivs"]),
        (&caller["CapEff"], &caller["NoNewPrivs"])
    );
    let said = lines(&ended.stdout, "nobody");
    let nobody = topics(&said);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(nobody[set], ["0000000000000000"], "{set}");
    }
    assert_eq!(nobody["Groups"], ["65534"]);
    assert_eq!(nobody["NoNewPrivs"], ["1"]);
}

#[test]
fn a_user_begins_with_a_fresh_environment() {
    let more = "environment = { OWN = \"1\", SHELL = \"/own\" }";
    let env = |name: &str, more: &str| {
        format!("[[step]]\nname = \"{name}\"\nkind = \"command\"\nargv = [\"env\"]\n{more}\n")
    };
    let config = env("root", more) + &env("nobody", &format!("user = \"nobody\"\n{more}"));
    let binary = Binary::new("fresh", &config);
    // What a person or a unit has in its environment.
    let set = [
        "LANG=C.UTF-8",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "FAREWELL_OF_OURS=1",
        "SECRET_OF_ROOT=1",
        "LD_LIBRARY_PATH=/root/lib",
        "XDG_RUNTIME_DIR=/run/user/0",
        "HOME=/root",
        "CREDENTIALS_DIRECTORY=/of/root",
    ];
    let bus = format!("DBUS_SYSTEM_BUS_ADDRESS={}", binary.bus());
    let run = binary.command(&["run"]);
    let mut command = Command::new("env");
    command.arg("-i").args(set).arg(&bus);
    command.arg(run.get_program()).args(run.get_args());
    let ended = Running::spawn(command.stdin(Stdio::null())).end(GENEROUS);
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut seen = lines(&ended.stdout, "nobody");
    seen.sort_unstable();
    let expected = [
        "FAREWELL_OF_OURS=1",
        "HOME=/nonexistent",
        "LANG=C.UTF-8",
        "LOGNAME=nobody",
        "OWN=1",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "SHELL=/own",
        "USER=nobody",
    ];
    assert_eq!(seen, expected);
    let mut seen = lines(&ended.stdout, "root");
    seen.sort_unstable();
    let mut expected: Vec<&str> = set
        .into_iter()
        .chain([bus.as_str(), "OWN=1", "SHELL=/own"])
        .collect();
    expected.retain(|it| !it.starts_with("CREDENTIALS_DIRECTORY="));
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn a_command_types_nothing_into_the_terminal_of_root() {
    // TIOCSTI, as the C library's headers have it. Some kernels refuse it to whoever is not root.
    let typing = r#"open(my $tty, "+<", "/dev/tty") or die "no terminal: $!\n"; print "has a terminal\n";
        ioctl($tty, 0x5412, $_) or die "not typed: $!\n" for split //, "touch /root/of-an-attack\n""#;
    // The attack is one: it reaches the terminal of a session that it is in.
    let terminal = Terminal::new();
    let mut attack = Command::new("perl");
    attack.args(["-e", typing]);
    let ended = terminal.start(&attack).end(GENEROUS);
    assert_eq!(ended.stdout, "has a terminal\n", "{ended:?}");
    assert_eq!(terminal.has_a_line(), ended.code == 0, "{ended:?}");

    let step = |name: &str, more: &str| {
        let argv = format!("argv = [\"perl\", \"-e\", '''{typing}''']");
        // ENXIO.
        let more = format!("expect = 6\n{more}");
        format!("[[step]]\nname = \"{name}\"\nkind = \"command\"\n{argv}\n{more}\n")
    };
    let config = step("root", "") + &step("nobody", "user = \"nobody\"");
    let binary = Binary::new("types", &config);
    let terminal = Terminal::new();
    let ended = terminal.start(&binary.command(&["run"])).end(GENEROUS);
    for step in ["root", "nobody"] {
        let said = lines(&ended.stdout, step);
        assert_eq!(said, ["no terminal: No such device or address"], "{step}");
    }
    assert!(!terminal.has_a_line(), "{ended:?}");
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn no_set_user_id_program_gives_more_rights() {
    // A program of root's that tells whom it runs as. On /tmp such ones often have no rights.
    let place = Dir(format!("/var/tmp/farewell-test-set-user-id-{}", std::process::id()).into());
    fs::create_dir(&place.0).expect("made");
    let whom = place.file("whom");
    fs::copy("/usr/bin/id", &whom).expect("copied");
    fs::set_permissions(&whom, Permissions::from_mode(0o4755)).expect("changed");
    let script = format!("{whom} -u");
    let step = |name: &str, more: &str| sh(name, &script, &format!("user = \"nobody\"\n{more}"));
    let config = step("may", "") + &step("may-not", "no-new-privileges = true");
    let binary = Binary::new("set-user-id", &config);
    let ended = binary.start(&["run"]).end(GENEROUS);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(lines(&ended.stdout, "may"), ["0"], "{ended:?}");
    assert_eq!(lines(&ended.stdout, "may-not"), ["65534"], "{ended:?}");
}

#[test]
fn ctrl_c_ends_what_a_run_by_hand_has_started() {
    let script = "trap 'touch @/ended; exit 0' TERM; touch @/on; while :; do sleep 0.05; done";
    let binary = Binary::new("ctrl-c", &sh("waits", script, "timeout = \"80s\""));
    let mut terminal = Terminal::new();
    let run = terminal.start(&binary.command(&["run"]));
    wait_until("the command runs", || binary.exists("on"));
    terminal.keys.write_all(b"\x03").expect("typed");
    let ended = run.end(GENEROUS);
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(binary.exists("ended"), "{ended:?}");
    assert_eq!(binary.left(), Vec::<String>::new());
}

#[test]
fn a_command_is_killed_also_where_farewell_was_held_up_past_its_deadline() {
    let deaf = "trap '' TERM; echo $$ >@/pid; mv @/pid @/deaf; while :; do sleep 0.05; done";
    let next = format!("touch @/next; {}", until("@/go"));
    let config = sh("deaf", deaf, "timeout = \"5s\"\ngrace = \"300ms\"")
        + &sh("next", &next, "always = true\ntimeout = \"80s\"");
    let binary = Binary::new("held-up", &config);
    let begun = Instant::now();
    let run = binary.start(&["run"]);
    wait_until("the command runs", || binary.exists("deaf"));
    run.signal(Signal::SIGSTOP);
    let pid = fs::read_to_string(binary.dir.file("deaf")).expect("read");
    std::thread::sleep(Duration::from_secs(6).saturating_sub(begun.elapsed()));
    run.signal(Signal::SIGCONT);
    wait_until("the next one runs", || binary.exists("next"));
    // While farewell still runs: at its end it kills what is left anyway.
    let directory = Path::new("/proc").join(pid.trim());
    let seen = Instant::now();
    while directory.exists() && seen.elapsed() < DYING {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!directory.exists(), "{pid}");
    fs::write(binary.dir.file("go"), "").expect("written");
    let ended = run.end(GENEROUS);
    assert!(ended.stdout.contains("step deaf: timed-out"), "{ended:?}");
    assert_eq!(binary.left(), [""; 0]);
}
