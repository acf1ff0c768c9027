//! What somebody at a terminal sees of a run, and what a pipe is given.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::own_process::{again, is_inside, this_test};
use crate::support::story::{at, begin, end, finished, started, waiting};
use farewell::model::error::{ErrorKind, Failure};
use farewell::model::event::{Event, EventKind, Result, Stream};
use farewell::report::dispatch::{Feed, Update};
use farewell::report::terminal::Terminal;
use farewell::sys::terminal::{Capabilities, Window};

/// A file that remembers each write, and breaks after some.
#[derive(Clone)]
struct Paper {
    written: Arc<Mutex<Vec<String>>>,
    patience: usize,
}

impl Paper {
    fn new() -> Paper {
        Paper {
            written: Arc::default(),
            patience: usize::MAX,
        }
    }

    fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.written.lock().expect("not poisoned"))
    }

    fn text(&self) -> String {
        self.writes().concat()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.written.lock().expect("not poisoned");
        written.push(String::from_utf8(bytes.to_vec()).expect("UTF-8"));
        if written.len() > self.patience {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn look(live: bool, columns: usize, rows: usize) -> Capabilities {
    Capabilities {
        live,
        colour: false,
        unicode: false,
        window: Window::Fixed { columns, rows },
    }
}

fn terminal(paper: &Paper, look: Capabilities) -> Feed {
    Feed::of(Terminal::new(Box::new(paper.clone()), look))
}

fn tell(terminal: &mut Feed, events: &[Event]) {
    for event in events {
        terminal.update(Update::Event(event));
    }
}

fn tick(terminal: &mut Feed, millis: u64) {
    terminal.update(Update::Tick(Duration::from_millis(millis)));
}

fn unreachable() -> Failure {
    Failure::new(ErrorKind::Unreachable, "http://x", "connection refused")
}

fn said(millis: u64, step: usize, line: &str) -> Event {
    let (stream, line) = (Stream::Out, line.to_owned());
    at(millis, EventKind::Output { step, stream, line })
}

#[test]
fn a_pipe_gets_plain_lines() {
    let paper = Paper::new();
    let mut pipe = terminal(&paper, look(false, 80, 24));
    farewell::model::secrets::hide("terminal-secret");
    tell(
        &mut pipe,
        &[
            begin(&["leave", "drain"], 90),
            started(1, 0),
            at(
                1234,
                EventKind::AttemptFailed {
                    step: 0,
                    attempt: 1,
                    failure: unreachable(),
                    again: Duration::from_millis(200),
                },
            ),
            waiting(1500, 0, "etcd"),
        ],
    );
    tick(&mut pipe, 5000);
    tick(&mut pipe, 5001);
    tell(
        &mut pipe,
        &[
            said(5100, 0, "\x1b]0;evil\x07\x1b[2Jterminal-secret\r\u{9b}1A"),
            finished(6001, 0, 6000, Some(unreachable())),
            at(
                6002,
                EventKind::Warning {
                    message: "the facts are old".to_owned(),
                },
            ),
            started(6002, 1),
            finished(8002, 1, 2000, None),
            end(8002, Result::Failed, None),
        ],
    );
    let text = paper.text();
    let expected = "\
[  0.000] run R1 begins: trigger stop, 2 steps, budget 1m 30s
[  0.001] step leave (http): started, 30 s left
[  1.234] step leave: attempt 1 failed: unreachable: http://x: connection refused; again in 0.2 s
[  5.001] step leave waits for etcd, 25 s left
[  5.100] leave | \\x1b]0;evil\\x07\\x1b[2J********\\x0d\\x9b1A
[  6.001] step leave: failed after 6 s: unreachable: http://x: connection refused
[  6.002] warning: the facts are old
[  6.002] step drain (http): started, 30 s left
[  8.002] step drain: done after 2 s

farewell R1: failed after 8 s (trigger stop, budget 1m 30s)
";
    let (lines, bars) = text.split_at(text.find("x leave").expect("a timeline"));
    assert_eq!(lines, expected);
    assert!(bars.starts_with("x leave  failed  6 s  #####"), "{bars}");
    assert!(bars.ends_with("warning: the facts are old\n"), "{bars}");
    assert!(!text.chars().any(|it| it.is_control() && it != '\n'));
}

#[test]
fn an_empty_sequence_says_so() {
    let paper = Paper::new();
    let mut pipe = terminal(&paper, look(false, 80, 24));
    tell(&mut pipe, &[begin(&[], 90), end(1, Result::Ok, None)]);
    assert_eq!(
        paper.text(),
        "[  0.000] the sequence is empty: nothing to do\n\
         farewell R1: ok after 1 ms (trigger stop, budget 1m 30s)\n"
    );
}

#[test]
fn running_steps_are_drawn_below_the_finished_ones() {
    let paper = Paper::new();
    let mut screen = terminal(&paper, look(true, 80, 24));
    tell(
        &mut screen,
        &[
            begin(&["leave-registry", "drain", "x"], 90),
            started(0, 0),
            started(0, 1),
        ],
    );
    screen.update(Update::Idle);
    assert_eq!(
        paper.text(),
        "run R1 begins: trigger stop, 3 steps, budget 1m 30s\n  \
         leave-registry   0.0 s  30.0 s left\n  \
         drain            0.0 s  30.0 s left\n"
    );
    // Too early to draw again.
    tell(&mut screen, &[waiting(50, 0, "etcd")]);
    screen.update(Update::Idle);
    assert_eq!(paper.text(), "");
    let failed = EventKind::AttemptFailed {
        step: 0,
        attempt: 1,
        failure: unreachable(),
        again: Duration::ZERO,
    };
    tell(
        &mut screen,
        &[at(2000, failed), finished(3000, 1, 3000, None)],
    );
    tick(&mut screen, 3200);
    assert_eq!(
        paper.text(),
        "\r\x1b[2A\x1b[J+ drain  done after 3 s\n  \
         leave-registry   3.2 s  26.8 s left  attempt 2  waiting for etcd\n"
    );
    tell(
        &mut screen,
        &[finished(4000, 0, 4000, None), end(4000, Result::Ok, None)],
    );
    let text = paper.text();
    assert!(
        text.starts_with("\r\x1b[1A\x1b[J+ leave-registry  done after 4 s\n\nfarewell R1: ok"),
        "{text:?}"
    );
}

#[test]
fn live_lines_fit_the_window() {
    let paper = Paper::new();
    let mut screen = terminal(&paper, look(true, 40, 6));
    let names: Vec<String> = (0..15).map(|index| format!("step-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    tell(&mut screen, &[begin(&names, 90)]);
    for step in 0..15 {
        tell(&mut screen, &[started(0, step)]);
    }
    tell(
        &mut screen,
        &[waiting(0, 0, "\x1b[2J a long word about nothing")],
    );
    tick(&mut screen, 100);
    let text = paper.text();
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "  step-0   0.1 s  29.9 s left  waiti...",
            "  step-1   0.1 s  29.9 s left",
            "  step-2   0.1 s  29.9 s left",
            "  ... and 12 more",
        ]
    );
}

#[test]
fn lines_that_a_narrower_window_broke_are_erased_whole() {
    let size = |columns| rustix::termios::Winsize {
        ws_row: 20,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = nix::pty::openpty(None, None).expect("a terminal");
    rustix::termios::tcsetwinsize(&pty.master, size(80)).expect("a size");
    let paper = Paper::new();
    let window = Window::Of(pty.slave.try_clone().expect("a descriptor"));
    let mut screen = terminal(
        &paper,
        Capabilities {
            window,
            ..look(true, 0, 0)
        },
    );
    let long = "a".repeat(100);
    tell(
        &mut screen,
        &[begin(&["leave"], 90), started(0, 0), waiting(0, 0, &long)],
    );
    tick(&mut screen, 100);
    let drawn = paper.text();
    assert_eq!(drawn.lines().last().map(str::len), Some(79));
    rustix::termios::tcsetwinsize(&pty.master, size(30)).expect("another size");
    tick(&mut screen, 200);
    let drawn = paper.text();
    assert!(drawn.starts_with("\r\x1b[3A\x1b[J  leave"), "{drawn:?}");
    assert_eq!(drawn.lines().last().map(|line| line.len() - 8), Some(29));
}

#[test]
fn a_reader_that_goes_away_is_not_missed() {
    let paper = Paper {
        patience: 1,
        ..Paper::new()
    };
    let mut pipe = terminal(&paper, look(false, 80, 24));
    tell(&mut pipe, &[begin(&["leave"], 90)]);
    tick(&mut pipe, 100);
    tell(&mut pipe, &[started(101, 0)]);
    tick(&mut pipe, 200);
    tell(&mut pipe, &[finished(300, 0, 199, None)]);
    tick(&mut pipe, 300);
    tell(&mut pipe, &[end(300, Result::Ok, None)]);
    assert_eq!(paper.writes().len(), 2, "one that went well, and the last");
}

#[test]
fn a_thousand_quick_steps_are_written_in_few_writes() {
    for live in [false, true] {
        let paper = Paper::new();
        let mut out = terminal(&paper, look(live, 80, 24));
        let names = ["x"; 1000];
        tell(&mut out, &[begin(&names, 90)]);
        for step in 0..1000 {
            let millis = step as u64;
            tell(
                &mut out,
                &[started(millis, step), finished(millis, step, 0, None)],
            );
            out.update(Update::Idle);
        }
        tell(&mut out, &[end(1000, Result::Ok, None)]);
        let writes = paper.writes();
        assert!(writes.len() <= 15, "{}", writes.len());
        assert!(writes.concat().matches("done after").count() == 1000);
    }
}

/// A run on this process's own output, which is a terminal or not.
fn draw() {
    let out = io::stdout();
    let mut terminal = Feed::of(Terminal::new(
        Box::new(io::stdout()),
        Capabilities::of(&out),
    ));
    tell(
        &mut terminal,
        &[begin(&["leave", "drain"], 90), started(0, 0), started(0, 1)],
    );
    tick(&mut terminal, 100);
    tell(&mut terminal, &[waiting(150, 0, "a".repeat(200).as_str())]);
    tick(&mut terminal, 200);
    tell(
        &mut terminal,
        &[
            finished(250, 0, 250, None),
            finished(250, 1, 250, None),
            end(250, Result::Ok, None),
        ],
    );
}

fn command(test: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = again(test, &[]);
    for name in ["NO_COLOR", "TERM", "LC_ALL", "LC_CTYPE", "LANG"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    command
}

/// What a terminal of 50 columns is sent.
fn on_a_terminal(test: &str, environment: &[(&str, &str)]) -> String {
    let size = nix::pty::Winsize {
        ws_row: 20,
        ws_col: 50,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = nix::pty::openpty(&size, None).expect("a terminal");
    let slave = |it: &OwnedFd| Stdio::from(it.try_clone().expect("a descriptor"));
    let mut child = command(test, environment)
        .stdin(Stdio::null())
        .stdout(slave(&pty.slave))
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    drop(pty.slave);
    let mut master = std::fs::File::from(pty.master);
    let (mut sent, mut buffer) = (Vec::new(), [0; 4096]);
    // A terminal whose last user is gone ends with an error.
    while let Ok(read @ 1..) = master.read(&mut buffer) {
        sent.extend_from_slice(&buffer[..read]);
    }
    assert!(child.wait().expect("its end").success());
    String::from_utf8(sent).expect("UTF-8")
}

fn colours(text: &str) -> usize {
    let sequences = text.split("\x1b[").skip(1);
    let last = |it: &str| it.chars().find(char::is_ascii_alphabetic);
    sequences.filter(|it| last(it) == Some('m')).count()
}

#[test]
fn a_terminal_is_drawn_on_in_colour() {
    if is_inside(this_test!()) {
        return draw();
    }
    let text = on_a_terminal(this_test!(), &[("TERM", "xterm"), ("LANG", "C.UTF-8")]);
    assert!(text.contains("\x1b[2A\x1b[J"), "{text:?}");
    assert!(text.contains("\x1b[32m✓\x1b[0m leave"), "{text:?}");
    let live = text.lines().find(|line| line.contains("waiting for"));
    let live = live.expect("a live line").trim_end();
    let plain = live.replace("\x1b[36m", "").replace("\x1b[0m", "");
    let plain = plain.rsplit("\x1b[J").next().expect("the line");
    assert_eq!(plain.chars().count(), 49, "{plain:?}");
    assert!(plain.ends_with("aaa…"), "{plain:?}");
}

#[test]
fn no_color_is_honoured() {
    if is_inside(this_test!()) {
        return draw();
    }
    let text = on_a_terminal(this_test!(), &[("TERM", "xterm"), ("NO_COLOR", "1")]);
    assert!(text.contains("\x1b[2A\x1b[J"), "{text:?}");
    assert_eq!(colours(&text), 0, "{text:?}");
    assert!(colours(&on_a_terminal(this_test!(), &[("TERM", "xterm")])) > 0);
}

#[test]
fn a_dumb_terminal_and_a_pipe_get_no_escape_codes() {
    if is_inside(this_test!()) {
        return draw();
    }
    let dumb = on_a_terminal(this_test!(), &[("TERM", "dumb")]);
    let pipe = command(this_test!(), &[("TERM", "xterm")])
        .output()
        .expect("it ends");
    assert!(pipe.status.success());
    let pipe = String::from_utf8(pipe.stdout).expect("UTF-8");
    for text in [dumb, pipe] {
        assert!(text.contains("[  0.250] step leave: done"), "{text:?}");
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}
