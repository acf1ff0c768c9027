//! `wait-safe` of Elasticsearch and OpenSearch: real servers, and a stand-in for the interface that these have not.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::binary::{Binary, GENEROUS, step_of};
use crate::support::case::{SLACK, TIMEOUT};
use crate::support::search::{Make, SearchCluster};
use crate::support::servers::{Manner as Misbehaves, Server, dead_url};
use crate::support::stand_in_search::{Manner, Shutdown, StandInSearch};
use crate::support::{Dir, Run, problems, step};
use farewell::config::facts::Facts;
use farewell::model::error::ErrorKind;
use farewell::model::trigger::{Diagnosis, Trigger};
use farewell::step::{Outcome, StepSpec};
use farewell::sys::host;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const TIME: Duration = Duration::from_secs(60);

/// One JVM at a time.
static JVM: Mutex<()> = Mutex::new(());

const LIMIT: &str = "cluster.routing.allocation.node_concurrent_recoveries";
const EXCLUDED: &str = "cluster.routing.allocation.exclude._name";

fn keys(word: &str, urls: &[String], node: &str) -> String {
    format!("kind = \"wait-safe\"\ncluster = \"{word}\"\nurl = {urls:?}\nnode = \"{node}\"\n")
}

fn config(keys: &str, timeout: &str) -> String {
    format!(
        "[[step]]\nname = \"safe\"\ntimeout = \"{timeout}\"\nattempt-timeout = \"700ms\"\n{keys}"
    )
}

fn coming_back(trigger: Trigger) -> Run {
    Run {
        facts: Facts::new(trigger, "run-1"),
        ..Run::new()
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + TIME;
    while !condition() {
        assert!(Instant::now() < end, "after 60 s not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn state_of(binary: &Binary) -> (Value, Value) {
    let report = binary.report();
    let step = step_of(&report, "safe");
    (step["state"].clone(), step["error"]["word"].clone())
}

/// Everything that is shown at one cluster, whose first node has the name and the port of the manual's example.
struct Stage {
    make: Make,
    cluster: SearchCluster,
}

impl Stage {
    fn step(&self, node: &str) -> StepSpec {
        step(&keys(self.make.word(), &self.cluster.urls, node))
    }

    fn binary(&self, name: &str, node: &str, timeout: &str) -> Binary {
        let keys = keys(self.make.word(), &self.cluster.urls, node);
        Binary::new(
            &format!("search-{}-{name}", self.make.word()),
            &config(&keys, timeout),
        )
    }

    fn rehearses(&self) {
        let before = self.cluster.get("/_cluster/settings?flat_settings=true");
        let said = self.binary("rehearse", "n3", "20s").verb(&["rehearse"]);
        assert!(
            said.stdout.contains("node n3 at") && said.stdout.contains("there, "),
            "{}",
            said.stdout
        );
        assert!(
            said.stdout.contains("2 other nodes can hold data"),
            "{}",
            said.stdout
        );
        let unknown = self.binary("unknown", "n7", "20s");
        let said = unknown.verb(&["rehearse"]);
        assert!(
            said.code == 1 && said.stdout.contains("no node is called n7"),
            "{}",
            said.stdout
        );
        assert_eq!(unknown.verb(&["run"]).code, 1);
        assert_eq!(state_of(&unknown), ("failed".into(), "config".into()));
        assert_eq!(
            self.cluster.get("/_cluster/settings?flat_settings=true"),
            before
        );
    }

    /// Leaves, is excluded beside the others, and is let in again by the next start.
    fn leaves_and_comes_back(&self) {
        let cluster = &self.cluster;
        cluster.set("persistent", EXCLUDED, "ghost");
        assert!(cluster.rows("n3") > 0);
        let binary = self.binary("leaves", "n3", "60s");
        for state in ["done", "already-done"] {
            assert_eq!(binary.verb(&["run"]).code, 0, "{:#}", binary.report());
            assert_eq!(state_of(&binary).0, state, "{:#}", binary.report());
            assert_eq!(
                (cluster.rows("n3"), cluster.excluded()),
                (0, ["none".to_owned(), "ghost,n3".to_owned()])
            );
        }
        let undo = binary.verb(&["start", "--undo-only"]);
        assert_eq!(undo.code, 0, "{}", undo.stdout);
        assert!(
            undo.stdout
                .contains("the exclusion of node n3 from allocation"),
            "{}",
            undo.stdout
        );
        assert_eq!(cluster.excluded()[1], "ghost");
        // What somebody excludes later is not of this run.
        cluster.set("persistent", EXCLUDED, "n3");
        let again = binary.verb(&["start", "--undo-only"]);
        assert!(
            again.code == 0 && again.stdout.contains("nothing is to be undone"),
            "{}",
            again.stdout
        );
        assert_eq!(cluster.excluded()[1], "n3");
        cluster.set("persistent", EXCLUDED, Value::Null);
        cluster.settle();
    }

    /// A transient list hides a persistent one, so that it is the one to write to.
    fn writes_where_it_counts(&self) {
        let cluster = &self.cluster;
        cluster.set("persistent", EXCLUDED, "ghost");
        cluster.set("transient", EXCLUDED, "n9");
        let binary = self.binary("transient", "n3", "60s");
        assert_eq!(binary.verb(&["run"]).code, 0, "{:#}", binary.report());
        assert_eq!(
            (cluster.rows("n3"), cluster.excluded()),
            (0, ["n9,n3".to_owned(), "ghost".to_owned()])
        );
        // By hand, before the start: there is nothing to undo.
        cluster.set("transient", EXCLUDED, Value::Null);
        cluster.set("persistent", EXCLUDED, Value::Null);
        assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
        assert_eq!(cluster.excluded(), ["none", "none"]);
        cluster.settle();
    }

    /// Nothing may move at first; meanwhile somebody who excludes another node overwrites the list.
    fn waits_and_writes_again(&self) {
        let (cluster, run) = (&self.cluster, Run::new());
        cluster.set("persistent", LIMIT, 0);
        let step = self.step("n3");
        let failure = run
            .attempt(&step, Duration::from_secs(4))
            .expect_err("nothing moves");
        assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
        assert!(
            failure.cause.contains("to move from n3") && failure.cause.contains("recoveries [0]"),
            "{failure}"
        );
        std::thread::scope(|threads| {
            let run = Run::new();
            let waits = threads.spawn(move || run.attempt(&step, TIME));
            cluster.set("persistent", EXCLUDED, "n8");
            until("both are excluded", || cluster.excluded()[1] == "n8,n3");
            cluster.set("persistent", LIMIT, Value::Null);
            assert_eq!(waits.join().expect("no panic"), Ok(Outcome::Done));
        });
        assert_eq!(cluster.rows("n3"), 0);
        cluster.set("persistent", EXCLUDED, Value::Null);
        cluster.settle();
    }

    /// All nodes stand still: the timeout is kept, and nothing else is needed when they go on.
    fn hangs_and_goes_on(&self) {
        let binary = self.binary("hangs", "n3", "1500ms");
        self.cluster.signal(Signal::SIGSTOP);
        let ended = binary.verb(&["run"]);
        assert_eq!(state_of(&binary), ("timed-out".into(), "timed-out".into()));
        assert!(ended.took < TIMEOUT + 2 * SLACK, "{:?}", ended.took);
        let binary = self.binary("goes-on", "n3", "60s");
        let run = binary.start(&["run"]);
        binary.wait_for("safe", "running");
        self.cluster.signal(Signal::SIGCONT);
        assert_eq!(run.end(GENEROUS).code, 0, "{:#}", binary.report());
        assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
        assert_eq!(self.cluster.excluded(), ["none", "none"]);
        self.cluster.settle();
    }

    /// Each of three nodes has a copy: green, nothing moves, and nothing ever will.
    fn refuses_what_never_moves(&self) {
        self.cluster.index("full", 1, 2);
        let failure = Run::new()
            .attempt(&self.step("n3"), TIME)
            .expect_err("a copy on each node");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Refused, false),
            "{failure}"
        );
        assert!(
            failure.cause.contains("[full][0]") && failure.cause.contains("number_of_replicas"),
            "{failure}"
        );
        self.cluster.ask("DELETE", "/full", &Value::Null);
        self.cluster.set("persistent", EXCLUDED, Value::Null);
        self.cluster.settle();
    }

    /// Two leave at the same time, without a lock; then there is nowhere to go for the last one.
    fn two_leave_at_once_and_the_last_one_stays(&self, last: &str) {
        let cluster = &self.cluster;
        cluster.ask("DELETE", "/many", &Value::Null);
        cluster.index("single", 3, 0);
        std::thread::scope(|threads| {
            let leaving = ["n2", "n3"].map(|node| (node, self.step(node)));
            let leaving = leaving
                .map(|(node, step)| threads.spawn(move || (node, Run::new().attempt(&step, TIME))));
            for it in leaving {
                let (node, ended) = it.join().expect("no panic");
                assert!(
                    matches!(ended, Ok(Outcome::Done | Outcome::AlreadyDone)),
                    "{node}: {ended:?}"
                );
            }
        });
        until("both are excluded", || {
            let list = cluster.excluded()[1].clone();
            list == "n2,n3" || list == "n3,n2"
        });
        assert_eq!(
            (cluster.rows("n2"), cluster.rows("n3"), cluster.rows(last)),
            (0, 0, 3)
        );
        let failure = Run::new()
            .attempt(&self.step(last), TIME)
            .expect_err("nowhere to go");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Refused, false),
            "{failure}"
        );
        assert!(failure.cause.contains("nowhere to move"), "{failure}");
        cluster.set("persistent", EXCLUDED, Value::Null);
        cluster.settle();
    }

    /// A node that is gone has left, where its own address is known; else its name may be a mistake.
    fn is_gone(&self) {
        let cluster = &self.cluster;
        assert_eq!(
            Run::new().attempt(&self.step("n3"), TIME).map(|_| ()),
            Ok(())
        );
        cluster.close(2);
        let run = Run::new();
        until("n3 has left", || {
            cluster
                .get("/_cat/nodes?format=json&h=name")
                .as_array()
                .is_some_and(|it| it.len() == 2)
        });
        assert_eq!(
            run.attempt(&self.step("n3"), TIME),
            Ok(Outcome::AlreadyDone)
        );
        assert!(
            run.remarks()[0].contains("does not answer"),
            "{:?}",
            run.remarks()
        );
        let others = step(&keys(self.make.word(), &cluster.urls[..2], "n3"));
        let failure = run.attempt(&others, TIME).expect_err("nobody knows");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Config, false),
            "{failure}"
        );
        cluster.open(2);
        cluster.set("persistent", EXCLUDED, Value::Null);
        cluster.settle();
    }

    /// Of a node that comes back no shard is moved, and the cluster must bear it that it is away.
    fn bears_a_reboot(&self) {
        let cluster = &self.cluster;
        let reboot = ["run", "--trigger", "reboot"];
        let put = |index: &str, setting: &str, value: Value| {
            cluster.ask(
                "PUT",
                &format!("/{index}/_settings"),
                &json!({ setting: value }),
            );
        };
        let health = || cluster.get("/_cluster/health")["status"].clone();
        let rows = cluster.rows("n3");
        let binary = self.binary("reboots", "n3", "60s");
        assert_eq!(binary.verb(&reboot).code, 0, "{:#}", binary.report());
        assert_eq!(
            (cluster.rows("n3"), cluster.excluded()),
            (rows, ["none".to_owned(), "none".to_owned()])
        );

        // Red: 40 shards that no node may hold.
        cluster.ask(
            "PUT",
            "/lost?wait_for_active_shards=0&timeout=1s",
            &json!({"settings": {"number_of_shards": 40, "index.routing.allocation.require._name": "nobody"}}),
        );
        until("it is red", || health() == "red");
        let binary = self.binary("red", "n3", "2s");
        assert_eq!(binary.verb(&reboot).code, 1, "{:#}", binary.report());
        assert_eq!(state_of(&binary), ("timed-out".into(), "timed-out".into()));
        let told = step_of(&binary.report(), "safe")["error"]["message"].to_string();
        assert!(
            told.contains("the cluster's health: red, 80 unassigned"),
            "{told}"
        );
        for trigger in [Trigger::Kexec, Trigger::SoftReboot] {
            let run = coming_back(trigger);
            let failure = run
                .attempt(&self.step("n3"), Duration::from_secs(2))
                .expect_err("it is red");
            assert_eq!(failure.kind, ErrorKind::TimedOut, "{trigger}: {failure}");
            let said = run.rehearse(&self.step("n3"), TIME).expect("an answer");
            assert!(said.contains("health: red, 80 unassigned"), "{said}");
            assert!(run.remarks().concat().contains("not good enough now"));
        }
        let lenient = format!(
            "{}health = \"yellow\"\n",
            keys(self.make.word(), &cluster.urls, "n3")
        );
        let run = coming_back(Trigger::Reboot);
        let failure = run.attempt(&step(&lenient), Duration::from_secs(2));
        assert_eq!(failure.expect_err("red never").kind, ErrorKind::TimedOut);
        cluster.ask("DELETE", "/lost", &Value::Null);

        // Yellow for ever, with a copy elsewhere of everything that is on the node.
        put("many", "index.number_of_replicas", 5.into());
        until("it is yellow, and nothing moves", || {
            let health = cluster.get("/_cluster/health");
            health["status"] == "yellow" && health["initializing_shards"] == 0
        });
        let run = coming_back(Trigger::Reboot);
        assert_eq!(run.attempt(&self.step("n3"), TIME), Ok(Outcome::Done));
        let told = run.remarks().concat();
        assert!(
            told.contains("yellow, ") && told.contains("has a copy on another node"),
            "{told}"
        );
        put("many", "index.number_of_replicas", 1.into());

        // Yellow, and on no other node: it waits until there is a copy.
        cluster.ask(
            "PUT",
            "/solo?wait_for_active_shards=1",
            &json!({"settings": {"number_of_shards": 1, "number_of_replicas": 1, "index.routing.allocation.require._name": "n3"}}),
        );
        assert_eq!(
            coming_back(Trigger::Reboot).attempt(&step(&lenient), TIME),
            Ok(Outcome::Done)
        );
        let run = coming_back(Trigger::Reboot);
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| run.attempt(&self.step("n3"), TIME));
            until("it waits for a copy", || {
                let alone = "no started copy on another node has [solo][0]";
                run.waiting().iter().any(|it| it.contains(alone))
            });
            put(
                "solo",
                "index.routing.allocation.require._name",
                Value::Null,
            );
            assert_eq!(waits.join().expect("no panic"), Ok(Outcome::Done));
        });
        cluster.ask("DELETE", "/solo", &Value::Null);
        assert_eq!(cluster.excluded(), ["none", "none"]);
        cluster.settle();
    }

    /// The manual's example, as it stands.
    fn example(&self) {
        let credentials = Dir::new(&format!("search-{}-credentials", self.make.word()));
        let page = format!("wait-safe-{}", self.make.word());
        let example = crate::support::manual::example(&page);
        let name = example
            .split("${credential:")
            .nth(1)
            .and_then(|it| it.split('}').next())
            .expect("a credential");
        credentials.credential(name, "s3cret-search");
        let binary = Binary::new(&format!("search-{}-example", self.make.word()), &example);
        let verb = |verb: &[&str]| {
            let mut command = binary.command(verb);
            command
                .env("CREDENTIALS_DIRECTORY", &credentials.0)
                .output()
                .expect("it starts")
        };
        assert!(verb(&["check"]).status.success());
        let said = verb(&["run"]);
        assert!(said.status.success(), "{said:?}");
        let node = host::hostname().expect("a name");
        assert_eq!(self.cluster.excluded()[1], node);
        let report = binary.report();
        assert!(!report.to_string().contains("s3cret"), "{report:#}");
        // As after a reboot, with the credential read anew.
        let said = verb(&["start", "--undo-only"]);
        assert!(said.status.success(), "{said:?}");
        assert_eq!(self.cluster.excluded(), ["none", "none"]);
        self.cluster.settle();
    }
}

fn show(make: Make) {
    // In a network of its own, so that the ports of the example are free.
    let test = move || {
        crate::support::network::own();
        let last = host::hostname().expect("a name");
        let names = [last.as_str(), "n2", "n3"];
        let cluster = SearchCluster::start(make, &names, &[9200, 9201, 9202, 9300, 9301, 9302]);
        cluster.index("many", 3, 1);
        let stage = Stage { make, cluster };
        stage.rehearses();
        stage.bears_a_reboot();
        stage.leaves_and_comes_back();
        stage.writes_where_it_counts();
        stage.waits_and_writes_again();
        stage.hangs_and_goes_on();
        stage.refuses_what_never_moves();
        stage.example();
        stage.is_gone();
        stage.two_leave_at_once_and_the_last_one_stays(&last);
    };
    let _one = JVM.lock().unwrap_or_else(|it| it.into_inner());
    std::thread::spawn(test).join().expect("no panic");
}

#[test]
#[ignore = "needs root and Elasticsearch or OpenSearch; tests/run has it"]
fn nodes_of_elasticsearch_leave() {
    show(Make::Elasticsearch);
}

#[test]
#[ignore = "needs root and Elasticsearch or OpenSearch; tests/run has it"]
fn nodes_of_opensearch_leave() {
    show(Make::OpenSearch);
}

#[test]
fn a_node_is_named() {
    let with = |keys: &str| {
        problems(&format!(
            "kind = \"wait-safe\"\ncluster = \"opensearch\"\nurl = \"http://h:9200\"\n{keys}"
        ))
    };
    assert_eq!(with("node = \"n1\""), "");
    assert!(with("").contains("\"node\""), "{}", with(""));
    assert_eq!(with("node = \"n1\"\nhealth = \"yellow\""), "");
    assert!(with("node = \"n1\"\nhealth = \"red\"").contains("unknown health `red`"));
    assert!(with("node = \"n1,n2\"").contains("not the name of one node"));
    assert!(with("node = \"n1\"\nnodes = \"n1\"").contains("unknown key"));
}

const SHUTDOWN: &str = "/_nodes/ID-n3/shutdown";

fn at(search: &StandInSearch, word: &str) -> StepSpec {
    step(&keys(word, &[search.url()], "n3"))
}

fn binary_at(search: &StandInSearch, name: &str, timeout: &str) -> Binary {
    let keys = keys("elasticsearch", &[search.url()], "n3");
    Binary::new(&format!("search-stand-in-{name}"), &config(&keys, timeout))
}

#[test]
fn a_shutdown_is_prepared_and_taken_back() {
    let search = StandInSearch::start(Manner {
        looks: 2,
        ..Manner::default()
    });
    let binary = binary_at(&search, "prepares", "20s");
    let said = binary.verb(&["rehearse"]);
    assert!(said.stdout.contains("node n3 at"), "{}", said.stdout);
    assert_eq!(search.changes(), Vec::<String>::new());
    for state in ["done", "already-done"] {
        assert_eq!(binary.verb(&["run"]).code, 0, "{:#}", binary.report());
        assert_eq!(state_of(&binary).0, state);
    }
    assert_eq!(search.changes(), [format!("PUT {SHUTDOWN}")]);
    let there = search.shutdown().expect("it stands there");
    assert_eq!(there.kind, "remove");
    let undo = binary.verb(&["start", "--undo-only"]);
    assert!(
        undo.code == 0 && undo.stdout.contains("the shutdown (remove) of node n3"),
        "{}",
        undo.stdout
    );
    assert!(search.shutdown().is_none());
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert_eq!(search.changes().len(), 2);

    // What somebody else has put there since stays; what is gone is gone.
    assert_eq!(binary.verb(&["run"]).code, 0);
    let theirs = Shutdown {
        kind: "restart".to_owned(),
        reason: "an upgrade".to_owned(),
        looks: 9,
    };
    search.put(Some(theirs));
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert_eq!(
        search.shutdown().expect("it stands there").reason,
        "an upgrade"
    );
    search.put(None);
    assert_eq!(binary.verb(&["run"]).code, 0);
    search.put(None);
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);

    // An undo that is refused stays pending.
    assert_eq!(binary.verb(&["run"]).code, 0);
    search.behave(Manner {
        status: Some("403 Forbidden"),
        ..Manner::default()
    });
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 1);
    // It is done and not answered.
    search.behave(Manner {
        drops: 2,
        ..Manner::default()
    });
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert!(search.shutdown().is_none());
}

#[test]
fn a_machine_that_comes_back_is_only_restarted() {
    let search = StandInSearch::start(Manner {
        is_lone: true,
        ..Manner::default()
    });
    let mut run = Run::new();
    let failure = run
        .attempt(&at(&search, "elasticsearch"), TIME)
        .expect_err("the last one");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    assert_eq!(search.changes(), Vec::<String>::new());
    run.facts = Facts::new(Trigger::Reboot, "run-1");
    assert_eq!(
        run.attempt(&at(&search, "elasticsearch"), TIME),
        Ok(Outcome::Done)
    );
    assert_eq!(search.shutdown().expect("it stands there").kind, "restart");
    // Nobody knows whether it comes back: as if it did.
    search.put(None);
    run.facts = Facts::new(Diagnosis::UnknownShutdown, "run-1");
    assert_eq!(
        run.attempt(&at(&search, "elasticsearch"), TIME),
        Ok(Outcome::Done)
    );
    assert_eq!(search.shutdown().expect("it stands there").kind, "restart");
    // Of another kind than what stands there.
    search.behave(Manner::default());
    run.facts = Facts::new(Trigger::Poweroff, "run-1");
    assert_eq!(
        run.attempt(&at(&search, "elasticsearch"), TIME),
        Ok(Outcome::Done)
    );
    assert_eq!(search.shutdown().expect("it stands there").kind, "remove");
}

#[test]
fn a_restart_is_prepared_only_when_the_cluster_bears_it() {
    for word in ["elasticsearch", "opensearch"] {
        let search = StandInSearch::start(Manner::default());
        let attempt = |health, has_copy, limit| {
            search.behave(Manner {
                health: Some(health),
                has_copy,
                ..Manner::default()
            });
            let run = coming_back(Trigger::Reboot);
            let ended = run.attempt(&at(&search, word), limit);
            (ended.map_err(|it| it.cause), run.remarks().concat())
        };
        for (health, has_copy, waits_for) in [
            (("red", [0, 0, 40]), true, "red, 40 unassigned"),
            (
                ("yellow", [0, 2, 1]),
                true,
                "yellow, 1 unassigned, 2 initializing",
            ),
            (("green", [1, 0, 0]), true, "green, 1 relocating"),
            (
                ("yellow", [0, 0, 1]),
                false,
                "no started copy on another node has [logs][0]",
            ),
        ] {
            let (ended, _) = attempt(health, has_copy, Duration::from_millis(700));
            let cause = ended.expect_err(waits_for);
            assert!(
                cause.contains("the cluster's health: ") && cause.contains(waits_for),
                "{cause}"
            );
            assert_eq!(search.changes(), Vec::<String>::new());
            assert!(search.shutdown().is_none());
        }
        for (health, has_copy, remark) in [
            (
                ("yellow", [0, 0, 1]),
                true,
                "nothing moves, and each shard of n3 has a copy",
            ),
            (
                ("green", [0, 0, 0]),
                false,
                "without a replica, and so not available until this node is back: [logs][0]",
            ),
            (("green", [0, 0, 0]), true, ""),
        ] {
            let (ended, told) = attempt(health, has_copy, TIME);
            assert!(ended.is_ok(), "{ended:?}");
            assert!(
                told.contains(remark) && told.is_empty() == remark.is_empty(),
                "{told}"
            );
        }
        let prepares = word == "elasticsearch";
        assert_eq!(
            search.changes().is_empty(),
            !prepares,
            "{:?}",
            search.changes()
        );
        assert_eq!(
            search.shutdown().is_some_and(|it| it.kind == "restart"),
            prepares
        );
        search.behave(Manner {
            health: Some(("teal", [0; 3])),
            ..Manner::default()
        });
        let run = coming_back(Trigger::Reboot);
        let failure = run.attempt(&at(&search, word), Duration::from_millis(700));
        assert!(failure.expect_err("no health").cause.contains("teal"));
    }
}

#[test]
fn a_shutdown_that_stalls_is_waited_for_with_its_reason() {
    let search = StandInSearch::start(Manner {
        stalls: true,
        ..Manner::default()
    });
    let (step, run) = (at(&search, "elasticsearch"), Run::new());
    let failure = run
        .attempt(&step, Duration::from_secs(5))
        .expect_err("it stalls");
    assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
    let reason = "stalled, 1 left: shard [0] [primary] of index [logs] cannot move";
    assert!(failure.cause.contains(reason), "{failure}");
    assert!(
        run.waiting().iter().any(|it| it.contains(reason)),
        "{:?}",
        run.waiting()
    );
    assert!(search.heard() <= 60, "{}", search.heard());
    // Somebody takes it away meanwhile: it is put there again.
    std::thread::scope(|threads| {
        let waits = threads.spawn(|| run.attempt(&step, TIME));
        search.put(None);
        until("it is put again", || search.shutdown().is_some());
        search.behave(Manner::default());
        assert_eq!(waits.join().expect("no panic"), Ok(Outcome::Done));
    });
    let intents = run.recorder.intents();
    assert!(intents.len() >= 2 && run.recorder.withdrawn().is_empty());
}

#[test]
fn a_server_without_the_interface_gets_an_exclusion() {
    for refusal in [
        (
            "405 Method Not Allowed",
            "{\"error\":\"Incorrect HTTP method for uri [/_nodes/ID-n3/shutdown] and method [PUT], allowed: [GET]\",\"status\":405}",
        ),
        (
            "400 Bad Request",
            "{\"error\":\"no handler found for uri [/_nodes/ID-n3/shutdown] and method [PUT]\"}",
        ),
    ] {
        let search = StandInSearch::start(Manner {
            refusal: Some(refusal),
            ..Manner::default()
        });
        let run = Run::new();
        // Its shard never leaves.
        let failure = run
            .attempt(&at(&search, "elasticsearch"), Duration::from_secs(4))
            .expect_err("it stays");
        assert!(
            failure.cause.contains("1 shard to move from n3"),
            "{failure}"
        );
        let intents: Vec<String> = run
            .recorder
            .intents()
            .iter()
            .map(|it| it.subject.clone())
            .collect();
        assert_eq!(
            intents,
            [
                "the shutdown (remove) of node n3",
                "the exclusion of node n3 from allocation"
            ]
        );
        let withdrawn = run.recorder.withdrawn();
        assert_eq!(
            withdrawn.iter().map(|it| it.number).collect::<Vec<_>>(),
            [0]
        );
    }
    // It is acknowledged, and nothing happens.
    let search = StandInSearch::start(Manner {
        forgets: true,
        ..Manner::default()
    });
    let failure = Run::new()
        .attempt(&at(&search, "opensearch"), Duration::from_secs(1))
        .expect_err("forgotten");
    assert!(failure.retryable, "{failure}");
    assert!(search.changes().len() <= 6, "{:?}", search.changes());
}

#[test]
fn a_server_that_dies_before_its_answer_is_asked_again_and_undone() {
    let search = StandInSearch::start(Manner {
        drops: 2,
        ..Manner::default()
    });
    let binary = binary_at(&search, "drops", "20s");
    assert_eq!(binary.verb(&["run"]).code, 0, "{:#}", binary.report());
    // Sent twice on the wire, and not once more when it stood there.
    assert_eq!(search.changes().len(), 2);
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert!(search.shutdown().is_none());
    // It never answers, and is undone when it does.
    search.behave(Manner {
        stalls: true,
        ..Manner::default()
    });
    let binary = binary_at(&search, "dies", "1500ms");
    assert_eq!(binary.verb(&["run"]).code, 1);
    assert_eq!(state_of(&binary), ("timed-out".into(), "timed-out".into()));
    assert!(search.shutdown().is_some());
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert!(search.shutdown().is_none());
}

#[test]
fn who_may_not_is_refused_and_leaves_nothing() {
    for word in ["elasticsearch", "opensearch"] {
        for status in ["401 Unauthorized", "403 Forbidden"] {
            let search = StandInSearch::start(Manner {
                status: Some(status),
                ..Manner::default()
            });
            let run = Run::new();
            let failure = run.attempt(&at(&search, word), TIME).expect_err("refused");
            assert_eq!(
                (failure.kind, failure.retryable),
                (ErrorKind::Refused, false),
                "{failure}"
            );
            assert!(run.recorder.intents().is_empty());
        }
        for nonsense in [
            "",
            "{",
            "[]",
            "{}",
            "{\"nodes\":[]}",
            "{\"nodes\":{\"a\":{}}}",
        ] {
            let search = StandInSearch::start(Manner {
                nonsense: Some(nonsense),
                ..Manner::default()
            });
            let failure = Run::new()
                .attempt(&at(&search, word), TIME)
                .expect_err(nonsense);
            assert_eq!(
                (failure.kind, failure.retryable),
                (ErrorKind::Protocol, true),
                "{failure}"
            );
        }
    }
    // It may look, and change nothing.
    let refusal = (
        "403 Forbidden",
        "{\"error\":{\"type\":\"security_exception\",\"reason\":\"action [cluster:admin/shutdown/create] is unauthorized\"},\"status\":403}",
    );
    let search = StandInSearch::start(Manner {
        refusal: Some(refusal),
        ..Manner::default()
    });
    let run = Run::new();
    let failure = run
        .attempt(&at(&search, "elasticsearch"), TIME)
        .expect_err("refused");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    assert_eq!(run.recorder.withdrawn().len(), 1, "nothing is to be undone");
    // A server that is silent, and one that is not there.
    let silent = Server::start(Misbehaves::Silent);
    for (url, word) in [
        (silent.url(), ErrorKind::TimedOut),
        (dead_url(), ErrorKind::Unreachable),
    ] {
        let step = step(&keys("opensearch", &[url], "n3"));
        let failure = Run::new()
            .attempt(&step, Duration::from_millis(500))
            .expect_err("no answer");
        assert_eq!((failure.kind, failure.retryable), (word, true), "{failure}");
    }
}
