//! A configuration that is wrong ends Packer's build; one that is right is in place with its drop-ins, also where root logs
//! in, where paths have spaces, and where the base had farewell already.

use std::fs;

use crate::vm::lab::{Room, Stage};

const WRONG: &str = "[[step]]\nname = \"settle\"\nkind = \"wiat\"\nfor = \"1s\"\n";

pub fn provisioned(stage: &Stage) {
    let image = stage.packed();
    let given = stage.dir.join("what is given");
    fs::create_dir_all(given.join("drop-ins")).expect("made");
    fs::write(given.join("wrong.toml"), WRONG).expect("written");
    let right = WRONG.replace("wiat", "wait");
    fs::write(given.join("right.toml"), &right).expect("written");
    let drop_in = right.replace("settle", "settle-more");
    fs::write(given.join("drop-ins/50-more.toml"), &drop_in).expect("written");
    let config = |name: &str| format!("config={}", given.join(name).display());

    let room = Room::new(image, &stage.dir.join("wrong"));
    let (is_built, said) = room.provision(&[config("wrong.toml")]);
    assert!(!is_built, "{said}");
    for told in [
        "/etc/farewell/farewell.toml:3: step \"settle\": key \"kind\": unknown kind `wiat`; did you mean `wait`?",
        "Script exited with non-zero exit status: 78",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert!(!said.contains("this machine is sealed"), "{said}");
    drop(room);

    let room = Room::new(image, &stage.dir.join("right"));
    let conf_dir = format!("conf_dir={}/", given.join("drop-ins").display());
    let (is_built, said) = room.provision(&[config("right.toml"), conf_dir]);
    assert!(is_built, "{said}");
    assert!(
        said.contains("farewell check: 2 files; 2 steps; no problems"),
        "{said}"
    );
    for (path, text) in [
        ("/etc/farewell/farewell.toml", Some(right)),
        ("/etc/farewell/conf.d/50-more.toml", Some(drop_in)),
        ("/etc/machine-id", Some(String::new())),
        ("/var/lib/farewell/runs/1.jsonl", None),
        ("/run/farewell/skip", None),
        ("/tmp/farewell-image/farewell", None),
    ] {
        assert_eq!(room.file(path), text, "{path}");
    }
}
