//! SMTP listeners: their settings, their doors, and how a message that was offered is taken. Floor 6.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use egret_shared::clock::UnixMs;
use egret_shared::lifecycle::Stop;
use egret_shared::net::accept::{self, Door, Heart, NoRoom, Permit, Room};
use egret_shared::net::tls;
use egret_shared::text::Line;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::StartError;
use super::memory::Memory;
use crate::config::{Config, ListenerConfig};
use crate::event::record::Peer;
use crate::intake::{Draft, Intake, NotTaken};
use crate::reception::{
    Acceptor, Asked, Credentials, Offered, Refusal, Settings, Taken, Verdict, count_received, received_header, serve,
};
use crate::routing::label::{BadLabel, Labels};
use crate::routing::rule::{Assigned, Facts, Rules};
use crate::routing::ways::Ways;
use crate::spool::StoreError;
use crate::users::{Login, Logins};

/// The TLS set-up of each listener, in their order.
pub(super) fn load_tls(config: &Config) -> Result<Vec<Option<Arc<ServerConfig>>>, StartError> {
    let load = |listener: &ListenerConfig| match &listener.tls {
        None => Ok(None),
        Some(files) => tls::server_config(&files.certificate, &files.private_key)
            .map(Some)
            .map_err(|error| StartError::Tls(format!("listener {}: {error}", listener.address))),
    };
    config.listeners.iter().map(load).collect()
}

/// What stands behind every listener.
pub(super) struct Behind {
    pub intake: Intake,
    pub memory: Memory,
    pub ways: Arc<ArcSwap<Ways>>,
    pub logins: Logins,
}

/// Starts an accept loop for each listener.
pub(super) fn start(
    config: &Config,
    sockets: Vec<(TcpListener, Heart, Option<Arc<ServerConfig>>)>,
    behind: &Behind,
    sessions: &TaskTracker,
    stop: &Stop,
) -> Vec<JoinHandle<()>> {
    let hostname = Line::sanitized(config.hostname.as_bytes());
    let Behind { intake, memory, ways, logins } = behind;
    let start = |(listener, (socket, heart, tls)): (&ListenerConfig, (TcpListener, Heart, _))| {
        let (intake, memory, max_hops) = (intake.clone(), memory.clone(), listener.max_hops);
        let (hostname, ways, logins) = (hostname.clone(), ways.clone(), logins.clone());
        let taking = Taking { intake, memory, logins, hostname, ways, listener: listener.address, max_hops };
        let door = SmtpDoor {
            settings: Arc::new(settings(&taking, listener, tls)),
            taking: Arc::new(taking),
            sessions: sessions.clone(),
            stop: stop.drain.clone(),
        };
        tokio::spawn(accept::run(socket, Room::new(listener.max_sessions), heart, stop.drain.clone(), door))
    };
    config.listeners.iter().zip(sockets).map(start).collect()
}

/// Lets clients in.
struct SmtpDoor {
    settings: Arc<Settings>,
    taking: Arc<Taking>,
    sessions: TaskTracker,
    stop: CancellationToken,
}

impl Door for SmtpDoor {
    fn session(&self, stream: TcpStream, peer: SocketAddr, permit: Permit) {
        if self.taking.memory.is_closed() {
            debug!(%peer, "no memory for a client");
            self.settings.meters.refused(421);
            // As below.
            let _ = stream.try_write(b"421 4.3.2 too little memory, try again later\r\n");
            return;
        }
        let (settings, taking, stop) = (self.settings.clone(), self.taking.clone(), self.stop.clone());
        self.sessions.spawn(async move {
            serve(stream, peer, settings, taking, stop).await;
            drop(permit);
        });
    }

    fn refuse(&self, stream: TcpStream, peer: SocketAddr, why: NoRoom) {
        warn!(%peer, ?why, "no room for a client");
        // It fits any socket buffer; a client that is gone is no one to tell.
        let _ = stream.try_write(b"421 4.3.2 too many sessions, try again later\r\n");
    }

    fn failed(&self, error: &io::Error) {
        warn!(%error, "accept failed");
    }
}

/// How an offered message is taken.
struct Taking {
    intake: Intake,
    memory: Memory,
    /// Who may log in; a reload replaces it.
    logins: Logins,
    hostname: Line,
    /// What decides about the way of mail; a reload replaces it.
    ways: Arc<ArcSwap<Ways>>,
    /// The listener's own address.
    listener: SocketAddr,
    /// Received headers beyond which a message goes round (RFC 5321 section 6.3).
    max_hops: usize,
}

impl Taking {
    /// What the rules say: of each recipient, and of the message's headers.
    fn assign(
        &self,
        rules: &Rules,
        offered: &Offered,
        labels: Labels,
        body: Bytes,
    ) -> (Vec<Assigned>, Bytes, Vec<Line>) {
        if rules.is_empty() {
            return (vec![Assigned { labels, ..Assigned::default() }], body, Vec::new());
        }
        let facts = Facts {
            message: &body,
            sender: offered.sender.as_ref(),
            listener: Some(self.listener),
            client: Some(offered.client.ip()),
            user: offered.user.as_ref().map(Line::as_str),
        };
        let assign = |recipient| rules.assign(&facts, recipient, &labels);
        let assigned: Vec<_> = offered.recipients.iter().map(assign).collect();
        let (body, added) = rules.edit(body, &assigned);
        (assigned, body, added)
    }
}

impl Acceptor for Taking {
    async fn accept(&self, mut offered: Offered) -> Result<Taken, Refusal> {
        if count_received(&offered.body) > self.max_hops {
            let text = format!("the message has passed more than {} hosts: mail loop", self.max_hops);
            return Err(Refusal::new(554, (5, 4, 6), &text));
        }
        let ways = self.ways.load_full();
        let (labels, body) = ways.labels.take(std::mem::take(&mut offered.body)).map_err(|bad| not_labelled(&bad))?;
        let (assigned, body, headers) = self.assign(&ways.rules, &offered, labels, body);
        let draft = Draft {
            sender: offered.sender.clone(),
            recipients: offered.recipients.clone(),
            wish: offered.wish.clone(),
            wishes: offered.wishes.clone(),
            eight_bit: offered.eight_bit,
            smtputf8: offered.smtputf8,
            not_before: offered.not_before,
            body,
            assigned,
            user: offered.user.clone(),
            client: Some(Peer { name: offered.helo.to_string(), address: Some(offered.client) }),
        };
        let added = |id, received| {
            let only = if let [only] = offered.recipients.as_slice() { Some(only) } else { None };
            let mut added = received_header(&offered, &self.hostname, id, received, only).to_vec();
            for header in &headers {
                added.extend_from_slice(header.as_str().as_bytes());
                added.extend_from_slice(b"\r\n");
            }
            added.into()
        };
        match self.intake.take(draft, added).await {
            Ok(durable) => Ok(Taken::new(durable.id())),
            Err(why) => Err(told(&why)),
        }
    }

    async fn authenticate(&self, client: SocketAddr, credentials: Credentials) -> Verdict {
        let Credentials { user, password } = credentials;
        match self.logins.log_in(client.ip(), user.as_str(), &password).await {
            Login::Right => Verdict::Right,
            Login::Wrong => Verdict::Wrong,
            Login::Closed(left) => {
                let text = format!("too many wrong passwords came from you, try again in {} s", left.as_secs() + 1);
                Verdict::Unasked(Refusal::new(421, (4, 7, 0), &text))
            }
        }
    }

    fn now(&self) -> UnixMs {
        self.intake.now()
    }

    fn gate(&self, asked: Asked) -> Option<Refusal> {
        let full = match asked {
            Asked::Mail => self.intake.gate().err().map(|why| told(&why)),
            Asked::Text => None,
        };
        full.or_else(|| self.memory.refusal(asked))
    }
}

/// Why a message is not taken, in the words of the reply.
fn told(why: &NotTaken) -> Refusal {
    match why {
        NotTaken::Spool(StoreError::Full { .. }) => {
            Refusal::new(452, (4, 3, 1), "the disk of the queue is full, try again later")
        }
        NotTaken::Spool(StoreError::Busy) | NotTaken::Events => {
            Refusal::new(451, (4, 3, 2), "too busy, try again later")
        }
        NotTaken::Spool(_) => Refusal::new(451, (4, 3, 0), "the message could not be stored, try again later"),
    }
}

fn not_labelled(bad: &BadLabel) -> Refusal {
    Refusal::new(550, (5, 6, 0), &bad.to_string())
}

fn settings(taking: &Taking, listener: &ListenerConfig, tls: Option<Arc<ServerConfig>>) -> Settings {
    Settings {
        relay_networks: listener.relay_networks.clone(),
        max_message_bytes: listener.max_message_bytes,
        max_recipients: listener.max_recipients.into(),
        max_future_release: listener.max_future_release,
        dsn: listener.dsn,
        command_timeout: listener.command_timeout,
        data_timeout: listener.data_timeout,
        tls,
        auth: listener.auth.clone(),
        budget: taking.memory.budget.clone(),
        ..Settings::new(taking.hostname.clone())
    }
}
