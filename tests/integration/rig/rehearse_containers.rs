//! Peers in containers, whose scopes systemd leaves alone and whose engine ends them.

use std::net::TcpListener;
use std::process::Command;

use crate::rig::harness::{Ending, Machine, Rig};

/// A container's scope as runc makes it through systemd: nothing ends it but its engine, here a stand-in for Docker's.
const ENGINE: &str = "[Service]
ExecStart=/usr/local/sbin/stand-in-engine
ExecStop=/bin/systemctl kill docker-0123456789abcdef.scope
";

const START_CONTAINER: &str = "#!/bin/sh
systemd-run --scope --quiet --unit=docker-0123456789abcdef.scope -p DefaultDependencies=no \
    python3 -m http.server 8500 --bind 127.0.0.1 --directory /usr/share/doc >/dev/null 2>&1 &
wait
";

fn leave(needs: &str) -> String {
    format!(
        "[[step]]\nname = \"gone\"\nkind = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"sleep 0.5\"]\n\
         [[step]]\nname = \"leave\"\nkind = \"http\"\nurl = \"http://127.0.0.1:8500/\"\ntimeout = \"60s\"\n{needs}\n"
    )
}

/// What `farewell start` complains about.
pub fn complaints(machine: &Machine) -> String {
    machine.sh("farewell start").stderr
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_container_of_the_host_network_is_ended_by_its_engine() {
    let machine = Rig::new()
        .unit("docker.service", ENGINE)
        .executable("/usr/local/sbin/stand-in-engine", START_CONTAINER)
        .wants("docker.service")
        .configuration(&leave(""))
        .boot();
    machine.wait_for("curl -sf http://127.0.0.1:8500/");
    let said = machine.sh("farewell start");
    assert_eq!(said.code, 1, "{said:?}");
    let told = "step leave talks to http://127.0.0.1:8500/, where the container docker-0123456789abcdef.scope listens, \
                which docker.service ends: systemd ends it at the same moment that farewell starts, since nothing orders \
                farewell.service after it; add `needs = [\"docker.service\"]` to the step";
    assert!(said.stderr.contains(told), "{said:?}");
    machine.configure(&leave("needs = [\"docker.service\"]"));
    let end = machine.end("systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    end.run().is("poweroff", "ok").step("leave", "done");
}

/// A scope of which nothing tells who made it: what is not known is said.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_scope_that_nobody_ends_is_a_remark() {
    let machine = Rig::new().configuration(&leave("")).boot();
    let _running = machine.start(
        "systemd-run --scope --quiet --unit=stand-in.scope -p DefaultDependencies=no \
         python3 -m http.server 8500 --bind 127.0.0.1 --directory /usr/share/doc",
    );
    machine.wait_for("curl -sf http://127.0.0.1:8500/");
    let said = machine.sh("farewell start");
    assert_eq!(said.code, 0, "{said:?}");
    let told =
        "where stand-in.scope listens: systemd leaves it running until the very end of a shutdown";
    assert!(said.stdout.contains(told), "{said:?}");
}

/// A published port without a proxy process: the kernel sends the connection elsewhere, and nobody listens here.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_published_port_that_nobody_listens_at_is_its_engines() {
    let machine = Rig::new()
        .unit(
            "docker.service",
            "[Service]\nExecStart=/bin/sleep infinity\n",
        )
        .wants("docker.service")
        .configuration(&leave(""))
        .boot();
    // In the place of a container: a process that no file of this machine shows.
    let _container = machine.in_network(|| {
        let rules = "add table ip nat; add chain ip nat out { type nat hook output priority -100; }; \
                     add rule ip nat out ip daddr 127.0.0.1 tcp dport 8500 dnat to 127.0.0.1:8600";
        let nft = Command::new("nft").arg(rules).status();
        assert!(nft.expect("nft (apt install nftables)").success());
        TcpListener::bind("127.0.0.1:8600").expect("a port")
    });
    let told = complaints(&machine);
    assert!(
        told.contains("talks to http://127.0.0.1:8500/, where something answers although no process of this machine listens")
            && told.contains("add `needs = [\"docker.service\"]` to the step"),
        "{told}"
    );
    let needed = leave("needs = [\"docker.service\"]");
    machine.configure(&needed);
}
