//! `capture` of the `http` step, and `${step:STEP.NAME}` in later steps.

use std::process::Command;

use crate::support::binary::{Binary, step_of};
use crate::support::servers::{Manner, Server, answer};

const SECRET: &str = "r3moval-t0ken";

fn binary(name: &str, steps: &str) -> Binary {
    Binary::new(
        &format!("captures-{name}"),
        &format!("[farewell]\nbudget = \"60s\"\n{steps}"),
    )
}

/// A step that captures `token`, a secret, and `id`.
fn register(url: &str) -> String {
    format!(
        "[[step]]\nname = \"register\"\nkind = \"http\"\nmethod = \"POST\"\nurl = \"{url}/register\"\n\
         capture = {{ token = {{ pointer = \"/token\", secret = true }}, id = {{ pointer = \"/ids/1\" }} }}\n"
    )
}

fn answered() -> String {
    format!("200 {{\"token\":\"{SECRET}\",\"ids\":[1,\"a/b 2\"],\"price\":1.50}}")
}

/// Whether this stands in any file below a directory.
fn is_below(directory: &str, text: &str) -> bool {
    let found = Command::new("grep")
        .args(["-rqF", "--", text, directory])
        .status();
    match found.expect("grep").code() {
        Some(0) => true,
        Some(1) => false,
        code => panic!("grep: {code:?}"),
    }
}

#[test]
fn a_captured_value_is_a_fact_of_later_steps_and_a_secret_is_shown_nowhere() {
    let peer = Server::answers(&[&answered(), "200 ok", "200 ok"]);
    let url = peer.url();
    let register = register(&url).replace("id = {", "price = { pointer = \"/price\" }, id = {");
    let binary = binary("used", "");
    // The child compares it with a file, so that it stands in no configuration.
    let file = binary.dir.file("expected");
    std::fs::write(&file, SECRET).expect("written");
    let script = "echo got $TOKEN; test \"$TOKEN\" = \"$(cat \"$0\")\"";
    binary.configure(&format!(
        "[farewell]\nbudget = \"60s\"\n{register}\
         [[step]]\nname = \"remove\"\nkind = \"http\"\nmethod = \"DELETE\"\nurl = \"{url}/runners/${{step:register.id}}\"\n\
         headers = {{ Authorization = \"Bearer ${{step:register.token}}\" }}\n\
         [[step]]\nname = \"tell\"\nkind = \"http\"\nurl = \"{url}/tell\"\n\
         json = {{ token = \"${{step:register.token}}\", price = \"${{step:register.price}}\" }}\n\
         [[step]]\nname = \"child\"\nkind = \"command\"\nargv = [\"sh\", \"-c\", '{script}', {file:?}]\n\
         environment = {{ TOKEN = \"${{step:register.token}}\" }}\n"
    ));
    let check = binary.verb(&["check"]);
    assert_eq!(check.code, 0, "{}", check.stderr);
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let requests = peer.requests();
    assert!(
        requests[1].starts_with("DELETE /runners/a%2Fb%202 "),
        "{}",
        requests[1]
    );
    let header = format!("authorization: bearer {SECRET}\r\n");
    assert!(
        requests[1].to_ascii_lowercase().contains(&header),
        "{}",
        requests[1]
    );
    assert!(
        requests[2].contains(&format!("\"token\":\"{SECRET}\"")),
        "{}",
        requests[2]
    );
    assert!(
        requests[2].contains("\"price\":\"1.50\""),
        "{}",
        requests[2]
    );
    let shown = format!("{}{}", run.stdout, run.stderr);
    assert!(
        shown.contains("got ********") && !shown.contains(SECRET),
        "{shown}"
    );
    assert!(!is_below(&binary.dir.file("state"), SECRET));
}

#[test]
fn polling_captures_from_the_answer_that_was_waited_for() {
    let peer = Server::answers(&["200 {\"open\":1}", "200 {\"open\":0,\"by\":true}", "200 ok"]);
    let url = peer.url();
    let steps = format!(
        "[[step]]\nname = \"poll\"\nkind = \"http\"\nurl = \"{url}/\"\nuntil = {{ pointer = \"/open\", equals = 0 }}\n\
         every = \"10ms\"\ncapture = {{ by = {{ pointer = \"/by\" }} }}\n\
         [[step]]\nname = \"tell\"\nkind = \"http\"\nurl = \"{url}/?by=${{step:poll.by}}\"\n"
    );
    let binary = binary("polled", &steps);
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(peer.requests()[2].starts_with("GET /?by=true "));
}

#[test]
fn where_nothing_was_captured_both_steps_fail_and_no_other() {
    for (answer_, cause) in [
        (
            format!("200 {{\"token\":\"{SECRET}\",\"ids\":[1]}}"),
            "`id` at \"/ids/1\": there is no value at this pointer",
        ),
        (
            format!("200 {{\"token\":\"{SECRET}\",\"ids\":[1,{{}}]}}"),
            "is not a string, a number or a boolean",
        ),
        (
            format!("200 {{\"token\":\"{SECRET}\",\"ids\":[1,null]}}"),
            "is not a string, a number or a boolean",
        ),
        ("200 token".to_owned(), "not valid JSON"),
    ] {
        let peer = Server::answers(&[&answer_]);
        let steps = format!(
            "{}attempts = 1\n[[step]]\nname = \"use\"\nkind = \"command\"\nargv = [\"true\"]\n\
             environment = {{ ID = \"${{step:register.id}}\" }}\n\
             [[step]]\nname = \"other\"\nkind = \"command\"\nargv = [\"true\"]\n",
            register(&peer.url())
        );
        let binary = binary("missing", &steps);
        assert_eq!(binary.verb(&["run"]).code, 1);
        let report = binary.report();
        let error = |step: &str| step_of(&report, step)["error"].clone();
        assert_eq!(error("register")["word"], "protocol", "{report:#}");
        let message = error("register")["message"].to_string();
        assert!(message.contains(&cause.replace('"', "\\\"")), "{message}");
        assert_eq!(error("use")["word"], "config", "{report:#}");
        let message = error("use")["message"].to_string();
        assert!(
            message.contains(
                "${step:register.id} is not available: the step `register` has captured nothing"
            ),
            "{message}"
        );
        assert_eq!(step_of(&report, "other")["state"], "done");
        assert!(!report.to_string().contains(SECRET));
    }
}

#[test]
fn a_skipped_step_captures_nothing() {
    let peer = Server::answers(&["200 {}"]);
    let steps = format!(
        "{}if-path = \"/no/such/path\"\n[[step]]\nname = \"use\"\nkind = \"http\"\nurl = \"{}/${{step:register.id}}\"\n",
        register(&peer.url()),
        peer.url()
    );
    let binary = binary("skipped", &steps);
    assert_eq!(binary.verb(&["run"]).code, 1);
    let report = binary.report();
    assert_eq!(step_of(&report, "register")["state"], "skipped");
    assert_eq!(
        step_of(&report, "use")["error"]["word"],
        "config",
        "{report:#}"
    );
    assert!(peer.requests().is_empty());
}

#[test]
fn a_rehearsal_asks_what_captures_and_says_what_is_not_known_yet() {
    let peer = Server::answers(&[&answered()]);
    let steps = format!(
        "{}[[step]]\nname = \"use\"\nkind = \"http\"\nurl = \"{}/${{step:register.id}}\"\n",
        register(&peer.url()).replace("POST", "GET"),
        peer.url()
    );
    let binary = binary("rehearsal", &steps);
    let rehearsal = binary.verb(&["rehearse"]);
    assert_eq!(
        rehearsal.code, 0,
        "{}{}",
        rehearsal.stdout, rehearsal.stderr
    );
    let told = &rehearsal.stdout;
    assert!(
        told.contains("answered 200, with `token`, `id` to capture"),
        "{told}"
    );
    assert!(
        told.contains("not asked: ${step:register.id} is known only in a run"),
        "{told}"
    );
    assert!(!told.contains(SECRET) && peer.requests().len() == 1);
    let empty = Server::answers(&["200 {}"]);
    binary.configure(&register(&empty.url()).replace("POST", "GET"));
    let rehearsal = binary.verb(&["rehearse"]);
    assert_eq!(rehearsal.code, 1, "{}", rehearsal.stdout);
    assert!(
        rehearsal.stdout.contains("nothing to capture as `token`"),
        "{}",
        rehearsal.stdout
    );
}

#[test]
fn what_cannot_be_is_told_with_its_line_and_key() {
    let register = register("http://127.0.0.1:1");
    let first = format!("[farewell]\nbudget = \"60s\"\n{register}")
        .lines()
        .count();
    let using = |keys: &str| {
        let step = "[[step]]\nname = \"use\"\nkind = \"http\"\n";
        format!("{register}{step}{keys}")
    };
    let url = "url = \"http://127.0.0.1:1/\"\n";
    for (keys, line, key, said) in [
        (
            format!("{url}headers = {{ A = \"${{step:regster.id}}\" }}"),
            5,
            "headers.A",
            "unknown step `regster`; did you mean `register`?",
        ),
        (
            format!("{url}body = \"${{step:register.tokn}}\""),
            5,
            "body",
            "captures no `tokn`; did you mean `token`?",
        ),
        (
            format!("{url}after = []\nbody = \"${{step:register.id}}\""),
            6,
            "body",
            "add it to `after`: after = [\"register\"]",
        ),
        (
            format!("{url}capture = {{ x = {{ pointer = \"/x\" }} }}\nbody = \"${{step:use.x}}\""),
            6,
            "body",
            "cannot use what it captures itself",
        ),
        (
            "url = \"http://127.0.0.1:1/${step:register.token}\"".to_owned(),
            4,
            "url",
            "a secret is not allowed here",
        ),
        (
            "url = \"http://${step:register.id}/\"".to_owned(),
            4,
            "url",
            "only in the path or the query",
        ),
        (
            format!("{url}ca-file = \"/etc/${{step:register.id}}\""),
            5,
            "ca-file",
            "it may stand only in plain text",
        ),
        (
            format!("{url}timeout = \"${{step:register.id}}\""),
            5,
            "timeout",
            "is known only while a run lasts",
        ),
        (
            format!("{url}body = \"${{step:register}}\""),
            5,
            "body",
            "needs STEP.NAME after the colon",
        ),
        (
            format!("{url}capture = {{}}"),
            5,
            "capture",
            "must name what is captured",
        ),
        (
            format!("{url}capture = {{ \"a.b\" = {{ pointer = \"/x\" }} }}"),
            5,
            "capture",
            "letters, digits, `-` and `_`",
        ),
        (
            format!("{url}capture = {{ a = {{ pointer = \"x\" }} }}"),
            5,
            "capture.a.pointer",
            "begins with `/`",
        ),
        (
            format!("{url}capture = {{ a = {{}} }}"),
            5,
            "capture.a.pointer",
            "missing",
        ),
        (
            format!("{url}expect = \"closed\"\ncapture = {{ a = {{ pointer = \"/a\" }} }}"),
            6,
            "capture",
            "there is no answer",
        ),
        (
            format!("{url}method = \"HEAD\"\ncapture = {{ a = {{ pointer = \"/a\" }} }}"),
            6,
            "capture",
            "has no body",
        ),
    ] {
        let binary = binary("wrong", &using(&keys));
        let check = binary.verb(&["check"]);
        assert_eq!(check.code, 78, "{keys}: {}", check.stderr);
        let place = format!("farewell.toml:{}:", first + line);
        let told = check
            .stderr
            .lines()
            .filter(|it| it.contains(said))
            .collect::<Vec<_>>();
        let is_there = |it: &&&str| it.contains(&place) && it.contains(&format!("key {key:?}"));
        assert!(
            told.iter().any(|it| is_there(&it)),
            "{place} {key}: {}",
            check.stderr
        );
    }
    // The order may come from a third step, from `before`, and from one further down in the file.
    let steps = format!(
        "[[step]]\nname = \"use\"\nkind = \"http\"\n{url}body = \"${{step:register.id}}\"\nafter = [\"between\"]\n\
         {register}before = [\"between\"]\n[[step]]\nname = \"between\"\nkind = \"wait\"\nfor = \"1ms\"\nafter = []\n"
    );
    let binary = binary("order", &steps);
    let check = binary.verb(&["check"]);
    assert_eq!(check.code, 0, "{}", check.stderr);
}

#[test]
fn what_a_step_leaves_by_a_captured_secret_is_not_undone_and_that_is_told() {
    let envoy = Server::start(Manner::Answers(vec![
        answer(
            "200 OK",
            "",
            &format!("{{\"token\":\"{SECRET}\",\"ids\":[1,2]}}"),
        ),
        answer("200 OK", "", "LIVE"),
        answer("200 OK", "", "OK"),
        answer("200 OK", "", "http.web.downstream_rq_active: 0\n"),
    ]));
    let steps = format!(
        "{}[[step]]\nname = \"leave\"\nkind = \"drain\"\nbalancer = \"envoy\"\nurl = \"{}\"\n\
         headers = {{ X-Token = \"${{step:register.token}}\", X-Id = \"${{step:register.id}}\" }}\n",
        register(&envoy.url()),
        envoy.url()
    );
    let binary = binary("left", &steps);
    let check = binary.verb(&["check"]);
    assert_eq!(check.code, 0, "{}", check.stderr);
    assert!(
        check
            .stderr
            .contains("`farewell start` cannot undo what this step leaves"),
        "{}",
        check.stderr
    );
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let state = binary.dir.file("state");
    assert!(!is_below(&state, SECRET));
    assert!(is_below(&state, "\"X-Id\":\"2\""));
    let start = binary.verb(&["start", "--undo-only"]);
    assert_ne!(start.code, 0);
    let told = format!("{}{}", start.stdout, start.stderr);
    assert!(told.contains("undo it by hand"), "{told}");
}
