//! What nginx's configuration has in it, and what is put back.

use std::fs;
use std::time::Instant;

use farewell::model::error::ErrorKind;
use farewell::step::Outcome;

use super::app::App;
use super::nginx::Nginx;
use super::{TIME, intents, undo};
use crate::support::binary::wait_until;
use crate::support::{Run, step};

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn what_is_not_known_or_not_understood_is_refused_and_stays_as_it_is() {
    let app = App::start("one");
    let mut nginx = Nginx::start("refused", &[&app]);
    let (address, good) = (app.address(), nginx.text());
    let link = nginx.dir.file("link.conf");
    std::os::unix::fs::symlink(nginx.file(), &link).expect("linked");
    let including = good.replace("keepalive", "include servers[.]conf; keepalive");
    for (text, server, path, word, said) in [
        (
            &good,
            "10.0.0.9:80",
            nginx.file(),
            ErrorKind::Refused,
            format!("contains no server 10.0.0.9:80 in an upstream, only {address}"),
        ),
        (
            &including,
            &address,
            nginx.file(),
            ErrorKind::Refused,
            "line 4: upstream web has an `include`".to_owned(),
        ),
        (
            &"server { listen 1; }".to_owned(),
            &address,
            nginx.file(),
            ErrorKind::Refused,
            "contains no upstream with a server".to_owned(),
        ),
        (
            &"upstream web {".to_owned(),
            &address,
            nginx.file(),
            ErrorKind::Refused,
            "a block is not closed".to_owned(),
        ),
        (
            &good,
            &address,
            link.clone(),
            ErrorKind::Io,
            "is a symbolic link, which is not followed".to_owned(),
        ),
        (
            &good,
            &address,
            nginx.dir.file("none.conf"),
            ErrorKind::Io,
            "there is no such file".to_owned(),
        ),
    ] {
        fs::write(nginx.file(), text).expect("written");
        let keys = nginx.keys(server, "").replace(
            &format!("path = {:?}", nginx.file()),
            &format!("path = {path:?}"),
        );
        let run = Run::new();
        let begun = Instant::now();
        for failure in [
            run.attempt(&step(&keys), TIME).map(drop),
            run.rehearse(&step(&keys), TIME).map(drop),
        ] {
            let failure = failure.expect_err(&said);
            assert_eq!(
                (failure.kind, failure.retryable),
                (word, false),
                "{failure}"
            );
            assert!(
                failure.cause.contains(&said) && failure.subject == path,
                "{failure}"
            );
        }
        assert!(begun.elapsed() < TIME / 4 && intents(&run).is_empty());
        assert_eq!(&nginx.text(), text);
    }
    // And where nginx does not run nothing is changed.
    fs::write(nginx.file(), &good).expect("written");
    nginx.kill();
    let run = Run::new();
    let failure = run
        .attempt(&nginx.leave(&app), TIME)
        .expect_err("not running");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true),
        "{failure}"
    );
    assert_eq!((nginx.text(), intents(&run).len()), (good, 0));
}

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn a_configuration_that_nginx_refuses_is_put_back_and_told_in_its_words() {
    let apps = [App::start("one"), App::start("two")];
    let nginx = Nginx::start("broken", &[&apps[0], &apps[1]]);
    let before = nginx.text();
    fs::write(nginx.dir.file("more.conf"), "proxy_tempo 1;\n").expect("written");
    let workers = nginx.workers();
    let run = Run::new();
    let failure = run
        .attempt(&nginx.leave(&apps[0]), TIME)
        .expect_err("broken");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    let mut test = nginx.argv().to_vec();
    test.push("-t".to_owned());
    assert_eq!(failure.subject, test.join(" "));
    for said in [
        "unknown directive \"proxy_tempo\"",
        &format!("{} was restored", nginx.file()),
    ] {
        assert!(failure.cause.contains(said), "{failure}");
    }
    assert_eq!(
        (nginx.text(), nginx.workers()),
        (before.clone(), workers.clone())
    );
    assert_eq!(
        (intents(&run).len(), run.recorder.withdrawn().len()),
        (1, 1)
    );
    let failure = run
        .rehearse(&nginx.leave(&apps[0]), TIME)
        .expect_err("broken");
    assert_eq!(failure.kind, ErrorKind::Refused);
    // The undo of another run is made on the disk, and again until nginx takes it.
    fs::remove_file(nginx.dir.file("more.conf")).expect("removed");
    let run = Run::new();
    assert_eq!(run.attempt(&nginx.leave(&apps[0]), TIME), Ok(Outcome::Done));
    fs::write(nginx.dir.file("more.conf"), "proxy_tempo 1;\n").expect("written");
    let undo = undo(&intents(&run));
    assert_eq!(
        run.attempt(&undo, TIME).expect_err("broken").kind,
        ErrorKind::Refused
    );
    assert_eq!(nginx.text(), before);
    fs::remove_file(nginx.dir.file("more.conf")).expect("removed");
    assert_eq!(run.attempt(&undo, TIME), Ok(Outcome::AlreadyDone));
    wait_until("it is back", || {
        nginx.answers().iter().any(|it| it == "one")
    });
}

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn what_an_administrator_has_done_stays() {
    let apps = [App::start("one"), App::start("two")];
    let (one, two) = (apps[0].address(), apps[1].address());
    let text = format!(
        "upstream web {{ server {one} down; server {two}; }}\nupstream also {{ server \"{one}\" weight=2; server {two}; }}\n"
    );
    let nginx = Nginx::start_with("before", &text);
    let run = Run::new();
    assert_eq!(run.attempt(&nginx.leave(&apps[0]), TIME), Ok(Outcome::Done));
    let out = format!(
        "upstream web {{ server {one} down; server {two}; }}\nupstream also {{ server \"{one}\" weight=2 down; server {two}; }}\n"
    );
    assert_eq!(nginx.text(), out);
    // What else somebody has changed since stays too.
    let theirs = out.replace(
        "weight=2 down; server",
        "weight=2 down; keepalive 4; server",
    );
    fs::write(nginx.file(), &theirs).expect("written");
    assert_eq!(run.attempt(&undo(&intents(&run)), TIME), Ok(Outcome::Done));
    assert_eq!(nginx.text(), theirs.replace("weight=2 down", "weight=2"));
    // All of it down by hand: it is left alone, and so is a line that was changed after the drain.
    fs::write(nginx.file(), &out).expect("written");
    nginx.reload();
    let run = Run::new();
    assert_eq!(
        run.attempt(&nginx.leave(&apps[0]), TIME),
        Ok(Outcome::AlreadyDone)
    );
    assert!(intents(&run).is_empty());
    fs::write(nginx.file(), &text).expect("written");
    assert_eq!(run.attempt(&nginx.leave(&apps[0]), TIME), Ok(Outcome::Done));
    let theirs = out.replace("weight=2 down", "weight=5 down");
    fs::write(nginx.file(), &theirs).expect("written");
    let undone = run.attempt(&undo(&intents(&run)), TIME);
    assert_eq!((undone, nginx.text()), (Ok(Outcome::AlreadyDone), theirs));
    assert!(
        run.remarks()
            .iter()
            .any(|it| it.contains("has been changed since")),
        "{:?}",
        run.remarks()
    );
}
