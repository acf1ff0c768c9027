//! `needs` that keep nothing, and steps that stop what others still talk to.

use super::rehearse_containers::complaints;
use crate::rig::harness::Rig;

const AGENT: &str = "[Service]\nExecStart=/usr/bin/python3 -m http.server 8500 --bind 127.0.0.1\n";
const TALKS: &str = "kind = \"http\"\nurl = \"http://127.0.0.1:8500/\"\n";

fn stops(name: &str, unit: &str, keys: &str) -> String {
    format!("[[step]]\nname = \"{name}\"\nkind = \"stop-unit\"\nunits = [\"{unit}\"]\n{keys}\n")
}

fn talks(name: &str, keys: &str) -> String {
    format!("[[step]]\nname = \"{name}\"\n{TALKS}{keys}\n")
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn needs_on_a_slice_keep_none_of_its_units() {
    let step = |needs: &str| {
        format!("[[step]]\nname = \"say\"\nkind = \"command\"\nargv = [\"/bin/true\"]\n{needs}\n")
    };
    let worker = "[Service]\nSlice=work.slice\nExecStart=/bin/sleep infinity\n";
    let machine = Rig::new()
        .unit("one.service", worker)
        .unit("two.service", worker)
        .wants("one.service")
        .wants("two.service")
        .configuration(&step("needs = [\"work.slice\"]"))
        .boot();
    let told = complaints(&machine);
    let line = "step say needs work.slice, which does not keep one.service and two.service: systemd ends them at the same \
                moment that farewell starts; of them name those that the step needs: `needs = [\"one.service\", \
                \"two.service\"]`";
    assert!(told.contains(line), "{told}");
    machine.configure(&step("needs = [\"one.service\", \"two.service\"]"));
    // A socket stays, and what it starts does not.
    machine.write(
        "/etc/systemd/system/way.socket",
        "[Socket]\nListenStream=/run/way.sock\n",
    );
    machine.write(
        "/etc/systemd/system/way.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    );
    machine.must("systemctl daemon-reload; systemctl start way.socket way.service");
    machine.write(
        "/etc/farewell/farewell.toml",
        &step("needs = [\"way.socket\"]"),
    );
    let told = complaints(&machine);
    assert!(
        told.contains("needs way.socket, which does not keep way.service")
            && told.contains("`needs = [\"way.socket\", \"way.service\"]`"),
        "{told}"
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_step_that_stops_the_agent_of_a_later_one_is_told() {
    let needs = "needs = [\"agent.service\"]";
    let machine = Rig::new()
        .unit("agent.service", AGENT)
        .unit(
            "umbrella.service",
            "[Service]\nExecStart=/bin/sleep infinity\n",
        )
        .drop_in(
            "agent.service",
            "part.conf",
            "[Unit]\nPartOf=umbrella.service\n",
        )
        .wants("umbrella.service")
        .wants("agent.service")
        .configuration(&(talks("leave", needs) + &stops("stop", "agent.service", "")))
        .boot();
    machine.wait_for("curl -sf http://127.0.0.1:8500/");
    machine.must("farewell start");
    let try_out = |toml: String| {
        machine.write("/etc/farewell/farewell.toml", &toml);
        complaints(&machine)
    };
    let told = try_out(stops("stop", "agent.service", "") + &talks("leave", needs));
    assert!(
        told.contains(
            "step stop stops agent.service, and step leave, which runs later, talks to http://127.0.0.1:8500/, where \
             agent.service listens: add `after = [\"leave\"]` to stop, and move it after leave"
        ),
        "{told}"
    );
    // On triggers that they have in common alone.
    let (reboots, stopped) = (
        "when = [\"reboot\", \"kexec\"]",
        "when = [\"stop\", \"kexec\"]",
    );
    let told = try_out(
        stops("stop", "agent.service", reboots) + &talks("leave", &format!("{needs}\n{stopped}")),
    );
    assert!(
        told.contains("step stop (on kexec) stops agent.service"),
        "{told}"
    );
    let told = try_out(
        stops("stop", "agent.service", "when = [\"reboot\"]")
            + &talks("leave", &format!("{needs}\n{stopped}")),
    );
    assert!(!told.contains("stops agent.service"), "{told}");
    // Side by side, and along with another unit.
    let told = try_out(talks("leave", "") + &stops("stop", "umbrella.service", "after = []"));
    assert!(
        told.contains("step stop stops agent.service (PartOf=umbrella.service), and step leave, which may run at the same time")
            && told.contains("add `needs = [\"agent.service\"]` to leave"),
        "{told}"
    );
    let told = try_out(stops("stop", "umbrella.service", "") + &talks("leave", needs));
    assert_eq!(told, "");
}

/// A lock is released at the very end of a run, whatever comes first.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_step_that_stops_the_agent_of_a_lock_is_told() {
    let lock = "[[step]]\nname = \"turn\"\nkind = \"lock\"\nvia = \"consul\"\nkey = \"turn\"\nneeds = [\"agent.service\"]\n";
    let machine = Rig::new()
        .unit("agent.service", AGENT)
        .wants("agent.service")
        .configuration(&(lock.to_owned() + &stops("stop", "agent.service", "")))
        .boot();
    machine.wait_for("curl -sf http://127.0.0.1:8500/");
    let told = complaints(&machine);
    assert!(
        told.contains("step stop stops agent.service, and step turn, whose lock is renewed and released until the end of the run")
            && told.contains("leave agent.service out of the `units` of stop"),
        "{told}"
    );
}
