//! What Traefik's file has in it, and what is put back.

use std::fs;

use farewell::model::error::ErrorKind;
use farewell::step::Outcome;

use super::traefik::{keys, yaml};
use super::{TIME, intents, undo};
use crate::support::{Dir, Run, step};

#[test]
fn what_is_not_known_or_not_understood_is_refused_and_stays_as_it_is() {
    let dir = Dir::new("drain-traefik-refused");
    let servers = ["http://a:1".to_owned(), "http://b:1".to_owned()];
    let good = yaml(&servers);
    let alone = yaml(&servers[..1]);
    for (name, text, server, said) in [
        (
            "web.yml",
            good.clone(),
            "http://a:9",
            "contains no server http://a:9, only http://127.0.0.1:9, http://a:1, http://b:1",
        ),
        (
            "web.yml",
            alone,
            "http://a:1",
            "http://a:1 is the only server of service app, and is not taken out",
        ),
        (
            "web.yml",
            good.replace("# none", "{servers: []}"),
            "http://a:1",
            "a value behind `loadBalancer:` is not supported",
        ),
        (
            "web.yml",
            good.replace("http:\n", "http: &all\n"),
            "http://a:1",
            "line 2: `&all` is not supported",
        ),
        (
            "web.yml",
            good.replace("# next", "# {{ env }}"),
            "http://a:1",
            "a template",
        ),
        (
            "web.toml",
            "[http]\nservices = {}\n".to_owned(),
            "http://a:1",
            "line 2: an inline value of services is not supported",
        ),
        (
            "web.toml",
            "[tcp]\n".to_owned(),
            "http://a:1",
            "contains no HTTP service with a server",
        ),
        (
            "web.json",
            good.clone(),
            "http://a:1",
            "its name must end in .yml, .yaml or .toml",
        ),
    ] {
        let path = dir.file(name);
        fs::write(&path, &text).expect("written");
        let run = Run::new();
        let leave = step(&keys(&path, server, ""));
        for failure in [
            run.attempt(&leave, TIME).map(drop),
            run.rehearse(&leave, TIME).map(drop),
        ] {
            let failure = failure.expect_err(said);
            assert_eq!(
                (failure.kind, failure.retryable),
                (ErrorKind::Refused, false),
                "{failure}"
            );
            assert!(
                failure.cause.contains(said) && failure.subject == path,
                "{failure}"
            );
        }
        assert!(intents(&run).is_empty());
        assert_eq!(fs::read_to_string(&path).expect("read"), text);
    }
    fs::write(dir.file("web.yml"), &good).expect("written");
    std::os::unix::fs::symlink(dir.file("web.yml"), dir.file("link.yml")).expect("linked");
    for (name, said) in [
        ("link.yml", "is a symbolic link"),
        ("none.yml", "there is no such file"),
    ] {
        let leave = step(&keys(&dir.file(name), "http://a:1", ""));
        let failure = Run::new().attempt(&leave, TIME).expect_err(said);
        assert!(
            failure.kind == ErrorKind::Io && failure.cause.contains(said),
            "{failure}"
        );
    }
}

#[test]
fn what_an_administrator_has_done_stays() {
    let dir = Dir::new("drain-traefik-before");
    let path = dir.file("web.yml");
    let text = || fs::read_to_string(&path).expect("read");
    let good = yaml(&["http://a:1".to_owned(), "http://b:1".to_owned()]);
    let leave = step(&keys(&path, "http://a:1", "settle = \"0s\""));
    // Taken out by hand: nothing is to be undone.
    let theirs = good.replace(
        "        - url: \"http://a:1\" # it\n          weight",
        "        # - url: \"http://a:1\" # it\n        #   weight",
    );
    fs::write(&path, &theirs).expect("written");
    let run = Run::new();
    let said = run.rehearse(&leave, TIME).expect("ready");
    assert_eq!(said, format!("{path}: http://a:1 is already commented out"));
    assert!(run.remarks()[0].contains("so a run would change nothing"));
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::AlreadyDone));
    assert_eq!((text(), intents(&run).len()), (theirs, 0));
    // What somebody changes around it since stays, and so does what somebody makes of it.
    fs::write(&path, &good).expect("written");
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::Done));
    let more = "        - url: http://c:1\n";
    let theirs = text()
        .replace("    other:", &format!("{more}    other:"))
        .replace("# ours", "# theirs");
    fs::write(&path, &theirs).expect("written");
    let left = intents(&run);
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::Done));
    assert_eq!(
        text(),
        good.replace("    other:", &format!("{more}    other:"))
            .replace("# ours", "# theirs")
    );
    fs::write(&path, &good).expect("written");
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::Done));
    let theirs = text().replace("# farewell: ", "# gone: ");
    fs::write(&path, &theirs).expect("written");
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::AlreadyDone));
    assert_eq!(text(), theirs);
    assert!(
        run.remarks()
            .last()
            .is_some_and(|it| it.contains("has been changed since"))
    );
}
