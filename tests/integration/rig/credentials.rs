//! Credentials from each place where systemd puts them or would look for them, with and without the sandbox of
//! units/strict.conf; their values are nowhere to be found.

use crate::rig::harness::{Rig, on_each_release};

/// The place of each credential.
const PLACES: [(&str, &str); 3] = [
    ("loaded", "/root/secrets/loaded"),
    ("stored", "/etc/credstore/stored"),
    ("running", "/run/credstore/running"),
];

const DROP_IN: &str = "/etc/systemd/system/farewell.service.d";

fn sequence() -> String {
    let step = |(name, _): (&str, &str)| {
        // What it prints is masked, and what it writes is not.
        format!(
            "[[step]]\nname = \"{name}\"\nkind = \"command\"\nafter = []\n\
            argv = [\"sh\", \"-c\", 'echo \"it is $TOKEN\"; echo \"$TOKEN\" >>/root/seen']\n\
            environment = {{ TOKEN = \"${{credential:{name}}}\" }}\n"
        )
    };
    format!("{}{}", PLACES.map(step).concat(), step(("open", "")))
}

fn secret(name: &str) -> String {
    format!("s3cr3t-{name}-value")
}

on_each_release! {
    fn from_every_place(rig: Rig) {
        let machine = rig
            .configuration(&sequence())
            .file("/etc/credstore/open", secret("open"))
            .secret("/root/secrets/loaded", &secret("loaded"))
            .drop_in(
                "farewell.service",
                "60-credential.conf",
                "[Service]\nLoadCredential=loaded:/root/secrets/loaded\n",
            )
            .boot();
        for (name, path) in &PLACES[1..] {
            machine.must(&format!("install -m 600 -D /dev/stdin {path} <<<'{}'", secret(name)));
        }
        let run = |strict: &str| {
            // The credentials of a unit are those of its start.
            machine.must(&format!(
                "{strict} touch /run/farewell/skip; systemctl stop farewell.service; rm -f /run/farewell/skip /root/seen
                systemctl daemon-reload && systemctl start farewell.service && systemctl stop farewell.service"
            ));
            let mut seen: Vec<String> = machine.must("cat /root/seen").lines().map(str::to_owned).collect();
            seen.sort();
            let mut secrets = PLACES.map(|(name, _)| secret(name));
            secrets.sort();
            assert_eq!(seen, secrets);
        };
        run("");
        run(&format!("cp /usr/share/doc/farewell/strict.conf {DROP_IN}/50-strict.conf;"));
        let end = machine.end("touch /run/farewell/skip; systemctl poweroff");
        let runs = end.runs();
        assert_eq!(runs.len(), 2);
        for run in runs {
            run.is("stop", "failed").failed("open", "config").says(
                "open",
                &["/etc/credstore/open can be read by others (mode 0644)"],
            );
            for (name, _) in PLACES {
                run.step(name, "done");
            }
        }
        for (name, _) in PLACES.into_iter().chain([("open", "")]) {
            end.nowhere(&secret(name));
        }
        end.in_order(&["stored | it is ", "stored | it is "]);
    }
}
