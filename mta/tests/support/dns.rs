//! A real DNS server (hickory-server) on a loopback port, UDP and TCP: one zone `test.` in memory,
//! names that fail on purpose, and a count of the questions for each name.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, SOA};
use hickory_proto::rr::{Name, RData, Record};
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponseBuilder, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

/// How a name fails.
#[derive(Clone, Copy)]
pub enum Fails {
    /// With this response code.
    With(ResponseCode),
    /// No answer at all.
    Silently,
}

/// The records of the zone `test.`, to be served.
pub struct Zone {
    records: Vec<Record>,
    failing: BTreeMap<String, Fails>,
    ttl: u32,
}

/// A running server. It stops when it is dropped.
pub struct DnsServer {
    pub address: SocketAddr,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    _server: Server<Handler>,
}

struct Handler {
    catalog: Catalog,
    failing: BTreeMap<String, Fails>,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a name of the test");
    name.set_fqdn(true);
    name
}

impl Zone {
    pub fn new() -> Self {
        let soa = SOA::new(name("ns.test"), name("root.test"), 1, 3600, 600, 86_400, 60);
        Self {
            records: vec![Record::from_rdata(name("test"), 60, RData::SOA(soa))],
            failing: BTreeMap::new(),
            ttl: 300,
        }
    }

    /// The time to live, in seconds, of the records that follow.
    pub fn ttl(mut self, ttl: u32) -> Self {
        self.ttl = ttl;
        self
    }

    pub fn mx(self, domain: &str, preference: u16, host: &str) -> Self {
        self.with(domain, RData::MX(MX::new(preference, name(host))))
    }

    pub fn alias(self, from: &str, to: &str) -> Self {
        self.with(from, RData::CNAME(CNAME(name(to))))
    }

    pub fn host(self, host: &str, addresses: &[&str]) -> Self {
        addresses.iter().fold(self, |zone, address| match address.parse().expect("an address of the test") {
            IpAddr::V4(v4) => zone.with(host, RData::A(A(v4))),
            IpAddr::V6(v6) => zone.with(host, RData::AAAA(AAAA(v6))),
        })
    }

    pub fn failing(mut self, domain: &str, how: Fails) -> Self {
        self.failing.insert(format!("{domain}."), how);
        self
    }

    fn with(mut self, owner: &str, data: RData) -> Self {
        self.records.push(Record::from_rdata(name(owner), self.ttl, data));
        self
    }

    /// Serves the zone on a free port.
    pub async fn serve(self) -> DnsServer {
        let mut zone =
            InMemoryZoneHandler::<TokioRuntimeProvider>::empty(name("test"), ZoneType::Primary, AxfrPolicy::Deny);
        for record in self.records {
            assert!(zone.upsert_mut(record.clone(), 1), "{record} was not taken");
        }
        let mut catalog = Catalog::new();
        catalog.upsert(name("test").into(), vec![Arc::new(zone)]);
        let asked = Arc::new(Mutex::new(BTreeMap::new()));
        let mut server = Server::new(Handler { catalog, failing: self.failing, asked: asked.clone() });
        let (address, udp, tcp) = free_port().await;
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 1 << 16);
        DnsServer { address, asked, _server: server }
    }
}

/// One port that is free for both protocols.
async fn free_port() -> (SocketAddr, UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a UDP port");
        let address = udp.local_addr().expect("its address");
        if let Ok(tcp) = TcpListener::bind(address).await {
            return (address, udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

impl DnsServer {
    /// How often anything was asked about `domain`.
    pub fn asked(&self, domain: &str) -> usize {
        self.asked.lock().expect("no panic while counting").get(&format!("{domain}.")).copied().unwrap_or_default()
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut respond: R) -> ResponseInfo {
        let asked = request.request_info().map(|info| info.query.name().to_string()).unwrap_or_default();
        *self.asked.lock().expect("no panic while counting").entry(asked.clone()).or_default() += 1;
        match self.failing.get(&asked) {
            None => self.catalog.handle_request::<R, T>(request, respond).await,
            Some(Fails::With(code)) => {
                let answer = MessageResponseBuilder::from_message_request(request).error_msg(&request.metadata, *code);
                respond.send_response(answer).await.expect("an answer can be sent")
            }
            Some(Fails::Silently) => {
                let metadata = Metadata::response_from_request(&request.metadata);
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}
