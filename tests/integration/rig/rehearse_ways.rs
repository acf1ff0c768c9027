//! Interfaces and addresses on the way to a peer, which a unit takes away as a shutdown begins.

use super::rehearse_containers::complaints;
use crate::rig::harness::{Ending, Machine, Rig};

/// Two networks with the same address in them: `far`, behind the tunnel's interface, and `world`, behind the default
/// route. Whoever listens there writes each request to the log of the machine.
const NETWORKS: &str = "#!/bin/sh -ex
ip netns add far
ip netns add world
ip netns exec far ip link set lo up
ip netns exec world ip link set lo up
ip netns exec world ip address add 10.9.0.2/32 dev lo
ip link add w0 type veth peer name w1 netns world
ip address add 192.0.2.1/24 dev w0
ip link set w0 up
ip netns exec world ip address add 192.0.2.2/24 dev w1
ip netns exec world ip link set w1 up
ip route add default via 192.0.2.2 dev w0
";

const TUNNEL_UP: &str = "#!/bin/sh -ex
ip link add tun9 type veth peer name far9 netns far
ip address add 10.9.0.1/24 dev tun9
ip link set tun9 up
ip netns exec far ip address add 10.9.0.2/24 dev far9
ip netns exec far ip link set far9 up
";

const LISTENER: &str = "#!/usr/bin/python3
import http.server, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != '/health':
            with open('/proc/uptime') as now, open('/rig/log', 'a') as log:
                log.write(now.read().split()[0] + ' ' + sys.argv[1] + ' request\\n')
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(('10.9.0.2', 80), Answers).serve_forever()
";

const LISTENS: &str = "[Unit]
DefaultDependencies=no
After=networks.service stand-in-tunnel@tun9.service
Requires=networks.service
[Service]
# The slice of a template ends at the beginning of a shutdown, and its units with it.
Slice=system.slice
ExecStart=/sbin/ip netns exec %i /usr/local/sbin/listener %i
Restart=on-failure
RestartSec=100ms
";

/// In the place of wg-quick@: an instance for an interface.
const TUNNEL: &str = "[Unit]
After=networks.service
Requires=networks.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/tunnel-up
ExecStop=/sbin/ip link delete %i
";

fn leave(needs: &str, wait: &str) -> String {
    format!(
        "[farewell]\nbudget = \"180s\"\n[[step]]\nname = \"wait\"\nkind = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"{wait}\"]\ntimeout = \"60s\"\n\
         [[step]]\nname = \"leave\"\nkind = \"http\"\nurl = \"http://10.9.0.2/leave?token=s3cret\"\ntimeout = \"60s\"\nattempts = 3\n{needs}\n"
    )
}

const UNTIL_GONE: &str = "while ip link show tun9 >/dev/null 2>&1; do sleep 0.1; done";

fn boot(toml: &str) -> Machine {
    let networks = "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/sbin/networks\n";
    let machine = Rig::new()
        .executable("/usr/local/sbin/networks", NETWORKS)
        .executable("/usr/local/sbin/tunnel-up", TUNNEL_UP)
        .executable("/usr/local/sbin/listener", LISTENER)
        .unit("networks.service", networks)
        .unit("stand-in-tunnel@.service", TUNNEL)
        .unit("listener@.service", LISTENS)
        .wants("stand-in-tunnel@tun9.service")
        .wants("listener@far.service")
        .wants("listener@world.service")
        .configuration(toml)
        .boot();
    machine.wait_for("curl -sf http://10.9.0.2/health");
    machine.wait_for("curl -sf --interface w0 http://10.9.0.2/health");
    machine
}

/// The default route leads to somebody else with the same address, and he would get the token.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_stranger_behind_the_default_route_gets_nothing() {
    let machine = boot(&leave("", UNTIL_GONE));
    let told = complaints(&machine);
    let line = "step leave talks to http://10.9.0.2/leave?token=s3cret through the interface tun9, which \
                stand-in-tunnel@tun9.service sets up";
    assert!(told.contains(line), "{told}");
    assert!(
        told.contains("add `needs = [\"stand-in-tunnel@tun9.service\"]` to the step"),
        "{told}"
    );
    let end = machine.end("systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    end.run()
        .step("wait", "done")
        .failed("leave", "unreachable")
        .says("leave", &["tun9, the interface that led to 10.9.0.2"]);
    assert_eq!(end.life().times("world", "request"), 0);
    assert_eq!(end.life().times("far", "request"), 0);
}

/// Nothing kept, no check: this shows that the stranger of the case above was there, and would have had the token.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_machine_that_was_never_looked_at_asks_whoever_is_there() {
    let machine = boot(&leave("", UNTIL_GONE));
    machine.must("rm /run/farewell/ways.json");
    let end = machine.end("systemctl poweroff");
    end.run().is("poweroff", "ok").step("leave", "done");
    assert_eq!(end.life().times("world", "request"), 1);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_tunnel_that_is_needed_stays() {
    let needs = "needs = [\"stand-in-tunnel@tun9.service\"]";
    let machine = boot(&leave(needs, "sleep 0.5"));
    machine.must("farewell start");
    let end = machine.end("systemctl poweroff");
    end.run().is("poweroff", "ok").step("leave", "done");
    assert_eq!(end.life().times("far", "request"), 1);
    assert_eq!(end.life().times("world", "request"), 0);
}

/// Another way to the same address is used, as long as the one before is still there.
#[test]
#[ignore = "needs root; tests/run has it"]
fn an_honest_new_route_is_taken() {
    let machine = boot(&leave("", "true"));
    complaints(&machine);
    machine.must("ip route add 10.9.0.2/32 via 192.0.2.2 dev w0");
    let report = machine.farewell();
    assert_eq!(report["result"], "ok", "{report}");
    assert_eq!(machine.life().times("world", "request"), 1);
}

/// A unit that has no name of its interface, and an interface that no unit tells of.
#[test]
#[ignore = "needs root; tests/run has it"]
fn interfaces_are_known_by_the_commands_that_set_them_up() {
    let machine = boot(&leave("", "true"));
    machine.write(
        "/etc/systemd/system/way.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/sbin/ip link add way0 type veth peer name way1\n\
         ExecStart=/sbin/ip address add 10.8.0.1/24 dev way0\nExecStart=/sbin/ip link set way0 up\n\
         ExecStop=/sbin/ip link delete way0\n",
    );
    machine.must("systemctl daemon-reload; systemctl start way.service");
    let step =
        |url: &str| format!("[[step]]\nname = \"leave\"\nkind = \"http\"\nurl = \"{url}\"\n");
    machine.write("/etc/farewell/farewell.toml", &step("http://10.8.0.2/"));
    let told = complaints(&machine);
    assert!(
        told.contains("through the interface way0, which way.service sets up"),
        "{told}"
    );
    machine.must("ip link add own0 type veth peer name own1; ip address add 10.7.0.1/24 dev own0; ip link set own0 up");
    machine.write("/etc/farewell/farewell.toml", &step("http://10.7.0.2/"));
    let said = machine.must("farewell start");
    let told = "step leave: packets leave through own0, and the unit that sets it up is not known";
    assert!(said.contains(told), "{said}");
}

/// A process that holds the interface of a tunnel open, as OpenVPN's does: its unit has any name.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_tunnel_is_known_by_the_process_that_holds_it() {
    let holder = "#!/usr/bin/python3\nimport fcntl, os, struct, subprocess, time\n\
                  tun = os.open('/dev/net/tun', os.O_RDWR)\n\
                  fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'vpn7', 0x1001))\n\
                  subprocess.run('ip address add 10.6.0.1/24 dev vpn7; ip link set vpn7 up', shell=True, check=True)\n\
                  time.sleep(1000000)\n";
    let machine = Rig::new()
        .executable("/usr/local/sbin/holder", holder)
        .unit(
            "stand-in-vpn.service",
            "[Service]\nExecStart=/usr/local/sbin/holder\n",
        )
        .wants("stand-in-vpn.service")
        .configuration("[[step]]\nname = \"leave\"\nkind = \"http\"\nurl = \"http://10.6.0.2/\"\n")
        .boot();
    machine.wait_for("ip link show vpn7 up | grep -q vpn7");
    let told = complaints(&machine);
    assert!(
        told.contains("through the interface vpn7, which stand-in-vpn.service sets up"),
        "{told}"
    );
}

/// A stand-in for keepalived: an address of this machine that its unit takes away.
#[test]
#[ignore = "needs root; tests/run has it"]
fn an_address_that_moves_is_known_by_who_moves_it() {
    let machine = Rig::new()
        .unit(
            "keepalived.service",
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/sbin/stand-in-keepalived\n",
        )
        .executable("/usr/local/sbin/stand-in-keepalived", "#!/bin/sh -ex\nip link add v0 type veth peer name v1\nip address add 10.5.0.9/24 dev v0\nip link set v0 up\n\
             ip route add default via 10.5.0.1 dev v0\n")
        .file("/etc/keepalived/keepalived.conf", "vrrp_instance one {\n  virtual_ipaddress {\n    10.5.0.9/24 dev v0\n  }\n}\n")
        .unit("agent.service", "[Service]\nExecStart=/usr/bin/python3 -m http.server 8500 --bind 0.0.0.0\n")
        .wants("keepalived.service")
        .wants("agent.service")
        .configuration(
            "[[step]]\nname = \"leave\"\nkind = \"http\"\nurl = \"http://10.5.0.9:8500/\"\nneeds = [\"agent.service\"]\n\
             [[step]]\nname = \"tell\"\nkind = \"command\"\nargv = [\"/bin/echo\", \"${ip}\"]\n",
        )
        .boot();
    machine.wait_for("curl -sf http://10.5.0.9:8500/");
    let told = complaints(&machine);
    assert!(
        told.contains("and 10.5.0.9 is an address that keepalived.service assigns to this machine")
            && told
                .contains("add `needs = [\"agent.service\", \"keepalived.service\"]` to the step"),
        "{told}"
    );
    assert!(
        told.contains(
            "`${ip}` is 10.5.0.9, an address that keepalived.service assigns to this machine"
        ) && told.contains("add `needs = [\"keepalived.service\"]` to the steps that use it"),
        "{told}"
    );
}
