//! Attempts at what one may not, over a socket. `docs/SECURITY.md` lists them.

mod claims;
mod elsewhere;
mod keys;
mod limits;
mod origin;
mod slow;
mod tenants;
mod tls;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use understudy_access::{Key, Keyring, Limits, NewKey, Role, Scope, Scopes};
use understudy_ident::{SystemClock, TenantName};

use super::{Door, Reply, Server, Settings, read, start_as};

/// A server that has keys.
pub(super) struct Guarded {
    server: Server,
    keys: Arc<Keyring>,
    desk: tempfile::TempDir,
}

impl std::ops::Deref for Guarded {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

const HERE: &str = "127.0.0.1:0";

/// On a loopback address; without keys yet.
pub(super) fn guarded() -> Guarded {
    guarded_on(HERE.parse().unwrap(), Settings::default())
}

fn guarded_on(listen: SocketAddr, settings: Settings) -> Guarded {
    let desk = tempfile::tempdir().unwrap();
    let keys = Arc::new(open(&desk));
    let door = Door::keyed(Arc::clone(&keys), listen);
    Guarded { server: start_as(Settings { door, ..settings }), keys, desk }
}

/// The same keys, as another process has them.
fn open(desk: &tempfile::TempDir) -> Keyring {
    let path = |name: &str| desk.path().join(name);
    let clock = Arc::new(SystemClock);
    Keyring::open(&path("access.db"), &path("access.pepper"), None, clock).unwrap()
}

fn new_key(scopes: Scopes) -> NewKey {
    let (owner, note) = ("ada".to_owned(), String::new());
    NewKey {
        owner,
        note,
        tenant: None,
        user: None,
        scopes,
        limits: Limits::default(),
        expires_at: None,
    }
}

impl Guarded {
    pub(super) fn key(&self, scopes: &[Scope]) -> Key {
        self.keys.create(new_key(scopes.iter().cloned().collect())).unwrap().0
    }

    pub(super) fn key_for(&self, owner: &str, scopes: Scopes) -> Key {
        self.keys.create(NewKey { owner: owner.to_owned(), ..new_key(scopes) }).unwrap().0
    }

    pub(super) fn key_of(&self, tenant: &str) -> Key {
        let tenant: Option<TenantName> = Some(tenant.parse().unwrap());
        let scopes =
            [Scope::Infer, Scope::Feedback, Scope::Telemetry, Scope::Read, Scope::AdapterWrite];
        self.keys.create(NewKey { tenant, ..new_key(scopes.into_iter().collect()) }).unwrap().0
    }

    fn limited(&self, limits: Limits) -> Key {
        let scopes = Role::Application.scopes(false);
        self.keys.create(NewKey { limits, ..new_key(scopes) }).unwrap().0
    }

    fn post_as(&self, key: &Key, path: &str, body: &Value) -> Reply {
        self.post_with(path, body, &[("authorization", &format!("Bearer {}", key.expose()))])
    }

    fn get_as(&self, key: &Key, path: &str) -> Reply {
        self.get_with(path, &[("authorization", &format!("Bearer {}", key.expose()))])
    }

    fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.agent.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.call().unwrap())
    }

    fn delete_as(&self, key: &Key, path: &str) -> Reply {
        let request = self.agent.delete(self.url(path));
        read(request.header("authorization", format!("Bearer {}", key.expose())).call().unwrap())
    }
}

/// What a server says to these bytes before it closes, within a while.
fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(bytes.as_bytes()).unwrap();
    let mut said = Vec::new();
    socket.read_to_end(&mut said).ok();
    String::from_utf8_lossy(&said).into_owned()
}

fn status(said: &str) -> &str {
    said.split(' ').nth(1).unwrap_or("none")
}
