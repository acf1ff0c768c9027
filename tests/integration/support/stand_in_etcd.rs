//! A stand-in for a cluster of three etcd servers, of which the first leads. Its answers are those of etcd's
//! `api/etcdserverpb/rpc.proto` and of etcd 3.4's gateway; it misbehaves as a healthy cluster does not.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::servers::{answer, read_request};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The lead goes to another member just before the transfer is asked for.
    LeaderChanges,
    /// A transfer is answered with success, and the lead moves only with the nth.
    AnswersEarly { after: u32 },
    /// A transfer is not allowed.
    Forbids,
    /// A transfer is made, and the first member never answers again.
    DiesAfterTransfer,
    /// The second member has told the first one's address.
    SameAddress,
    /// The first address is answered by another member each time.
    Wanders,
    /// The first member is not in the list.
    Removed,
    /// The first member has no vote.
    Learner,
    /// Everything is answered with this.
    Says(&'static str),
}

struct State {
    leader: u64,
    transfers: u32,
    asked: u64,
    is_dead: bool,
}

pub struct StandInEtcd {
    addresses: Arc<Vec<SocketAddr>>,
    state: Arc<Mutex<State>>,
}

impl StandInEtcd {
    pub fn start(manner: Manner) -> StandInEtcd {
        let listeners: Vec<_> = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
            .collect();
        let addresses: Vec<_> = listeners
            .iter()
            .map(|it| it.local_addr().expect("an address"))
            .collect();
        let etcd = StandInEtcd {
            addresses: Arc::new(addresses),
            state: Arc::new(Mutex::new(State {
                leader: 1,
                transfers: 0,
                asked: 0,
                is_dead: false,
            })),
        };
        // They end with the test's process.
        for (at, listener) in listeners.into_iter().enumerate() {
            let (addresses, state) = (etcd.addresses.clone(), etcd.state.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (addresses, state) = (addresses.clone(), state.clone());
                    std::thread::spawn(move || {
                        serve(stream, at as u64 + 1, manner, &addresses, &state)
                    });
                }
            });
        }
        etcd
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addresses[0])
    }

    pub fn transfers(&self) -> u32 {
        self.state.lock().expect("no panic").transfers
    }
}

fn serve(
    mut stream: TcpStream,
    own: u64,
    manner: Manner,
    addresses: &[SocketAddr],
    state: &Mutex<State>,
) {
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    while let Some(request) = read_request(&mut reader) {
        let path = request.split(' ').nth(1).expect("a path").to_owned();
        let mut state = state.lock().expect("no panic");
        if own == 1 && state.is_dead {
            return;
        }
        if let Manner::Says(text) = manner {
            let _ = stream.write_all(answer("200 OK", "", text).as_bytes());
            continue;
        }
        let (status, body) = match path.as_str() {
            "/v3/maintenance/status" => {
                state.asked += u64::from(own == 1);
                let id = if manner == Manner::Wanders && own == 1 {
                    state.asked
                } else {
                    own
                };
                ("200 OK", status(id, state.leader))
            }
            "/v3/cluster/member/list" => ("200 OK", members(own, manner, addresses)),
            _ => {
                state.transfers += 1;
                match manner {
                    Manner::LeaderChanges => {
                        state.leader = 3;
                        (
                            "400 Bad Request",
                            json!({"error": "etcdserver: not leader", "code": 9}),
                        )
                    }
                    Manner::Forbids => (
                        "403 Forbidden",
                        json!({"error": "etcdserver: permission denied", "code": 7}),
                    ),
                    Manner::AnswersEarly { after } if state.transfers < after => {
                        ("200 OK", json!({"header": {}}))
                    }
                    _ => {
                        state.leader = 2;
                        state.is_dead = manner == Manner::DiesAfterTransfer;
                        if state.is_dead {
                            return;
                        }
                        ("200 OK", json!({"header": {}}))
                    }
                }
            }
        };
        drop(state);
        if stream
            .write_all(answer(status, "", &body.to_string()).as_bytes())
            .is_err()
        {
            return;
        }
    }
}

fn status(id: u64, leader: u64) -> Value {
    json!({
        "header": {"cluster_id": "9", "member_id": id.to_string(), "revision": "1", "raft_term": "2"},
        "version": "3.4.23", "leader": leader.to_string(), "raftIndex": "8", "raftTerm": "2", "raftAppliedIndex": "8",
    })
}

fn members(own: u64, manner: Manner, addresses: &[SocketAddr]) -> Value {
    let member = |at: usize| {
        let address = match (manner, at) {
            (Manner::SameAddress, 1) => addresses[0],
            _ => addresses[at],
        };
        let mut member = json!({
            "ID": (at + 1).to_string(), "name": format!("n{}", at + 1), "clientURLs": [format!("http://{address}")],
        });
        if manner == Manner::Learner && at == 0 {
            member["isLearner"] = true.into();
        }
        member
    };
    let listed = (0..3).filter(|at| manner != Manner::Removed || *at != 0);
    json!({"header": {"member_id": own.to_string()}, "members": listed.map(member).collect::<Vec<_>>()})
}
